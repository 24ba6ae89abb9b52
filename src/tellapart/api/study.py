"""Labelled images + a time budget -> a study: several runs in one folder, and one page with their results.

LADDER/ has a run for each rung; TUNE/ has the runs of the start and of the best trial, and best.toml.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.api.datasets import read
from tellapart.api.options import known_options, make_config
from tellapart.api.runs import Run, write_report
from tellapart.api.training import resume, train
from tellapart.config import AUTO, Config
from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
from tellapart.data.catalog import Catalog
from tellapart.data.sources import read_source
from tellapart.errors import ConfigError, require_extra
from tellapart.models.pretrained_weights import require_weights
from tellapart.models.registry import resolve
from tellapart.progress import BY_HAND, Progress
from tellapart.runs.lock import one_writer
from tellapart.runs.new_folder import new_place
from tellapart.runs.run import RunFolder
from tellapart.task import ImageSpec, require_one_label

if TYPE_CHECKING:
    from tellapart.cluster.tasks import Needs
    from tellapart.experiments.ladder import LadderFolder
    from tellapart.experiments.ladder import Runner as LadderRunner
    from tellapart.experiments.ladder_result import LadderResult
    from tellapart.experiments.study import Session
    from tellapart.experiments.tune import Runner, Trial, TuneFolder
    from tellapart.experiments.tune_result import TuneResult


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, by its address (`auto`, HOST:PORT, ray://HOST:PORT), and what each trial gets of it: processor
    cores and GPUs, which may be a part of one. parallel: most trials at a time; None: as many as there is room for."""

    address: str = "auto"
    cpus: int = 2
    gpus: float = 0.0
    parallel: int | None = None


LadderWatch = Callable[["LadderFolder"], None]
TuneWatch = Callable[["TuneFolder", list["Trial"]], None]
LADDER_BUDGET, TUNE_BUDGET = 600.0, 1200.0


def ladder(
    data: Any,
    *,
    budget: float = LADDER_BUDGET,
    out: str | os.PathLike[str] | None = None,
    rungs: Sequence[str] = (),
    config: Config | None = None,
    settings: Sequence[str] = (),
    command: str = "",
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
    watch: LadderWatch = lambda _: None,
    cluster: Cluster | None = None,
) -> LadderResult:
    """Train a series of networks, from dense layers to a fine-tuned backbone, in `budget` seconds, and recommend one.

    data: as in `read`. out: the ladder's folder (default: runs/ladder-N), with a run for each rung and ladder.html.
    rungs: names of experiments.rungs; default: all. config: its seed, data, image and train sections apply to all;
    settings: `section.key=value` for every rung, which override its row. watch: called with the ladder whenever a
    rung's state changes. cluster: of Ray, to train rungs; data and out are then in folders that its machines share.
    Raises ConfigError for an unknown rung, RunError if no rung completes an epoch in time.

    >>> found = ta.ladder("photos/", rungs=["dense", "conv"], settings=["train.epochs=1"], out="runs/ladder")
    >>> found.choice.recommended in ("dense", "conv"), found.n
    (True, 18)
    """
    from tellapart.experiments.ladder import LadderFolder, create_ladder
    from tellapart.experiments.rungs import chosen

    started = time.monotonic()
    wanted = chosen(rungs)
    LadderFolder.require_free(out)
    config = config or Config()
    catalog, image = _ladder_images(data, config, settings, cache_limit, progress)
    with new_place(out, "ladder") as place:
        made = create_ladder(
            place,
            wanted,
            data=str(data),
            budget_seconds=budget,
            config=config.to_dict(),
            settings=list(settings),
            image=image,
            command=command,
            spent_seconds=time.monotonic() - started,
        )
    with one_writer(made):
        return _climb(made, catalog, cache_limit, progress, watch, cluster)


def resume_ladder(
    path: str | os.PathLike[str],
    *,
    budget: float | None = None,
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
    watch: LadderWatch = lambda _: None,
    cluster: Cluster | None = None,
) -> LadderResult:
    """Resume a ladder; finished rungs are kept. budget: seconds, including those already spent; None: unchanged.
    cluster: as in `ladder`, whether it was started on one or not. Raises RunError for a folder that is not a ladder, or
    images that changed.

    >>> ta.resume_ladder("runs/ladder", budget=1200).advice  # doctest: +SKIP
    """
    from tellapart.experiments.ladder import LadderFolder

    with LadderFolder.resumed(path, budget_seconds=budget) as found:
        catalog = found.catalog
        if catalog is None:
            settings = found.record["settings"]
            catalog, _ = _ladder_images(found.record["data"], found.config, settings, cache_limit, progress)
        return _climb(found, catalog, cache_limit, progress, watch, cluster)


def tune(
    data: Any,
    *,
    budget: float = TUNE_BUDGET,
    trials: int | None = None,
    out: str | os.PathLike[str] | None = None,
    config: Config | None = None,
    command: str = "",
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
    watch: TuneWatch = lambda *_: None,
    cluster: Cluster | None = None,
    storage: str = "",
    **options: Any,
) -> TuneResult:
    """Search for a better configuration in `budget` seconds on the validation images, then evaluate on the test images.

    data: as in `read`. trials: maximum number. out: the search's folder (default: runs/tune-N). config: the starting
    configuration, the first trial; options: those of `make_config` instead. The searched settings depend on its model:
    docs/tune.md. watch: called with the folder and its trials as they change. cluster: of Ray, to train trials; data
    and out are then in folders that its machines share. storage: where Optuna keeps the trials: the address of a
    database, or `journal`, a file of the folder (default with a cluster; else SQLite there). Raises MissingExtraError
    without the extra `tune`, RunError if not even the first trial is finished in time.

    >>> found = ta.tune("photos/", model="dense", epochs=1, trials=2, out="runs/tune")
    >>> found.start.name, found.best.name in ("trial-1", "trial-2"), found.tune.best_file.name
    ('trial-1', True, 'best.toml')
    """
    from tellapart.experiments.tune import TuneFolder, create_tune
    from tellapart.training.tracker_backends import require_trackers

    started = time.monotonic()
    require_extra("Searching for a better configuration", "tune", "optuna")
    config = config or make_config(**known_options(options))
    require_trackers(config)
    TuneFolder.require_free(out)
    start, catalog = _tune_images(data, config, cache_limit, progress)
    with new_place(out, "tune") as place:
        made = create_tune(
            place,
            start,
            data=str(data),
            budget_seconds=budget,
            trials=trials,
            command=command,
            spent_seconds=time.monotonic() - started,
            **_stored(place, storage, cluster),
        )
    with one_writer(made):
        return _search(made, catalog, cache_limit, progress, watch, cluster)


def _stored(place: Path, storage: str, cluster: Cluster | None) -> dict[str, str]:
    """What the record of a search says of Optuna's storage. A database may hold other searches too."""
    from tellapart.experiments.tune import JOURNAL

    storage = storage or (JOURNAL if cluster else "")
    if not storage or storage == JOURNAL:
        return {"storage": storage} if storage else {}
    return {"storage": storage, "study_name": f"{place.name} {secrets.token_hex(4)}"}


def resume_tune(
    path: str | os.PathLike[str],
    *,
    budget: float | None = None,
    trials: int | None = None,
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
    watch: TuneWatch = lambda *_: None,
    cluster: Cluster | None = None,
) -> TuneResult:
    """Resume a search; finished trials are kept. budget, trials: totals, with those already done; None: unchanged.
    cluster: as in `tune`, for a search that was started on one or with a `storage`. Raises RunError for a folder that
    is not a search, or images that changed.

    >>> ta.resume_tune("runs/tune", budget=2400).advice  # doctest: +SKIP
    """
    from tellapart.experiments.tune import TuneFolder

    require_extra("Searching for a better configuration", "tune", "optuna")
    with TuneFolder.resumed(path, budget_seconds=budget, trials=trials) as found:
        catalog = found.catalog
        if catalog is None:
            _, catalog = _tune_images(found.record["data"], found.start, cache_limit, progress)
        return _search(found, catalog, cache_limit, progress, watch, cluster)


def _ladder_images(
    data: Any, config: Config, settings: Sequence[str], cache_limit: int, progress: Progress
) -> tuple[Catalog, dict[str, Any]]:
    """The images of all rungs, decoded for networks trained from scratch, and the image size of these."""
    from tellapart.training.plan import decide

    common = config.with_values(settings)
    spec = decide(make_config(config=common, model="cnn"), read_source(data, common.data)).spec
    return _trainable(data, common, spec, cache_limit, progress), spec.to_dict()


def _tune_images(data: Any, config: Config, cache_limit: int, progress: Progress) -> tuple[Config, Catalog]:
    """The complete configuration, and the images of all trials, decoded for the first one."""
    from tellapart.training.effects import without_effect
    from tellapart.training.plan import decide

    if config.model.name != AUTO:
        resolve(config.model)  # before any image is read
    require_weights(config.model.weights)
    source = read_source(data, config.data)
    plan = decide(config, source)
    for text in without_effect(config, plan.config, source):
        progress.line(text)
    return plan.config, _trainable(data, plan.config, plan.spec, cache_limit, progress)


def _trainable(data: Any, config: Config, spec: ImageSpec, cache_limit: int, progress: Progress) -> Catalog:
    from tellapart.training.fit import require_trainable

    with PixelCache(spec, limit_bytes=cache_limit) as cache:
        catalog = read(data, config=config, cache=cache, progress=progress)
    instead = "Train networks with tellapart train DATA --model NAME, and compare their reports."
    require_one_label(catalog.task.several, "A ladder or search", instead)
    require_trainable(catalog)
    return catalog


def _climb(
    ladder: LadderFolder,
    catalog: Catalog,
    cache_limit: int,
    progress: Progress,
    watch: LadderWatch,
    cluster: Cluster | None,
) -> LadderResult:
    from tellapart.experiments.ladder import climb
    from tellapart.experiments.ladder_result import stand
    from tellapart.report.ladder import write_ladder

    def learn(catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress) -> Run:
        shared: dict[str, Any] = {"cache_limit": cache_limit, "budget": budget, "progress": progress}
        if (out / "run.json").exists():
            return resume(out, **shared)
        return train(catalog, config=config, out=out, command=ladder.record["command"], **shared)

    with _rungs(cluster, ladder, catalog, cache_limit) as runner:
        climb(ladder, catalog, train=learn, progress=progress, watch=watch, runner=runner)
    for name in filter(ladder.begun, ladder.trial_names):
        _report(ladder.run(name), progress)
    found = stand(ladder, catalog)
    write_ladder(found)
    return found


def _search(
    tune: TuneFolder,
    catalog: Catalog,
    cache_limit: int,
    progress: Progress,
    watch: TuneWatch,
    cluster: Cluster | None = None,
) -> TuneResult:
    from tellapart.experiments.learner import learner
    from tellapart.experiments.tune import search
    from tellapart.experiments.tune_result import chosen_of, judge
    from tellapart.report.tune import write_tune

    learn = learner(tune, cache_limit)
    with _runner(cluster, tune, catalog, cache_limit) as runner:
        search(tune, catalog, learn=lambda *given: learn(*given).best, progress=progress, watch=watch, runner=runner)
    runs = [tune.trial(number) for number in sorted({1, chosen_of(tune).number})]
    _finish(runs, cache_limit, progress)
    found = judge(tune)
    write_tune(found)
    return found


def _rungs(
    cluster: Cluster | None, ladder: LadderFolder, catalog: Catalog, cache_limit: int
) -> AbstractContextManager[Callable[[Session], LadderRunner] | None]:
    if cluster is None:
        return nullcontext()
    from tellapart.cluster.rungs import rungs_on

    return rungs_on(cluster.address, ladder, catalog, _needs(cluster), cache_limit)


def _needs(cluster: Cluster) -> Needs:
    from tellapart.cluster.tasks import Needs

    return Needs(cluster.cpus, cluster.gpus, cluster.parallel)


def _runner(
    cluster: Cluster | None, tune: TuneFolder, catalog: Catalog, cache_limit: int
) -> AbstractContextManager[Callable[[Session], Runner] | None]:
    if cluster is None:
        return nullcontext()
    from tellapart.cluster.trials import trials_on

    if not tune.record.get("storage"):
        raise ConfigError(
            f"The trials of {tune.path} are in SQLite, which one machine writes. Resume it without a cluster, or start "
            "a search with one."
        )
    return trials_on(cluster.address, tune, catalog, _needs(cluster), cache_limit)


def _finish(runs: Iterable[RunFolder], cache_limit: int, progress: Progress) -> None:
    """For the selected trials: what follows training."""
    for run in runs:
        if run.status != "done":
            progress.line(f"finishing {run.path.name}: the test images, once")
            resume(run.path, cache_limit=cache_limit, progress=progress)
        _report(run, progress)


def _report(run: RunFolder, progress: Progress) -> None:
    """Write the report if the process was killed between a run and its report."""
    if run.metrics and not run.report_file.exists():
        write_report(run.path, progress=progress)
