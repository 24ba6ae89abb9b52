"""Labelled images + Config -> a finished Run; and resuming a run."""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.api.datasets import catalog_of, source_of
from tellapart.api.devices import ALONE, Team
from tellapart.api.options import known_options, make_config
from tellapart.api.runs import Run, let_run
from tellapart.config import AUTO, Config
from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
from tellapart.data.catalog import Catalog
from tellapart.data.scan import changed_images, scan
from tellapart.data.sources.hugging_face import is_dataset
from tellapart.data.sources.source import Source, source_of_catalog
from tellapart.errors import ConfigError, RunError, some
from tellapart.models.keras_needs import require_what_trains
from tellapart.models.pretrained_weights import require_weights
from tellapart.models.registry import resolve
from tellapart.progress import BY_HAND, Progress
from tellapart.runs.lock import one_writer
from tellapart.runs.new_folder import new_place, require_free
from tellapart.runs.relocate import relocate
from tellapart.runs.required_plugins import require_plugins
from tellapart.runs.run import TIME_FILE, RunFolder, create_run
from tellapart.runs.run import open_run as open_folder
from tellapart.task import require_one_label

if TYPE_CHECKING:
    from tellapart.training.sharded import FeatureSource

SHOWN_CLASSES = 10
"""Number of findings shown before training begins."""


def train(
    data: Any,
    *,
    config: Config | None = None,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    command: str = "",
    cache_limit: int = DEFAULT_LIMIT,
    budget: float | None = None,
    time: float | None = None,
    earlier: str | os.PathLike[str] | None = None,
    devices: Team = ALONE,
    progress: Progress = BY_HAND,
    cluster: str | None = None,
    feature_store: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Run:
    """Train a classifier and create a finished run: network, verified ONNX file, figures, report.

    data: as in `read`, or a Catalog. config: a Config; options: those of `make_config` instead, such as model, epochs,
    image_size, augment and seed. out: the run's folder (default: runs/IMAGES-MODEL-N). cache_limit: bytes of decoded
    images cached on disk. budget: seconds from now, after which training ends as by Ctrl-C: its best epoch is kept, and
    `resume` continues. time: seconds from now, spent on better classifiers than the default, from cheap to expensive;
    the one that the validation images prefer becomes the run. earlier: a run to whose images these are added: its test
    images stay the test images, and its settings are taken without `config` and options. devices: those of
    `all_devices`, which train one network. progress: how progress is shown: by default a bar on a terminal and in a
    notebook, and nothing if output is piped; `tellapart.Lines()` writes plain lines, for a log; `tellapart.SILENT`
    nothing; or your own `tellapart.Progress`. cluster: the address of a Ray cluster (`auto`, HOST:PORT,
    ray://HOST:PORT), which computes the features of a frozen backbone, and keeps them in feature_store, a folder or
    address that its machines share, as they share the images. Raises SourceError, ConfigError, and RunError if `out` is
    not empty.

    >>> run = ta.train("photos/", seed=1)
    >>> run.path.name, run.metrics["test"]["accuracy"]["value"] > 0.9
    ('photos-efficientnet-lite0-1', True)
    """
    from tellapart.report.write import write_report
    from tellapart.training.effects import without_effect
    from tellapart.training.plan import decide
    from tellapart.training.tracker_backends import require_trackers, tracked

    deadline, started, called = _deadline(budget), _since(0), name_of(data)
    if earlier is not None:
        data, config = _added_to(open_folder(earlier), data, config, options, progress)
    config = config or make_config(**known_options(options))
    require_trackers(config)
    if config.model.name != AUTO:
        require_what_trains(config)  # errors are reported before any image is read
    require_weights(config.model.weights)
    if out:
        require_free(Path(out))
    source = _source(data, config, progress)
    _require_possible(source, time, cluster)
    plan = decide(config, source)
    require_what_trains(plan.config)
    devices.require(plan.config, time)
    ignored = without_effect(config, plan.config, None if isinstance(data, Catalog) else source)
    plan, config = replace(plan, reasons=(*plan.reasons, *ignored)), plan.config
    for text in ignored:
        progress.line(text)
    with (
        _features_on(cluster, feature_store, config) as features,
        PixelCache(plan.spec, limit_bytes=cache_limit) as cache,
    ):
        catalog = _catalog(data, source, config, cache, progress)
        name = name or options.get("recipe") or f"{called}-{config.model.name.rpartition(':')[2]}"
        with new_place(out, name) as place:
            if time is not None:
                from tellapart.api.timed import train_timed

                record = {"budget_seconds": time, "spent_seconds": _since(started), "data": called, "command": command}
                return train_timed(place, plan, catalog, cache, progress, **record)
            run = create_run(place, plan, catalog, command=command, source=called)
        with one_writer(run), tracked(run, progress) as watch:
            devices.fit(run, cache, deadline=deadline, progress=progress, watch=watch, source=features)
            write_report(run, progress=progress)
    return Run(run.path)


@contextmanager
def _features_on(
    cluster: str | None, store: str | os.PathLike[str] | None, config: Config
) -> Iterator[FeatureSource | None]:
    """What computes the features; None: this machine."""
    if cluster is None:
        if store is not None:
            raise ConfigError("--feature-store is where the machines of a --cluster keep features. Give both.")
        yield None
        return
    if store is None:
        raise ConfigError(
            "The machines of a cluster keep the features in a folder or storage that all of them share: give "
            "--feature-store, such as s3://bucket/features/."
        )
    if resolve(config.model)[0].pretrained is None:
        raise ConfigError(
            f"--cluster computes the features of a frozen backbone, and {config.model.name} is trained from scratch. "
            "Leave out --feature-store, and each machine trains it; or name a backbone with --model."
        )
    from tellapart.cluster.features import features_on

    with features_on(cluster, os.fspath(store)) as made:
        yield made


def _catalog(data: Any, source: Source, config: Config, cache: PixelCache, progress: Progress) -> Catalog:
    """The images, which can be trained on; those of a Catalog are decoded alone."""
    from tellapart.training.fit import require_trainable

    if isinstance(data, Catalog):
        scan(source, config.data, cache=cache, progress=progress)
        catalog = data
    else:
        catalog = catalog_of(source, config, cache, progress)
    require_trainable(catalog)
    progress.line(_what_is_learnt(catalog))
    return catalog


def _added_to(
    run: RunFolder, data: Any, config: Config | None, options: dict[str, Any], progress: Progress
) -> tuple[Catalog, Config]:
    """The catalog of the run's images and these, and the run's settings unless others are given."""
    from tellapart.api.additions import joined, settings_of

    config = config or make_config(**{"config": settings_of(run), **known_options(options)})
    found = joined(run, data, config, progress)
    for text in found.told:
        progress.line(text)
    return found.catalog, config


def _require_possible(source: Source, time: float | None, cluster: str | None) -> None:
    if time is not None and cluster is not None:
        raise ConfigError("A time budget tries several networks on this machine. Give --time or --cluster, not both.")
    instead = "Leave it out, or try other networks with --model and --fine-tune."
    for given, option in ((time, "--time"), (cluster, "--cluster")):
        require_one_label(source.several and given is not None, option, instead)


def _source(data: Any, config: Config, progress: Progress) -> Source:
    if not isinstance(data, Catalog):
        return source_of(data, config, progress)
    if config.data.corrections is not None:
        raise ConfigError("Corrections are applied when a Catalog is read. Give them to read() instead.")
    if config.data.group_by is not None and not any(image.group for image in data.images):
        raise ConfigError("Groups are formed when a Catalog is read. Give group_by to read() instead.")
    return source_of_catalog(data)


def name_of(data: Any) -> str:
    """The default name of a run of these images: their folder, archive or table, in characters that any shell accepts.

    >>> name_of("my photos/2024 Blätter.tar.gz"), name_of("builtin:pets"), name_of(".")[:0]
    ('2024-Blätter', 'pets', '')
    """
    if isinstance(data, Catalog):
        data = data.root
    if not isinstance(data, str | os.PathLike):
        return "data-set" if is_dataset(data) else "table"
    place = os.fspath(data).removeprefix("builtin:")
    path = Path(place.rpartition("://")[2].rstrip("/")).expanduser().absolute()
    stem = path.name if path.is_dir() else path.name.partition(".")[0] or path.name
    return re.sub(r"[^\w-]+", "-", stem).strip("-")[:40] or "images"


def _what_is_learnt(catalog: Catalog) -> str:
    """Show the classes, and findings that need a person, before training."""
    classes = catalog.task.classes
    kinds = dict.fromkeys(finding.kind for finding in catalog.findings if finding.needs_person)
    look = f"; look at: {', '.join(kinds)}" if kinds else ""
    return f"{len(catalog):,} images of {len(classes)} classes: {some(classes, SHOWN_CLASSES)}{look}"


def _since(moment: float) -> float:
    return time.monotonic() - moment


def _deadline(budget: float | None) -> float | None:
    return None if budget is None else time.monotonic() + budget


def resume(
    run: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    cache_limit: int = DEFAULT_LIMIT,
    budget: float | None = None,
    time: float | None = None,
    model: Any = None,
    trust_code: bool = False,
    devices: Team = ALONE,
    progress: Progress = BY_HAND,
    cluster: str | None = None,
    feature_store: str | os.PathLike[str] | None = None,
) -> Run:
    """Resume an interrupted run exactly; cache_limit, budget, devices, cluster and feature_store as in `train`.

    time: for a run that was started with it, the seconds in total. data: the new location of its images, if they were
    moved. model, trust_code: for a run with a custom network, the network itself, or whether the code that the run
    names may be run. Raises RunError if the images changed, UntrustedCodeError.

    >>> ta.resume("runs/pets")
    Traceback (most recent call last):
    tellapart.errors.RunError: runs/pets is done: there is nothing to resume. Train again with another --out.
    """
    from tellapart.report.write import write_report
    from tellapart.training.tracker_backends import require_trackers, tracked

    if (Path(run) / TIME_FILE).exists():
        from tellapart.api.timed import resume_timed

        if data is not None or devices != ALONE or cluster is not None:
            raise ConfigError(
                "A run with a time budget is trained where it began, on one device, before it is done. Leave out "
                "--data, --devices and --cluster."
            )
        through = resume_timed(
            run, seconds=time, cache_limit=cache_limit, model=model, trust_code=trust_code, progress=progress
        )
        if through is not None:
            return through
    elif time is not None:
        raise ConfigError(f"{run} was not begun with a time budget. Train again with it.")
    deadline = _deadline(budget)
    folder = open_folder(run)
    let_run(folder, model=model, trust_code=trust_code)
    for other in require_plugins(folder):
        progress.line(other)
    require_trackers(folder.config)
    devices.require(folder.config)
    with (
        one_writer(folder),
        _features_on(cluster, feature_store, folder.config) as features,
        PixelCache(folder.spec, limit_bytes=cache_limit) as cache,
    ):
        if folder.missing_report and folder.status == "done":
            progress.line(folder.missing_report)
            write_report(folder, progress=progress)
            return Run(folder.path)
        if data is not None:
            relocate(folder, data, progress=progress)
        _require_unchanged(folder, cache, progress)
        with tracked(folder, progress) as watch:
            devices.fit(folder, cache, deadline=deadline, progress=progress, watch=watch, source=features)
            write_report(folder, progress=progress)
    return Run(folder.path)


def _require_unchanged(folder: RunFolder, cache: PixelCache, progress: Progress) -> None:
    """Raises RunError where the images of a run are not what they were."""
    catalog = folder.catalog
    changed, gone = changed_images(catalog, folder.config.data, cache=cache, progress=progress)
    if changed:
        raise RunError(
            f"None of the {len(catalog):,} images of {folder.path} is in {catalog.root} any more. Give their "
            f"new location: tellapart train --resume {shlex.quote(str(folder.path))} --data PLACE"
            if gone
            else f"{len(changed)} images changed since {folder.path} started, the first: {changed[0]}. "
            "Restore them, or train a new run."
        )
