"""What `import tellapart` gives: read, train, evaluate, predict, compare. Composes the rooms and decides nothing.

>>> import tellapart as ta                                     # doctest: +SKIP
>>> run = ta.train("photos/", model="cnn", epochs=10)          # doctest: +SKIP
>>> run.evaluate().accuracy                                    # doctest: +SKIP
0.991 (0.984-0.995)
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.config import AUTO, Config, augmentation
from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
from tellapart.data.catalog import Catalog, Picture, Split
from tellapart.data.checks import find_all
from tellapart.data.corrections import corrected, read_corrections
from tellapart.data.deep import Checked
from tellapart.data.duplicates import seen_before
from tellapart.data.fetch import fetch as fetch_data
from tellapart.data.scan import scan
from tellapart.data.sources import read_source
from tellapart.data.sources.listing import natural_key
from tellapart.data.sources.source import Row, Source
from tellapart.data.splits import assign_splits
from tellapart.errors import ConfigError, ExportError, RunError, SourceError, TellapartError, unknown
from tellapart.inference.pictures import find_pictures
from tellapart.inference.predictor import Prediction, Predictor
from tellapart.models.registry import resolve
from tellapart.progress import SILENT, Progress
from tellapart.recipes import load_recipe
from tellapart.runs.run import RunFolder, create_run, fresh_path
from tellapart.runs.run import list_runs as list_folders
from tellapart.runs.run import open_run as open_folder
from tellapart.runs.summary import RunSummary, select, summarize
from tellapart.task import Task

if TYPE_CHECKING:
    import keras

    from tellapart.evaluation.evaluate import Evaluation
    from tellapart.experiments.comparison import RunsComparison
    from tellapart.explain.explanation import Explanation
    from tellapart.inference.ship import Export


@dataclass(frozen=True)
class Run(RunFolder):
    """A run folder with what one does with it."""

    def model(self) -> keras.Model:
        """The trained network as Keras saved it, not compiled: uint8 pictures in, probabilities out. Needs the extra
        `train`. Raises RunError for a file that holds anything but what tellapart writes."""
        from tellapart.models.keras_file import open_keras

        return open_keras(self.require(self.model_file, "trained network"))

    def predictor(self, threads: int | None = None) -> Predictor:
        """The network in ONNX Runtime; imports no TensorFlow."""
        return Predictor(self.require(self.onnx_file, "exported network"), threads=threads)

    def evaluate(self, data: Any = None, *, split: Split = "test", progress: Progress = SILENT) -> Evaluation:
        """Figures with intervals on a split of the run's own pictures, or on all pictures of `data`."""
        return evaluate(self.path, data, split=split, progress=progress)

    def predict(self, pictures: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]) -> list[Prediction]:
        """A Prediction for each picture: a file, folder, archive, pattern, or several of them."""
        names = [pictures] if isinstance(pictures, str | os.PathLike) else pictures
        return list(self.predictor().predict_named(find_pictures(names)))

    def explain(
        self,
        picture: str | os.PathLike[str],
        *,
        label: str | None = None,
        out: str | os.PathLike[str] | None = None,
        progress: Progress = SILENT,
    ) -> Explanation:
        """Why a picture is named as it is, with figures in a folder: see explain.explanation.explain."""
        from tellapart.explain.explanation import explain

        return explain(self, picture, label=label, out=out, progress=progress)


def open_run(path: str | os.PathLike[str]) -> Run:
    """A run that is there. Raises RunError for a missing, foreign or damaged folder."""
    return Run(open_folder(path).path)


def list_runs(folder: str | os.PathLike[str] = "runs") -> list[Run]:
    """The readable runs directly inside a folder, oldest first. Raises RunError where there is no such folder."""
    return [Run(found.path) for found in list_folders(Path(folder))]


def summarize_runs(
    folder: str | os.PathLike[str] = "runs", *, where: Sequence[str] = (), sort: str = "created"
) -> list[RunSummary]:
    """One row a run of a folder, with what it reached; where and sort as in `tellapart runs`."""
    return select(map(summarize, list_folders(Path(folder))), where, sort)


def fetch(
    name: str,
    *,
    sha256: str | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: Progress = SILENT,
) -> Path:
    """Labelled pictures from the network, once: a collection, an address or kaggle:NAME -> a path for `read`.

    `tellapart fetch` lists the collections. sha256: what the file at an address must have. Raises FetchError, which
    says what to do without a network.
    """
    return fetch_data(name, sha256=sha256, out=Path(out) if out is not None else None, progress=progress)


def read(
    data: Any,
    *,
    config: Config | None = None,
    cache: PixelCache | None = None,
    progress: Progress = SILENT,
    **options: Any,
) -> Catalog:
    """Labelled pictures -> Catalog: every picture decoded once, split and checked. Files are only read.

    data: a folder, archive, table, idx folder, DataFrame or `builtin:pets`. options: fields of config.data, such as
    label_column. Raises SourceError where no layout fits, ConfigError for a wrong option.
    """
    config = make_config(config=config, data=options)
    return _catalog(_source(data, config), config, cache, progress)


def check(
    data: Any,
    *,
    deep: bool = False,
    config: Config | None = None,
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = SILENT,
    **options: Any,
) -> Checked:
    """What is there and what is wrong with it, as `read` finds it; with `deep` also what takes a look into the
    pictures: wrong labels, near-duplicates, outliers, dark, blurred and blank pictures, classes that overlap.

    Deep checks take the features that `train` keeps for the base inside the package, and keep them for it. They need
    the extras `check` and, once, `train`. data, options: as in `read`. cache_limit: bytes of pixels, and of features.
    """
    config = make_config(config=config, data=options)
    source = _source(data, config)
    if not deep:
        return Checked(_catalog(source, config, None, progress))
    from tellapart.data.labels import require_cleanlab
    from tellapart.training.inspection import inspection_spec, look_into

    require_cleanlab()
    with PixelCache(inspection_spec(config, source), limit_bytes=cache_limit) as cache:
        catalog = _catalog(source, config, cache, progress)
        return look_into(catalog, config, cache, given=any(row.split for row in source.rows), progress=progress)


def _source(data: Any, config: Config) -> Source:
    """The labelled pictures, with the corrections of the configuration."""
    source = read_source(data, config.data)
    if config.data.corrections is None:
        return source
    path = Path(config.data.corrections)
    return corrected(source, read_corrections(path), str(path))


def _catalog(source: Source, config: Config, cache: PixelCache | None, progress: Progress) -> Catalog:
    pictures = scan(source, max_pixels=config.data.max_pixels, cache=cache, progress=progress)
    if all(picture.error for picture in pictures):
        raise SourceError(
            f"None of the {len(pictures)} pictures of {source.root} can be decoded; the first: "
            f"{pictures[0].path} ({pictures[0].error})."
        )
    split = assign_splits(
        pictures,
        seed=config.seed,
        test_fraction=config.data.test_fraction,
        validation_fraction=config.data.validation_fraction,
    )
    return Catalog(source.root, _task(pictures), split, find_all(split, source.findings), source.layout)


def _task(pictures: Iterable[Picture]) -> Task:
    """The classes in the order that people sort names."""
    return Task(tuple(sorted({picture.label for picture in pictures}, key=natural_key)))


def make_config(
    *,
    recipe: str | None = None,
    config: str | os.PathLike[str] | Config | None = None,
    model: str | None = None,
    weights: str | None = None,
    fine_tune: int | str | None = None,
    image_size: int | None = None,
    augment: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    track: Sequence[str] = (),
    data: dict[str, Any] | None = None,
    settings: Sequence[str] = (),
) -> Config:
    """One configuration from a recipe or file, the usual options, then `section.key=value` settings, the last winning.

    >>> make_config(recipe="cats-dogs-64", epochs=1, settings=["train.batch_size=8"]).train.batch_size
    8
    """
    if isinstance(config, Config):
        start = config
    elif config is not None:
        start = Config.read(Path(config))
    else:
        start = load_recipe(recipe) if recipe else Config()
    values = start.to_dict()
    if model is not None and model != start.model.name:
        values["model"] = {"name": model}
    if weights is not None:
        # A file is found again from wherever the run is resumed.
        known = weights in ("auto", "imagenet", "none")
        values["model"]["weights"] = weights if known else str(Path(weights).expanduser().absolute())
    if fine_tune is not None:
        values["train"]["fine_tune"] = fine_tune
    if image_size is not None:
        values["image"] |= {"height": image_size, "width": image_size}
    if augment is not None:
        values["augment"] = augmentation(augment)
    if epochs is not None:
        values["train"]["epochs"] = epochs
    if seed is not None:
        values["seed"] = seed
    if track:
        values["train"]["track"] = tuple(track)
    values["data"] |= {name: value for name, value in (data or {}).items() if value is not None}
    if values["data"].get("corrections"):
        values["data"]["corrections"] = str(Path(values["data"]["corrections"]).expanduser().absolute())
    return Config.from_dict(values).with_values(settings)


def train(
    data: Any,
    *,
    config: Config | None = None,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    command: str = "",
    cache_limit: int = DEFAULT_LIMIT,
    budget: float | None = None,
    progress: Progress = SILENT,
    **options: Any,
) -> Run:
    """Train a classifier and leave a finished run: network, verified ONNX file, figures, report.

    data: as in `read`, or a Catalog. config: a Config; options: those of `make_config` instead. out: the run's folder
    (default: runs/NAME-N). cache_limit: bytes of decoded pictures kept on the disk. budget: seconds from now, after
    which training ends as by Ctrl-C: its best epoch is kept, and `resume` goes on.
    """
    from tellapart.training.decide import decide
    from tellapart.training.fit import fit, require_trainable
    from tellapart.training.track import require_trackers, tracked

    deadline = _deadline(budget)
    config = config or make_config(**options)
    require_trackers(config)
    if config.model.name != AUTO:
        resolve(config.model)  # before any picture is read
    if isinstance(data, Catalog) and config.data.corrections is not None:
        raise ConfigError("A Catalog is corrected when it is read: give the corrections to read() instead.")
    source = _source_of(data) if isinstance(data, Catalog) else _source(data, config)
    config, spec, decided = decide(config, source)
    place = Path(out) if out else fresh_path(Path("runs"), name or options.get("recipe") or config.model.name)
    with PixelCache(spec, limit_bytes=cache_limit) as cache:
        if isinstance(data, Catalog):
            scan(source, max_pixels=config.data.max_pixels, cache=cache, progress=progress)
            catalog = data
        else:
            catalog = _catalog(source, config, cache, progress)
        require_trainable(catalog)
        run = create_run(place, config=config, catalog=catalog, spec=spec, command=command, decided=decided)
        with tracked(run, progress) as watch:
            fit(run, cache, deadline=deadline, progress=progress, watch=watch)
            write_report(run.path, progress=progress)
    return Run(run.path)


def _deadline(budget: float | None) -> float | None:
    return None if budget is None else time.monotonic() + budget


def resume(
    run: str | os.PathLike[str],
    *,
    cache_limit: int = DEFAULT_LIMIT,
    budget: float | None = None,
    progress: Progress = SILENT,
) -> Run:
    """Go on with a run that was interrupted, as if it had never stopped; cache_limit and budget as in `train`. Raises
    RunError where the pictures changed."""
    from tellapart.training.fit import fit
    from tellapart.training.track import require_trackers, tracked

    deadline = _deadline(budget)
    folder = open_folder(run)
    require_trackers(folder.config)
    folder.clear_unfinished()
    with PixelCache(folder.spec, limit_bytes=cache_limit) as cache:
        catalog = folder.catalog
        found = scan(_source_of(catalog), max_pixels=folder.config.data.max_pixels, cache=cache, progress=progress)
        changed = [p.path for p, now in zip(catalog.pictures, found, strict=True) if p.digest != now.digest]
        if changed:
            raise RunError(
                f"{len(changed)} pictures changed since {folder.path} began, the first: {changed[0]}. "
                "Put them back, or train a new run."
            )
        with tracked(folder, progress) as watch:
            fit(folder, cache, deadline=deadline, progress=progress, watch=watch)
            write_report(folder.path, progress=progress)
    return Run(folder.path)


def write_report(run: str | os.PathLike[str], *, progress: Progress = SILENT) -> Path:
    """Write a finished run's report and figures, again if need be; returns the report's path."""
    from tellapart.report.write import write_report

    folder = open_folder(run)
    write_report(folder, progress=progress)
    return folder.report_file


def write_index(folder: str | os.PathLike[str], *, progress: Progress = SILENT) -> Path:
    """Write index.html, which lists the runs of a folder and links their reports; returns its path.

    A finished run without a report gets one.
    """
    from tellapart.report.index import write_index

    for run in list_folders(Path(folder)):
        if run.status == "done" and run.metrics and not run.report_file.exists():
            write_report(run.path, progress=progress)
    return write_index(Path(folder), summarize_runs(folder))


def export(
    run: str | os.PathLike[str],
    format: str = "onnx",
    *,
    out: str | os.PathLike[str] | None = None,
    quantize: str | None = None,
    progress: Progress = SILENT,
) -> Export:
    """Write a finished run's network for another runtime, compared there with Keras on real pictures.

    format: a name of inference.formats. quantize: `int8` or None. out: default RUN/exports/NAME. Raises ExportError
    for a format that is unknown, or a file that answers otherwise than the network.
    """
    from tellapart.inference.formats import FORMATS
    from tellapart.inference.ship import EXAMPLES, JUDGED, compared_pictures, pictures_of, ship

    if format not in FORMATS:
        raise ExportError(unknown("format", format, FORMATS))
    if quantize not in (None, "int8"):
        raise ExportError(unknown("quantization", quantize, ["int8"]))
    row, folder = FORMATS[format], open_run(run)
    row.require()
    name = f"model-{quantize}" if quantize else "model"
    place = Path(out) if out else folder.exports / (f"{name}{row.suffix}" if row.suffix else f"{name}-{format}")
    if row.suffix and place.suffix != row.suffix:
        raise ExportError(f"A file of the format {format} ends with {row.suffix}; given {place}.")
    progress.update("exporting", 0, 2)
    metadata = folder.predictor().metadata
    examples = None
    if quantize:
        try:
            held, examples = pictures_of(folder, "validation", JUDGED), pictures_of(folder, "train", EXAMPLES).pictures
        except (TellapartError, OSError) as error:
            raise ExportError(
                f"{quantize} is fitted to the run's own pictures, and one cannot be read: {error}. "
                f"Put them back at {folder.catalog.root}."
            ) from None
    else:
        held = compared_pictures(folder)
    progress.update("exporting", 1, 2)
    made = ship(folder.model(), metadata, row, place, means=folder.means, held=held, examples=examples)
    progress.update("exporting", 2, 2)
    return made


def _source_of(catalog: Catalog) -> Source:
    rows = tuple(Row(p.path, p.label, p.split, p.group) for p in catalog.pictures)
    return Source(catalog.root, rows, catalog.layout)


def evaluate(
    run: str | os.PathLike[str], data: Any = None, *, split: Split = "test", progress: Progress = SILENT
) -> Evaluation:
    """Evaluate a run on a split of its own pictures, or on every usable picture of other data, by class name."""
    from tellapart.inference.measure import measure, told_of_leaks

    folder = open_run(run)
    if data is None:
        catalog = folder.catalog
    elif isinstance(data, Catalog):
        catalog = data
    else:
        config = folder.config
        source = read_source(data, config.data)
        pictures = scan(source, max_pixels=config.data.max_pixels, progress=progress)
        if split not in {picture.split for picture in pictures}:
            pictures = tuple(replace(picture, split=split) for picture in pictures)
        catalog = Catalog(source.root, _task(pictures), pictures)
    evaluation, predictions = measure(folder.predictor(), catalog, split, progress=progress)
    seen = seen_before(folder.catalog.pictures, split if data is None else "test")
    return told_of_leaks(evaluation, folder.task, catalog, split, predictions, seen)


def compare(*runs: str | os.PathLike[str]) -> RunsComparison:
    """Compare two or more runs, paired on the test pictures that they share. Raises RunError where they share none."""
    from tellapart.experiments.comparison import compare_runs

    return compare_runs([open_folder(run) for run in runs])


def write_comparison(found: RunsComparison, out: str | os.PathLike[str], *, progress: Progress = SILENT) -> list[Path]:
    """Write compare.html and curves.png, of what `compare` gave, into a folder; returns their paths."""
    from tellapart.report.comparison import write_comparison

    return write_comparison(found, Path(out), progress=progress)


def predict(
    run: str | os.PathLike[str], pictures: str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
) -> list[Prediction]:
    """Predict pictures with a run: see Run.predict."""
    return open_run(run).predict(pictures)
