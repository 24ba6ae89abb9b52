"""A run and its operations: predict, explain, export, compare, report; evaluate is in its own module.

What only some of them need is imported by them: `predict` of one image is over in a third of a second.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.data.catalog import Split
from tellapart.errors import RunError, TellapartError
from tellapart.files import write_text
from tellapart.inference.prediction import PredictionList
from tellapart.inference.predictor import Predictor
from tellapart.models.runtime import Device
from tellapart.progress import BY_HAND, Progress
from tellapart.runs.lock import one_writer
from tellapart.runs.required_plugins import require_plugins
from tellapart.runs.run import RunFolder
from tellapart.runs.run import list_runs as list_folders
from tellapart.runs.run import open_run as open_folder
from tellapart.words import counted

if TYPE_CHECKING:
    import keras
    import pandas

    from tellapart.api.values import Catalog, Evaluation, RunList
    from tellapart.experiments.comparison import RunsComparison
    from tellapart.explain.explanation import Explanation
    from tellapart.inference.export_run import Export
    from tellapart.inference.optimize import Optimized
    from tellapart.svg import Drawing


NEIGHBOURS = 8
"""Training images on the page of `explain`."""


@dataclass(frozen=True)
class Run(RunFolder):
    """A run folder and its operations.

    >>> run = ta.open_run("runs/pets")
    >>> run.task.classes, run.spec.shape, run.status
    (('Abyssinian', 'Bengal', 'american_bulldog'), (224, 224, 3), 'done')
    """

    def __repr__(self) -> str:
        """Status and accuracy in short."""
        from tellapart.evaluation.intervals import Estimate
        from tellapart.runs.summary import summarize
        from tellapart.words import measured

        try:
            row = summarize(self)
        except TellapartError as error:
            return f"<Run {str(self.path)!r}: {error}>"
        figures = Estimate.from_dict(row.accuracy) if row.accuracy else None
        reached = f", accuracy {measured(figures)} on {row.images:,} {row.split} images" if figures else ""
        return f"<Run {str(self.path)!r}: {row.status}, {row.model}, {row.classes} classes{reached}>"

    @property
    def catalog(self) -> Catalog:
        """Every image with its label and split, as used by the run."""
        from tellapart.api.values import catalog_of_plain

        return catalog_of_plain(super().catalog)

    def to_frame(self) -> pandas.DataFrame:
        """The prediction for every evaluated image, a row each: path, truth, label, probability, verdict, distance, and
        the probability of each class. Raises RunError if there are none, MissingExtraError without pandas."""
        from tellapart.dataframes import frame
        from tellapart.runs.predictions import in_words, read_predictions

        classes = self.task.classes
        found = read_predictions(self.require(self.predictions_file, "predictions"), self.task)
        if found is None:
            raise RunError(f"{self.predictions_file} is damaged or not from tellapart. Train the run again.")
        verdicts = found.verdicts or [""] * len(found.paths)
        distances = [None] * len(found.paths) if found.distances is None else found.distances.tolist()
        said = zip(found.paths, *in_words(found, self.task), found.confidence, verdicts, distances, strict=True)
        rows = (
            [path, truth, named, sure, verdict, distance, *values]
            for (path, truth, named, sure, verdict, distance), values in zip(said, found.probabilities, strict=True)
        )
        return frame(rows, ["path", "truth", "label", "probability", "verdict", "distance", *classes])

    def plot(self) -> Drawing:
        """Accuracy and loss by epoch, training and validation. Raises RunError before the first epoch."""
        from tellapart.report.drawing import curves_drawing

        if not (history := self.history):
            raise RunError(f"{self.path} has no epoch yet, so there is no curve.")
        return curves_drawing(history, self.record.best_epoch)

    def _repr_html_(self) -> str:
        from tellapart.api.values import shown
        from tellapart.report.card import run_card

        return shown(lambda: run_card(self), self.path.name)

    def model(self) -> keras.Model:
        """The trained network in Keras, not compiled: uint8 images in, probabilities out. Needs the extra `train`.
        Raises RunError for a file with anything but what tellapart writes.

        It is read from model.keras, or made of model.onnx where Keras took no part in training, and compared with it.
        """
        from tellapart.inference.run_network import in_keras, is_plain
        from tellapart.models.keras_file import open_keras
        from tellapart.models.own import is_own

        if is_own(self.config.model.name) or is_plain(self):
            return in_keras(self).network
        return open_keras(self.require(self.model_file, "trained network"))

    def predictor(self, threads: int | None = None, device: Device = "auto", *, exact: bool = True) -> Predictor:
        """The network in ONNX Runtime; imports no TensorFlow. device: `auto`, `cpu` or `cuda`. exact: as trained;
        False: the fast file, if `tellapart.optimize` made one and the device is not `cuda`. The run's limits on pixels
        and bytes of an image apply."""
        from tellapart.inference.fast import open_fast

        bounds = self.config.data
        found = None if exact or device == "cuda" else open_fast(self, threads, bounds)
        file = self.require(self.onnx_file, "exported network")
        return found or Predictor(file, threads=threads, device=device, bounds=bounds)

    def evaluate(
        self, data: Any = None, *, split: Split | None = None, progress: Progress = BY_HAND, **options: Any
    ) -> Evaluation:
        """The same as `tellapart.evaluate`."""
        from tellapart.api.evaluation import evaluate

        return evaluate(self.path, data, split=split, progress=progress, **options)

    def predict(
        self,
        images: Any,
        *,
        path_column: str | None = None,
        root: str | os.PathLike[str] | None = None,
        exact: bool = False,
    ) -> PredictionList:
        """The same as `tellapart.predict`."""
        from tellapart.evaluation.shift import Reference
        from tellapart.inference.python_inputs import images_of
        from tellapart.inference.shift_watch import ShiftWatch, withheld

        predictor = self.predictor(exact=exact)
        named = images_of(images, path_column=path_column, root=root, max_bytes=predictor.bounds.max_bytes)
        reference = Reference.of_run(self)
        watch = ShiftWatch(reference) if reference else None
        answers = list(predictor.predict_named(named, watch=watch))
        shift = watch.shift() if watch else None
        return PredictionList(withheld(answers, shift), predictor.task.classes, shift)

    def explain(
        self,
        image: str | os.PathLike[str],
        *,
        label: str | None = None,
        out: str | os.PathLike[str] | None = None,
        trust_code: bool = False,
        progress: Progress = BY_HAND,
    ) -> Explanation:
        """Why an image is predicted as it is, with figures and a page, explain.html, in a folder: see
        explain.explanation.explain. The page also shows the training images that look most like it. trust_code: as in
        `export`; without it, feature maps and filters of a custom network are omitted."""
        from tellapart.explain.explanation import explain

        let_run(self, trust_code=trust_code)
        found = explain(self, image, label=label, out=out, progress=progress)
        return _with_page(self, found, self.write_text if out is None else write_text, progress)


def _with_page(
    run: RunFolder, found: Explanation, write: Callable[[Path, str], None], progress: Progress
) -> Explanation:
    """The explanation with its page beside its figures. Without its training images, it has no neighbours."""
    from tellapart.report.explanation import FILE, explanation_page
    from tellapart.training.similar import similar_images

    try:
        near, among = similar_images(run, Path(found.image), NEIGHBOURS, progress=progress)
        compared = f"Of {counted(among, 'training image')}, as the bundled backbone sees them. Similarity: up to 1."
    except (TellapartError, OSError) as error:
        near, compared = [], f"Not available: {error}"
    page = found.files[0].parent / FILE
    write(page, explanation_page(found, run, near, compared))
    return replace(found, files=(*found.files, page))


def let_run(run: RunFolder, *, model: Any = None, trust_code: bool = False) -> None:
    """For a run with a custom network: register the given network, or import the code that the run names."""
    from tellapart.models import own

    name = run.config.model.name
    if own.is_own(name) and model is not None:
        own.give(model, name)
    elif own.is_own(name) and trust_code:
        own.trust(name)


def open_run(
    path: str | os.PathLike[str], *, data: str | os.PathLike[str] | None = None, progress: Progress = BY_HAND
) -> Run:
    """An existing run. Raises RunError for a missing, foreign or damaged folder.

    data: the new location of its images, if they were moved: a folder or an archive. They are verified by digest, and
    the run stores the location; RunError if they are different images.

    >>> ta.open_run("runs/pets", data="photos").evaluate().n
    18
    """
    folder = open_folder(path)
    if data is not None:
        from tellapart.runs.relocate import relocate

        with one_writer(folder):
            relocate(folder, data, progress=progress)
    return Run(folder.path)


def list_runs(folder: str | os.PathLike[str] = "runs") -> list[Run]:
    """The readable runs directly inside a folder, oldest first. Raises RunError if the folder does not exist.

    >>> ta.list_runs("runs")[0].path.name
    'pets'
    """
    return [Run(found.path) for found in list_folders(Path(folder))]


def summarize_runs(
    folder: str | os.PathLike[str] = "runs", *, where: Sequence[str] = (), sort: str = "created"
) -> RunList:
    """One row per run of a folder, with its results; where and sort as in `tellapart runs`. A damaged run is a row with
    an `error`. `to_frame()` of the list is a DataFrame.

    >>> [row.name for row in ta.summarize_runs("runs", where=["status=done", "accuracy>0.9"])][:1]
    ['pets']
    """
    from tellapart.api.values import RunList
    from tellapart.runs.summary import select, summaries

    return RunList(select(summaries(Path(folder)), where, sort))


def predict(
    run: str | os.PathLike[str],
    images: Any,
    *,
    path_column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    exact: bool = False,
) -> PredictionList:
    """A Prediction for each image, in the given order; `to_frame()` of the list is a DataFrame.

    images: a path, folder, archive, pattern, or table of image paths (csv, tsv, parquet; path_column: its column, root:
    the folder that its paths are relative to); a URL (https://, http://), which is downloaded; the bytes of a file, or
    a file open in mode `rb`; a Pillow image in any mode; uint8 arrays (h, w), (h, w, 1), (h, w, 3), (h, w, 4) or (n, h,
    w, c), RGB and 0..255; a Series or DataFrame of paths; or a list of any of these. The result does not depend on how
    an image is given. An image that cannot be read is a Prediction with an `error`; SourceError is raised for an object
    that is not an image, and lists what is accepted.

    >>> ta.predict("runs/pets", "photos/Bengal")[0].label
    'Bengal'
    >>> ta.predict("runs/pets", np.zeros((2, 64, 64, 3), np.uint8))[1].path
    'image 1'
    """
    return open_run(run).predict(images, path_column=path_column, root=root, exact=exact)


def optimize(
    run: str | os.PathLike[str], *, keep: float = 0.998, undo: bool = False, progress: Progress = BY_HAND
) -> Optimized | None:
    """Choose the fastest arithmetic that keeps the labels of the validation images: float32, int8, or bfloat16 in
    OpenVINO. `predict` and `serve` use it from then on; the run keeps the network as trained.

    Needs the extra `train`; bfloat16 the extra `openvino` and a processor that has it. keep: share of the labels that
    must stay the same, 0.9..1. undo: remove the fast file, and return None. Raises RunError for an unfinished run,
    ExportError if an image is missing or there are fewer than 20.

    >>> ta.optimize("runs/pets")  # doctest: +SKIP
    """
    from tellapart.inference.optimize import optimize_run, undo_optimize

    folder = open_folder(run)
    with one_writer(folder):
        found = undo_optimize(folder) if undo else optimize_run(folder, keep=keep, progress=progress)
        if folder.report_file.exists():
            from tellapart.report.write import write_report

            write_report(folder, progress=progress)
        return found


def compare(*runs: str | os.PathLike[str]) -> RunsComparison:
    """Compare two or more runs, paired, on their shared test images. Raises RunError if they share none.

    >>> other = ta.train("photos/", model="dense", epochs=1, out="runs/compared")
    >>> ta.compare("runs/pets", other.path).n
    18
    """
    from tellapart.experiments.comparison import compare_runs

    return compare_runs([open_folder(run) for run in runs])


def write_comparison(found: RunsComparison, out: str | os.PathLike[str], *, progress: Progress = BY_HAND) -> list[Path]:
    """Write compare.html and curves.svg for the result of `compare` into a folder; returns their paths.

    >>> ta.write_comparison(ta.compare("runs/pets", "runs/other"), "comparison")  # doctest: +SKIP
    """
    from tellapart.report.comparison import write_comparison

    return write_comparison(found, Path(out), progress=progress)


def write_report(run: str | os.PathLike[str], *, progress: Progress = BY_HAND) -> Path:
    """Write, or rewrite, a finished run's report and figures; returns the report's path.

    >>> ta.write_report("runs/pets").name
    'report.html'
    """
    from tellapart.report.write import write_report

    folder = open_folder(run)
    with one_writer(folder, beside_others=True):
        write_report(folder, progress=progress)
    return folder.report_file


def write_index(folder: str | os.PathLike[str], *, progress: Progress = BY_HAND) -> Path:
    """Write index.html, which lists the runs, ladders and searches of a folder with their pages; returns its path.

    A finished run without a report gets one. Raises RunError, and writes nothing, for a folder without runs.

    >>> ta.write_index("runs").name
    'index.html'
    """
    from tellapart.report.index import studies_in, write_index

    rows = summarize_runs(folder)
    if not rows and not studies_in(Path(folder)):
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
    runtime: str | os.PathLike[str] | None = None,
    trust_code: bool = False,
    progress: Progress = BY_HAND,
) -> Export:
    """Write a finished run's network for another runtime, compared there with Keras on real images.

    format: a name of inference.exports. quantize: `int8` or None. out: default RUN/exports/NAME. runtime: for the
    format `web`, a folder of the npm package onnxruntime-web, to work without the internet. trust_code: allow a
    run with a custom network to import the code that it names. Raises ExportError for an unknown format, or a file
    whose outputs differ from the network's; UntrustedCodeError.

    >>> made = ta.export("runs/pets", "onnx")
    >>> made.path.name, made.difference < made.bound
    ('model.onnx', True)
    """
    from tellapart.inference.export_run import export_run

    folder = open_folder(run)
    let_run(folder, trust_code=trust_code)
    require_plugins(folder)
    place, brought = (Path(given) if given else None for given in (out, runtime))
    with nullcontext() if out else one_writer(folder, beside_others=True):
        return export_run(folder, format, place, quantize=quantize, runtime=brought, progress=progress)
