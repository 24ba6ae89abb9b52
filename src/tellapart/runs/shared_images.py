"""Several runs -> the images that all were evaluated on, with the prediction of each.

Reads catalog.csv and predictions.csv of each run. Images are matched by the digest of their content, so moved or
renamed folders do not matter; classes are matched by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.data.catalog import ImageRecord, read_images
from tellapart.errors import RunError, some
from tellapart.runs.predictions import StoredPrediction, read_stored
from tellapart.runs.run import RunFolder


@dataclass(frozen=True, slots=True)
class CommonImage:
    """path: in the first run; answers: one per run, in their order."""

    path: str
    truth: str
    answers: tuple[StoredPrediction, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """The number of images that are excluded, and why."""

    images: int
    reason: str


@dataclass(frozen=True)
class Common:
    """classes: in the first run's order. splits: the split that each run was evaluated on. images: one per content."""

    classes: tuple[str, ...]
    splits: tuple[str, ...]
    images: tuple[CommonImage, ...]
    left_out: tuple[LeftOut, ...]

    def positions(self) -> tuple[NDArray[np.int64], list[NDArray[np.int64]]]:
        """As positions of the classes, (images,) each: the truth, and the prediction of each run."""
        place = {label: index for index, label in enumerate(self.classes)}
        said = [[place[answer.label] for answer in image.answers] for image in self.images]
        return np.array([place[image.truth] for image in self.images]), list(np.array(said).T)


@dataclass(frozen=True)
class _Judged:
    """One run by digest: the splits that contain each content, and the images with predictions."""

    name: str
    splits: dict[str, set[str]]
    images: dict[str, list[tuple[ImageRecord, StoredPrediction]]]

    @property
    def split(self) -> str:
        return next(iter(self.images.values()))[0][0].split


def common_images(runs: Sequence[RunFolder], names: Sequence[str]) -> Common:
    """Match the evaluated images of the runs. names: one per run, for messages.

    An image counts if every run has a prediction for it, none was trained on it, and all have the same true class; the
    others are counted in `left_out`. Raises RunError for a run without predictions, for different classes, or without a
    common image.
    """
    tasks = [run.task for run in runs]
    for task, name in zip(tasks, names, strict=True):
        if set(task.classes) != set(tasks[0].classes):
            raise RunError(
                f"{names[0]} has the classes {some(tasks[0].classes, 8)}; {name} has {some(task.classes, 8)}. "
                "Only runs with the same class names can be compared."
            )
    judged = [_judged(run, name) for run, name in zip(runs, names, strict=True)]
    images, reasons, copies = [], Counter[str](), 0
    for digest in dict.fromkeys(digest for each in judged for digest in each.images):
        reason = _reason(digest, judged)
        if reason:
            reasons[reason] += 1
            continue
        found = [each.images[digest] for each in judged]
        copies += max(map(len, found)) - 1
        first = found[0][0][0]
        images.append(CommonImage(first.path, first.label, tuple(each[0][1] for each in found)))
    left_out = [LeftOut(count, reason) for reason, count in reasons.most_common()]
    if copies:
        left_out.append(LeftOut(copies, "a copy of another image; identical images count once"))
    if not images:
        raise RunError(
            f"{', '.join(names)} share no image that all were evaluated on and none was trained on: "
            + "; ".join(f"{each.images:,} images: {each.reason}" for each in left_out)
            + ". Train them on the same images and splits (--seed), or on folders that hold the splits."
        )
    return Common(tasks[0].classes, tuple(each.split for each in judged), tuple(images), tuple(left_out))


def _reason(digest: str, judged: Sequence[_Judged]) -> str:
    """Why an image is excluded; empty if it counts. That a run was trained on it has priority."""
    for each in judged:
        if "train" in each.splits.get(digest, ()):
            return f"in the training split of {each.name}, which would have an unfair advantage"
    for each in judged:
        if digest not in each.images:
            splits = each.splits.get(digest, set())
            if not splits:
                return f"not among the images of {each.name}"
            return f"in the {min(splits)} split of {each.name}, without a prediction"
    if len({image.label for each in judged for image, _ in each.images[digest]}) > 1:
        return "labelled with several classes, so the truth is unknown"
    return ""


def _judged(run: RunFolder, name: str) -> _Judged:
    answers = read_stored(run.require(run.predictions_file, "predictions"))
    splits: dict[str, set[str]] = {}
    images: dict[str, list[tuple[ImageRecord, StoredPrediction]]] = {}
    for image in read_images(run.catalog_file):
        if image.error or not image.split:
            continue
        splits.setdefault(image.digest, set()).add(image.split)
        answer = answers.pop(image.path, None)
        if answer is not None:
            images.setdefault(image.digest, []).append((image, answer))
    if answers or not images:
        problem = f"names {next(iter(answers))}, which catalog.csv does not" if answers else "holds no image"
        raise RunError(f"{run.predictions_file} {problem}. Train the run again.")
    return _Judged(name, splits, images)
