"""A trained network + real images -> a file in an export format with its record, rejected unless its outputs agree.

Needs the runtime of the format, in which every file is run before it gets its final name; and the extra `train`, except
for what is made of the ONNX file of a network that Keras took no part in.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError, TellapartError, some, unknown
from tellapart.evaluation.intervals import Estimate, proportion
from tellapart.evaluation.selective_prediction import Thresholds, choose_thresholds
from tellapart.files import drafting, to_json, write_text
from tellapart.inference.export_formats import Answers, ExportFormat, Run, Shipment, require_quantizable
from tellapart.inference.exports import EXPORTS
from tellapart.inference.file_in_words import outputs_in_words
from tellapart.inference.onnx_export import BOUND, differences, linear_answers, write_linear
from tellapart.inference.predictor import Metadata, Predictor, every_class
from tellapart.inference.run_images import Held, compared_images, images_of
from tellapart.inference.run_network import in_keras, is_plain, linear_of
from tellapart.models.backend import start_keras
from tellapart.models.classifier import PROBABILITIES, SIMILARITY, Classifier
from tellapart.models.keras_file import layers_of
from tellapart.models.linear import LinearClassifier
from tellapart.models.own import is_own
from tellapart.progress import SILENT, Phase, Progress
from tellapart.runs.predictions import Predictions
from tellapart.runs.run import RunFolder

if TYPE_CHECKING:
    import keras

QUANTIZED_BOUND = 0.05
"""Largest mean absolute difference in probability from Keras allowed for an int8 file. Single images near a decision
boundary differ more; the accuracy before and after quantization is reported beside it."""

BATCH = 8
JUDGED = 1000
"""Number of validation images for the accuracy in int8."""
EXAMPLES = 200
"""Number of training images for the int8 ranges."""


@dataclass(frozen=True)
class Options:
    """examples: training images; if given, the arithmetic is int8 and the thresholds are chosen again. runtime: a
    folder with the runtime that the format brings."""

    examples: NDArray[np.uint8] | None = None
    runtime: Path | None = None


@dataclass(frozen=True)
class Export:
    """An exported file. difference: from the trained network, on `images` images; bound: the limit that it is below;
    None and 0 where the runtime is for another system, and only the structure of the file was checked. accuracy: on the
    validation split, before and after quantization, if quantized."""

    path: Path
    format: str
    difference: float | None
    bound: float
    images: int
    bytes: int
    quantized: str = ""
    accuracy: tuple[Estimate, Estimate] | None = None

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "path": str(self.path)}


def export_run(
    run: RunFolder,
    format: str,
    out: Path | None = None,
    *,
    quantize: str | None = None,
    runtime: Path | None = None,
    progress: Progress = SILENT,
) -> Export:
    """Export the network of a finished run: see api.runs.export."""
    row = EXPORTS.find(format)
    if quantize not in (None, "int8"):
        raise ExportError(unknown("quantization", quantize, ["int8"]))
    if runtime is not None and not row.takes_runtime:
        raise ExportError(f"The format {row.name} brings no runtime: --runtime is for the format web.")
    row.require()
    if quantize:
        require_quantizable(row)
    name = f"{row.stem}-{quantize}" if quantize else row.stem
    place = out or run.place("exports", f"{name}{row.suffix}" if row.suffix else f"{name}-{format}")
    if row.suffix and place.suffix != row.suffix:
        raise ExportError(f"A file of the format {format} must end in {row.suffix}; given {place}.")
    progress.update(Phase.EXPORTING, 0, 2)
    metadata = Predictor(run.require(run.onnx_file, "exported network")).metadata
    examples = None
    if quantize:
        try:
            held, examples = images_of(run, "validation", JUDGED), images_of(run, "train", EXAMPLES).images
        except (TellapartError, OSError) as error:
            raise ExportError(
                f"{quantize} is calibrated on the run's own images, and one cannot be read: {error}. "
                f"Restore them at {run.catalog.root}."
            ) from None
    else:
        held = compared_images(run)
    progress.update(Phase.EXPORTING, 1, 2)
    classifier = linear_of(run) if row.of_onnx and is_plain(run) else in_keras(run, held.images)
    if out is None:
        for name in (f"{place.name}.json", f"{place.stem}.bin"):  # files beside it
            run.place("exports", name)
        run.make_folder(run.exports)
    made = write_export(classifier, metadata, row, place, held=held, options=Options(examples, runtime))
    progress.update(Phase.EXPORTING, 2, 2)
    return made


def write_export(
    classifier: Classifier | LinearClassifier,
    metadata: Metadata,
    row: ExportFormat,
    path: Path,
    *,
    held: Held,
    options: Options = Options(),
) -> Export:
    """Write `path`, and next to it, as .json, what it contains and how it was checked.

    classifier: calibrated, in float32. held: images for the comparison with it, in Keras, or in NumPy for a network
    that Keras took no part in. Raises ExportError, and keeps the previous content of `path`, if the outputs differ by
    the bound or more; MissingExtraError without the runtime.
    """
    row.require()
    examples = options.examples
    if examples is not None:
        require_quantizable(row)
    shipment, theirs = _shipped(classifier, metadata, row, held, options)
    with drafting(path.parent, path.name) as folder:
        draft = folder / path.name
        (row.write if examples is None or row.quantize is None else row.quantize)(shipment, draft)
        with layers_of(shipment.model) if is_own(classifier.config.name) else nullcontext():
            ours = _answered(row, draft, held)
        n = len(held.labels)
        if ours is None:
            export = Export(path, row.name, None, BOUND, 0, _size(draft))
        elif examples is None:
            export = Export(path, row.name, differences(ours, theirs), BOUND, n, _size(draft))
        else:
            lost, accuracy = _quantized(metadata, held, theirs, ours)
            export = Export(path, row.name, lost, QUANTIZED_BOUND, n, _size(draft), "int8", accuracy)
            metadata = replace(metadata, thresholds=_thresholds(metadata, held, ours))
        if export.difference is not None and not export.difference < export.bound:
            raise ExportError(
                f"The {row.name} file differs from the trained network by {export.difference:.2g} on "
                f"{export.images} images; the tolerance is {export.bound:g}. It was not written."
            )
        if row.embed is not None:
            row.embed(draft, to_json(_about(row, shipment.names, metadata)))
        record = _record(export, row, shipment.names, metadata)
        if row.finish is not None:
            row.finish(draft, record)
            export = replace(export, bytes=_size(draft))
            record["bytes"] = export.bytes
        _place(draft, path)
    _write_record(path, record)
    return export


def _shipped(
    classifier: Classifier | LinearClassifier, metadata: Metadata, row: ExportFormat, held: Held, options: Options
) -> tuple[Shipment, Answers]:
    """What is exported, and the outputs of the network that its file is compared with."""
    examples, runtime = options.examples, options.runtime
    if isinstance(classifier, LinearClassifier):
        names = tuple(given.name for given in classifier.outputs())
        write = partial(write_linear, classifier)
        return Shipment(None, names, examples, runtime, metadata, write), linear_answers(classifier, held.images)
    whole, given = classifier.outputs()
    named = start_keras().Model(whole.input, dict(zip(given, whole.outputs, strict=True)))
    if row.adapt is not None:
        named = row.adapt(named, metadata)
    shipment = Shipment(named, tuple(name for name in given if name in named.output), examples, runtime, metadata)
    return shipment, _answers(_in_keras(named), held.images)


def _record(export: Export, row: ExportFormat, names: Sequence[str], metadata: Metadata) -> dict[str, Any]:
    return export.to_dict() | {"runtime": row.runtime, "answers": list(names), **_about(row, names, metadata)}


def _about(row: ExportFormat, names: Sequence[str], metadata: Metadata) -> dict[str, Any]:
    """What whoever uses the file needs to know."""
    about = metadata.to_dict()
    if row.adapt is not None:
        said = outputs_in_words(metadata.task, every_class=True)
        about["outputs"] = {name: words for name, words in said.items() if name in names}
    return about


def _write_record(path: Path, record: dict[str, Any]) -> None:
    write_text(path.with_name(f"{path.name}.json"), to_json(record, indent=2) + "\n")


def _quantized(
    metadata: Metadata, held: Held, theirs: Answers, ours: Answers
) -> tuple[float, tuple[Estimate, Estimate]]:
    """The mean difference of the probabilities, and the accuracy before and after."""
    before, after = (_probabilities(metadata, answers) for answers in (theirs, ours))
    n = len(held.labels)
    said = (Predictions((), held.labels, rows, labels=_predicted(metadata, rows)) for rows in (before, after))
    first, second = (proportion(int(each.right.sum()), n) for each in said)
    return float(np.abs(after - before).mean()), (first, second)


def _probabilities(metadata: Metadata, answers: Answers) -> NDArray[np.float64]:
    """Of every class, (n, classes), also where a file has only that of the second."""
    said = answers[PROBABILITIES]
    return said.astype(np.float64) if said.shape[1] > 1 else every_class(metadata.task, said)


def _predicted(metadata: Metadata, rows: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Whether each of several labels is predicted, (n, classes); None where an image has one label."""
    if not metadata.task.several:
        return None
    return np.asarray(rows >= np.array(metadata.least))


def _thresholds(metadata: Metadata, held: Held, ours: Answers) -> Thresholds | None:
    """The thresholds for sure and unlike, from the outputs of the file itself."""
    if metadata.thresholds is None:
        return None
    distance = 1 - ours[SIMILARITY].max(axis=1) if SIMILARITY in ours else None
    probabilities = _probabilities(metadata, ours)
    return choose_thresholds(held.labels, probabilities, distance, metadata.thresholds.target)


def _in_keras(model: keras.Model) -> Run:
    return lambda images: {name: np.asarray(given) for name, given in model(images, training=False).items()}


def _answered(row: ExportFormat, draft: Path, held: Held) -> Answers | None:
    """The outputs of the file; None where only its structure can be checked."""
    try:
        run = row.run(draft)
        return None if run is None else _answers(run, held.images)
    except Exception as error:  # each runtime has its own errors
        raise ExportError(f"The {row.name} file does not run in {row.runtime}: {error}. It was not written.") from error


def _answers(run: Run, images: NDArray[np.uint8]) -> Answers:
    rows = [run(images[start : start + BATCH]) for start in range(0, len(images), BATCH)]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


def _parts(path: Path) -> list[Path]:
    """A file or folder, and the weights that OpenVINO stores beside it."""
    return [part for part in (path, path.with_suffix(".bin")) if part.exists()]


def _size(path: Path) -> int:
    files = [file for part in _parts(path) for file in ([part] if part.is_file() else part.rglob("*"))]
    return sum(file.stat().st_size for file in files if file.is_file())


def _place(draft: Path, path: Path) -> None:
    """Move the draft into place, weights before the file that refers to them; an existing folder is replaced, and
    removed with the drafts. Raises ExportError if it contains files that no export created."""
    for part in reversed(_parts(draft)):
        target = path.with_name(part.name)
        if target.is_dir():
            lost = sorted(_names(target) - _names(part))
            if lost or target.is_symlink() or part.is_file():
                held = f"with {some(lost, 3)} in it " if lost else ""
                raise ExportError(f"{target} is a folder {held}that no export created. Give another --out.")
            target.replace(draft.with_name(f"{draft.name} before"))
        part.replace(target)


def _names(folder: Path) -> set[str]:
    """The relative names of the files in a folder."""
    return {found.relative_to(folder).as_posix() for found in folder.rglob("*") if not found.is_dir()}
