"""A run and its operations: evaluate, predict, explain, export, compare, report."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.api.options import make_config
from tellapart.api.values import Catalog, Evaluation, RunList, catalog_of_plain, evaluation_of_plain, shown
from tellapart.config import DataConfig
from tellapart.data.catalog import Catalog as PlainCatalog
from tellapart.data.catalog import Split
from tellapart.data.duplicates import seen_before
from tellapart.data.scan import scan
from tellapart.data.sources import read_source, refuse_unused
from tellapart.dataframes import frame
from tellapart.errors import ConfigError, ImageError, RunError, SourceError, TellapartError
from tellapart.evaluation.intervals import Estimate
from tellapart.inference.prediction import PredictionList
from tellapart.inference.predictor import Predictor
from tellapart.inference.python_inputs import images_of
from tellapart.models.runtime import Device
from tellapart.progress import BY_HAND, Progress
from tellapart.runs.lock import one_writer
from tellapart.runs.predictions import read_predictions
from tellapart.runs.relocate import relocate
from tellapart.runs.required_plugins import require_plugins
from tellapart.runs.run import RunFolder
from tellapart.runs.run import list_runs as list_folders
from tellapart.runs.run import open_run as open_folder
from tellapart.runs.summary import select, summaries, summarize
from tellapart.task import Task
from tellapart.words import measured

if TYPE_CHECKING:
    import keras
    import pandas

    from tellapart.experiments.comparison import RunsComparison
    from tellapart.explain.explanation import Explanation
    from tellapart.inference.export_run import Export
    from tellapart.svg import Drawing


@dataclass(frozen=True)
class Run(RunFolder):
    """A run folder with what one does with it.

    >>> run = ta.open_run("runs/pets")
    >>> run.task.classes, run.spec.shape, run.status
    (('Abyssinian', 'Bengal', 'american_bulldog'), (224, 224, 3), 'done')
    """

    def __repr__(self) -> str:
        """In short: how far it is and what it reaches."""
        try:
            row = summarize(self)
        except TellapartError as error:
            return f"<Run {str(self.path)!r}: {error}>"
        figures = Estimate.from_dict(row.accuracy) if row.accuracy else None
        reached = f", accuracy {measured(figures)} on {row.images:,} {row.split} images" if figures else ""
        return f"<Run {str(self.path)!r}: {row.status}, {row.model}, {row.classes} classes{reached}>"

    @property
    def catalog(self) -> Catalog:
        """Every image with its label and split, as the run learned and was judged by them."""
        return catalog_of_plain(super().catalog)

    def to_frame(self) -> pandas.DataFrame:
        """What was said of every image that it was judged on, a row each: path, truth, label, probability, verdict,
        distance, and the probability of each class. Raises RunError where there is none, MissingExtraError without
        pandas."""
        classes = self.task.classes
        found = read_predictions(self.require(self.predictions_file, "predictions"), classes)
        if found is None:
            raise RunError(f"{self.predictions_file} is damaged or not from tellapart. Train the run again.")
        verdicts = found.verdicts or [""] * len(found.paths)
        distances = [None] * len(found.paths) if found.distances is None else found.distances.tolist()
        said = zip(found.paths, found.truth, found.named, found.confidence, verdicts, distances, strict=True)
        rows = (
            [path, classes[truth], classes[named], sure, verdict, distance, *values]
            for (path, truth, named, sure, verdict, distance), values in zip(said, found.probabilities, strict=True)
        )
        return frame(rows, ["path", "truth", "label", "probability", "verdict", "distance", *classes])

    def plot(self) -> Drawing:
        """Accuracy and loss while it was trained, training beside validation. RunError before the first epoch."""
        from tellapart.report.drawing import curves_drawing

        if not (history := self.history):
            raise RunError(f"{self.path} has no epoch yet, so there is no curve.")
        return curves_drawing(history, self.record.best_epoch)

    def _repr_html_(self) -> str:
        from tellapart.report.card import run_card

        return shown(lambda: run_card(self), self.path.name)

    def model(self) -> keras.Model:
        """The trained network as Keras saved it, not compiled: uint8 images in, probabilities out. Needs the extra
        `train`. Raises RunError for a file that holds anything but what tellapart writes."""
        from tellapart.models.classifier import Classifier
        from tellapart.models.keras_file import open_keras
        from tellapart.models.own import is_own

        file, model = self.require(self.model_file, "trained network"), self.config.model
        if is_own(model.name):
            own = self.record.own_layers
            return Classifier.from_file(self.task, self.spec, model, file, own_layers=own).network
        return open_keras(file)

    def predictor(self, threads: int | None = None, device: Device = "auto") -> Predictor:
        """The network in ONNX Runtime; imports no TensorFlow. device: `auto`, `cpu` or `cuda`. The run's own bounds on
        an image's pixels and bytes hold."""
        file = self.require(self.onnx_file, "exported network")
        return Predictor(file, threads=threads, device=device, bounds=self.config.data)

    def evaluate(
        self, data: Any = None, *, split: Split | None = None, progress: Progress = BY_HAND, **options: Any
    ) -> Evaluation:
        """The same as `tellapart.evaluate`."""
        return evaluate(self.path, data, split=split, progress=progress, **options)

    def predict(
        self, images: Any, *, path_column: str | None = None, root: str | os.PathLike[str] | None = None
    ) -> PredictionList:
        """The same as `tellapart.predict`."""
        from tellapart.evaluation.shift import Reference
        from tellapart.inference.shift_watch import ShiftWatch

        predictor = self.predictor()
        named = images_of(images, path_column=path_column, root=root, max_bytes=predictor.bounds.max_bytes)
        reference = Reference.of_run(self)
        watch = ShiftWatch(reference) if reference else None
        answers = list(predictor.predict_named(named, watch=watch))
        return PredictionList(answers, predictor.task.classes, watch.shift() if watch else None)

    def explain(
        self,
        image: str | os.PathLike[str],
        *,
        label: str | None = None,
        out: str | os.PathLike[str] | None = None,
        trust_code: bool = False,
        progress: Progress = BY_HAND,
    ) -> Explanation:
        """Why an image is named as it is, with figures in a folder: see explain.explanation.explain. trust_code: as in
        `export`; without it, of a network of somebody's own, feature maps and filters are left out."""
        from tellapart.explain.explanation import explain

        let_run(self, trust_code=trust_code)
        return explain(self, image, label=label, out=out, progress=progress)


def let_run(run: RunFolder, *, model: Any = None, trust_code: bool = False) -> None:
    """Of a run with a network of somebody's own: take the network, or import the code that the run names."""
    from tellapart.models import own

    name = run.config.model.name
    if own.is_own(name) and model is not None:
        own.give(model, name)
    elif own.is_own(name) and trust_code:
        own.trust(name)


def open_run(
    path: str | os.PathLike[str], *, data: str | os.PathLike[str] | None = None, progress: Progress = BY_HAND
) -> Run:
    """A run that is there. Raises RunError for a missing, foreign or damaged folder.

    data: where its images are now, if they were moved: a folder or an archive. They are checked by their digests, and
    the run keeps the place; RunError where they are others.

    >>> ta.open_run("runs/pets", data="photos").evaluate().n
    18
    """
    folder = open_folder(path)
    if data is not None:
        with one_writer(folder):
            relocate(folder, data, progress=progress)
    return Run(folder.path)


def list_runs(folder: str | os.PathLike[str] = "runs") -> list[Run]:
    """The readable runs directly inside a folder, oldest first. Raises RunError where there is no such folder.

    >>> ta.list_runs("runs")[0].path.name
    'pets'
    """
    return [Run(found.path) for found in list_folders(Path(folder))]


def summarize_runs(
    folder: str | os.PathLike[str] = "runs", *, where: Sequence[str] = (), sort: str = "created"
) -> RunList:
    """One row a run of a folder, with what it reached; where and sort as in `tellapart runs`. A damaged run is a
    row with an `error`. `to_frame()` of the list is a DataFrame.

    >>> [row.name for row in ta.summarize_runs("runs", where=["status=done", "accuracy>0.9"])][:1]
    ['pets']
    """
    return RunList(select(summaries(Path(folder)), where, sort))


def evaluate(
    run: str | os.PathLike[str],
    data: Any = None,
    *,
    split: Split | None = None,
    progress: Progress = BY_HAND,
    **options: Any,
) -> Evaluation:
    """Evaluate a run on a split of its own images (default: test), or on other data, by class name.

    data: as in `read`, or a Catalog; images of one class are enough. Every usable image counts, unless `split`
    names one of its splits or the source itself has a test split; `notes` then says how many of all. options: fields of
    config.data that say how the labels of `data` are found, such as label_column; without any, the
    run's own. Raises SourceError for a class that the run does not know or a split without an image.

    >>> evaluation = ta.evaluate("runs/pets")
    >>> evaluation.n, evaluation.confusion.shape, evaluation.accuracy.low <= evaluation.accuracy.value
    (18, (3, 3), True)
    >>> ta.evaluate("runs/pets", ta.read("photos")).n
    90
    """
    from tellapart.evaluation.shift import Reference
    from tellapart.inference.evaluate_split import measure, with_verdict

    folder = open_run(run)
    bounds = folder.config.data
    catalog: PlainCatalog
    if data is None:
        if options:
            raise ConfigError(f"{', '.join(options)} applies to the labels of other images. Name those images too.")
        split, catalog = split or "test", folder.catalog
    else:
        catalog, split, bounds = _chosen(folder, data, split, options, progress)
    try:
        # The run's own validation images are what others are compared with, and it learned the training images.
        reference = Reference.of_run(folder) if data is not None or split == "test" else None
        predictor = Predictor(folder.require(folder.onnx_file, "exported network"), bounds=bounds)
        evaluation, predictions = measure(predictor, catalog, split, reference=reference, progress=progress)
    except ImageError as error:
        moved = "" if data is not None else " If the images were moved, give their new location with --data PLACE."
        raise SourceError(f"{error}.{moved}") from None
    usable = sum(not image.error for image in catalog.images)
    if data is not None and evaluation.n < usable:
        note = f"{evaluation.n:,} of the {usable:,} images: those of the {split} split."
        evaluation = replace(evaluation, notes=(note, *evaluation.notes))
    seen = seen_before(folder.catalog.images, split if data is None else "test")
    return evaluation_of_plain(
        with_verdict(folder, evaluation, catalog.split(split), predictions, seen, own=data is None)
    )


def _chosen(
    folder: Run, data: Any, split: Split | None, options: dict[str, Any], progress: Progress
) -> tuple[PlainCatalog, Split, DataConfig]:
    """Other images to evaluate on, the split of them that counts (where none is meant, all are), and their bounds."""
    if isinstance(data, PlainCatalog):
        if options:
            raise ConfigError(f"A Catalog has its labels: give {', '.join(options)} to read() instead.")
        root, images, given, bounds = data.root, data.images, split, folder.config.data
    else:
        own = folder.config
        found_by = {"label_pattern": None, "path_column": None, "label_column": None} if options else {}
        config = make_config(
            config=own.model_copy(update={"data": own.data.model_copy(update={"root": None, **found_by})}), data=options
        )
        source = read_source(data, config.data, known=folder.task.classes)
        if options:
            refuse_unused(source, config.data, data)
        bounds = config.data
        root, images = source.root, scan(source, bounds, progress=progress)
        splits = {image.split for image in images} - {""}
        if split and not splits:
            raise ConfigError(f"{data} has no splits. Omit the {split} split to use all its images.")
        given = split or ("test" if "test" in splits else None)
    if given is None:
        images = tuple(replace(image, split="test") for image in images)
    # The images may be of one class alone; a class that the network lacks is told by who measures.
    unknown = sorted({image.label for image in images} - set(folder.task.classes))
    return PlainCatalog(root, Task((*folder.task.classes, *unknown)), images), given or "test", bounds


def predict(
    run: str | os.PathLike[str],
    images: Any,
    *,
    path_column: str | None = None,
    root: str | os.PathLike[str] | None = None,
) -> PredictionList:
    """A Prediction for each image, in the order given; `to_frame()` of the list is a DataFrame.

    images: a path, folder, archive, pattern, or table that names images (csv, tsv, parquet; path_column: its
    column, root: the folder that its paths are relative to); an address (https://, http://), which is fetched; the
    bytes of a file, or a file open in mode `rb`; an image of Pillow in any mode; uint8 arrays (h, w), (h, w, 1),
    (h, w, 3), (h, w, 4) or (n, h, w, c), RGB and 0..255; a Series or DataFrame of paths; or a list of any of these.
    Whatever way an image comes, the answer is the same. An image that cannot be read is a Prediction with an `error`;
    SourceError is raised for what is no image, and says what is.

    >>> ta.predict("runs/pets", "photos/Bengal")[0].label
    'Bengal'
    >>> ta.predict("runs/pets", np.zeros((2, 64, 64, 3), np.uint8))[1].path
    'image 1'
    """
    return open_run(run).predict(images, path_column=path_column, root=root)


def compare(*runs: str | os.PathLike[str]) -> RunsComparison:
    """Compare two or more runs, paired on the test images that they share. Raises RunError where they share none.

    >>> other = ta.train("photos/", model="dense", epochs=1, out="runs/compared")
    >>> ta.compare("runs/pets", other.path).n
    18
    """
    from tellapart.experiments.comparison import compare_runs

    return compare_runs([open_folder(run) for run in runs])


def write_comparison(found: RunsComparison, out: str | os.PathLike[str], *, progress: Progress = BY_HAND) -> list[Path]:
    """Write compare.html and curves.svg, of what `compare` gave, into a folder; returns their paths.

    >>> ta.write_comparison(ta.compare("runs/pets", "runs/other"), "comparison")  # doctest: +SKIP
    """
    from tellapart.report.comparison import write_comparison

    return write_comparison(found, Path(out), progress=progress)


def write_report(run: str | os.PathLike[str], *, progress: Progress = BY_HAND) -> Path:
    """Write a finished run's report and figures, again if need be; returns the report's path.

    >>> ta.write_report("runs/pets").name
    'report.html'
    """
    from tellapart.report.write import write_report

    folder = open_folder(run)
    with one_writer(folder, beside_others=True):
        write_report(folder, progress=progress)
    return folder.report_file


def write_index(folder: str | os.PathLike[str], *, progress: Progress = BY_HAND) -> Path:
    """Write index.html, which lists the runs of a folder and links their reports; returns its path.

    A finished run without a report gets one. Raises RunError for a folder without any run: no page is left there.

    >>> ta.write_index("runs").name
    'index.html'
    """
    from tellapart.report.index import write_index

    rows = summarize_runs(folder)
    if not rows:
        raise RunError(f"There is no run in {folder}. Name the folder that holds the run folders, such as runs.")
    for run, row in ((RunFolder(Path(row.run)), row) for row in rows):
        if row.status == "done" and row.accuracy and not run.report_file.exists():
            write_report(run.path, progress=progress)
    return write_index(Path(folder), rows)


def export(
    run: str | os.PathLike[str],
    format: str = "onnx",
    *,
    out: str | os.PathLike[str] | None = None,
    quantize: str | None = None,
    trust_code: bool = False,
    progress: Progress = BY_HAND,
) -> Export:
    """Write a finished run's network for another runtime, compared there with Keras on real images.

    format: a name of inference.formats. quantize: `int8` or None. out: default RUN/exports/NAME. trust_code: of a run
    with a network of somebody's own, the code that the run names may be run. Raises ExportError for a format that is
    unknown, or a file that answers otherwise than the network; UntrustedCodeError.

    >>> made = ta.export("runs/pets", "onnx")
    >>> made.path.name, made.difference < made.bound
    ('model.onnx', True)
    """
    from tellapart.inference.export_run import ship_run

    folder = open_folder(run)
    let_run(folder, trust_code=trust_code)
    require_plugins(folder)
    with nullcontext() if out else one_writer(folder, beside_others=True):
        return ship_run(folder, format, Path(out) if out else None, quantize=quantize, progress=progress)
