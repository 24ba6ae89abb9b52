"""Images + features of a frozen backbone + quality -> the findings and corrections of `check --deep`.

In: arrays, provided by api. Out: findings of label errors, near-duplicates, outliers, dark, blurred and blank images
and overlapping classes; and the corrections worth proposing. Never imports Keras.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.catalog import SPLITS, Catalog, ImageRecord, Split
from tellapart.data.corrections import Correction, write_corrections
from tellapart.data.duplicates import Pair, groups_of, in_order_of_splits, near_copies, parted, sure_pairs
from tellapart.data.findings import Finding, images_that
from tellapart.data.label_errors import (
    LabelIssue,
    has_cleanlab,
    held_out_probabilities,
    overlaps,
    suspect_labels,
    told_apart,
)
from tellapart.data.leakage import near_findings
from tellapart.data.neighbours import FAR, Neighbours, farness, neighbours, reduced
from tellapart.data.perceptual_hash import BITS, close_pairs, distances, unpacked
from tellapart.data.quality import FAULTS, Fault, faults
from tellapart.words import counted, percent

SAME = 0.55
"""Similarity of features minus the fraction of differing fingerprint bits, from which two images count as copies."""

OVERLAP = 0.05
"""Share of the images of two classes that held-out heads confuse, from which the classes count as overlapping."""

_AT_ONCE = 1 << 16
_FAULT_WORDS: dict[Fault, str] = {
    "blank": "are blank: a single colour, or nearly",
    "dark": "are so dark that little can be seen",
    "blurred": "are blurred",
}


@dataclass(frozen=True, eq=False)
class DeepEvidence:
    """n usable images: features (n, width) of a frozen backbone, quality (n, 3) by `measure_quality`. drawn: the splits
    that were drawn here (splits.drawn_splits). decided: paths whose label a person has confirmed."""

    images: tuple[ImageRecord, ...]
    features: NDArray[np.floating]
    quality: NDArray[np.float32]
    drawn: frozenset[Split] = frozenset()
    decided: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Deep:
    """The results for n images. pairs: (m, 2), positions of near-duplicates, including byte-identical ones; farness:
    (n,), nan for blank images; probabilities: (n, classes), held out, rows of nan where undefined. suspects: labels
    that look wrong, the likeliest first; faulty: positions by kind; values: (n, width), the reduced features, zeros for
    blank images."""

    images: tuple[ImageRecord, ...]
    findings: tuple[Finding, ...]
    corrections: tuple[Correction, ...]
    pairs: NDArray[np.int64]
    farness: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    suspects: tuple[LabelIssue, ...]
    faulty: Mapping[Fault, NDArray[np.intp]]
    values: NDArray[np.float32]


@dataclass(frozen=True)
class Checked:
    """A catalog with its findings; deep: the results of the deep checks, None without them; corrected: the corrections
    that were applied when reading the catalog; drawn: the splits that were drawn (splits.drawn_splits)."""

    catalog: Catalog
    deep: Deep | None = None
    corrected: tuple[Correction, ...] = ()
    drawn: frozenset[Split] = frozenset()

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """The proposed corrections: relabel, drop, regroup."""
        return () if self.deep is None else self.deep.corrections

    def write_corrections(self, path: str | os.PathLike[str]) -> None:
        """Write a file for a person to edit and for `train` to apply: the corrections already applied, and the
        proposals, which override them."""
        rows = {(row.path, row.action): row for row in (*self.corrected, *self.corrections)}
        write_corrections(Path(path), rows.values())


_UNSEARCHED = Finding(
    "labels-not-searched",
    "note",
    (),
    "Labels that look wrong are not searched for: that needs an optional extra.",
    "Install it with: pip install 'tellapart[check]'",
)


def look_deeper(evidence: DeepEvidence, classes: Sequence[str], seed: int = 0) -> Deep:
    """All results that features give; without the extra `check`, no labels that look wrong, which is a finding."""
    images = evidence.images
    faulty = faults(evidence.quality)
    # Blank images are left out: they are similar to nothing and would only disturb the others.
    seen = np.setdiff1d(np.arange(len(images)), faulty["blank"])
    values = reduced(evidence.features[seen], seed)
    near = neighbours(values, seed=seed)
    by_features = seen[near_duplicates([images[i] for i in seen], evidence.features[seen], near)]
    # Pairs that fingerprints are sure of count as copies whatever the features say: training, which uses no features,
    # reports them too.
    sure = np.array(sure_pairs(images), np.int64).reshape(-1, 2)
    pairs = np.unique(np.concatenate([by_features, sure]), axis=0)
    groups = _joined(groups_of(images, range(len(images))), pairs)
    far = np.full(len(images), np.nan)
    far[seen] = farness(near)
    position = {name: index for index, name in enumerate(classes)}
    labels = np.array([position[image.label] for image in images], np.int64)
    probabilities = np.full((len(images), len(classes)), np.nan)
    judged = _judged(labels[seen], groups[seen])
    if len(np.unique(labels[seen[judged]])) > 1:
        rows = seen[judged]
        probabilities[rows] = held_out_probabilities(values[judged], labels[rows], groups[rows], len(classes), seed)
    decided = [image.path in evidence.decided for image in images]
    suspects = _suspects(labels, probabilities, decided) if has_cleanlab() else []
    same: list[Pair] = [(images[i], images[j]) for i, j in pairs if images[i].digest != images[j].digest]
    hidden = set(same) - set(near_copies(images))
    findings = (
        *_label_findings(images, classes, suspects),
        *near_findings(same, hidden, evidence.drawn),
        *_outlier_findings(images, far),
        *_quality_findings(images, faulty),
        *_overlap_findings(classes, labels, probabilities),
        *_unjudged_findings(classes, labels, probabilities),
        *(() if has_cleanlab() else (_UNSEARCHED,)),
    )
    corrections = (
        *_drops(evidence, same, faulty["blank"]),
        *_relabels(evidence, classes, suspects, pairs),
        *(_regroups(images, groups) if evidence.drawn else ()),
    )
    dropped = {row.path for row in corrections if row.action == "drop"}
    kept = tuple(row for row in corrections if row.action == "drop" or row.path not in dropped)
    whole = np.zeros((len(images), values.shape[1]), np.float32)
    whole[seen] = values
    return Deep(images, findings, kept, pairs, far, probabilities, tuple(suspects), faulty, whole)


def near_duplicates(
    images: Sequence[ImageRecord], features: NDArray[np.floating], near: Neighbours
) -> NDArray[np.int64]:
    """Pairs (m, 2) of positions that are copies of each other, in two stages.

    Candidates have close fingerprints, or are among each other's nearest neighbours by features. A candidate is
    accepted if both together agree: the similarity of the centred features, 1 for equal ones, minus the fraction of
    differing fingerprint bits must reach SAME. Either alone would mistake two images of one scene, or of one
    composition, for copies. An image without a fingerprint, or too small for its features to be meaningful, is in no
    pair.
    """
    prints = tuple(image.fingerprint for image in images)
    by_looks = np.array([pair[:2] for pair in close_pairs(prints)], np.int64).reshape(-1, 2)
    rows, columns = np.nonzero(near.places >= 0)
    by_features = np.stack([rows, near.places[rows, columns]], axis=1)
    candidates = np.unique(np.sort(np.concatenate([by_looks, by_features]), axis=1), axis=0)
    whole = np.array([len(text) == BITS // 4 for text in prints])
    candidates = candidates[whole[candidates].all(axis=1)]
    packed = unpacked(prints)
    centre = features.mean(axis=0, dtype=np.float64).astype(np.float32)
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(candidates), _AT_ONCE):
        part = candidates[start : start + _AT_ONCE]
        differing = distances(packed[part[:, 0]], packed[part[:, 1]]) / BITS
        part, differing = part[differing <= 1 - SAME], differing[differing <= 1 - SAME]
        one, other = (features[part[:, side]].astype(np.float32) - centre for side in (0, 1))
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        similarity = (one * other).sum(axis=1) / np.maximum(lengths, 1e-9)
        found.append(part[similarity - differing >= SAME])
    return np.concatenate(found)


def _joined(groups: Sequence[int], pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """The groups, merging those of each pair; numbered by their first image."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    own = np.asarray(groups, np.int64)
    count = len(own)
    first, second = np.concatenate([np.stack([np.arange(count), own], axis=1), pairs]).T
    graph = coo_matrix((np.ones(len(first), np.int8), (first, second)), shape=(count, count))
    _, numbers = connected_components(graph, directed=False)
    return np.asarray(numbers, np.int64)


def _judged(labels: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.intp]:
    """Positions whose class has at least two groups, so that it can be both learned and held out."""
    enough = {label for label in np.unique(labels) if len(np.unique(groups[labels == label])) > 1}
    return np.flatnonzero([label in enough for label in labels])


def _suspects(
    labels: NDArray[np.int64], probabilities: NDArray[np.float64], decided: Sequence[bool]
) -> list[LabelIssue]:
    rows = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    if not len(rows):
        return []
    judged = told_apart(labels[rows], probabilities[rows])
    found = [s for s in suspect_labels(labels[rows], probabilities[rows]) if judged[labels[rows[s.index]]]]
    placed = (LabelIssue(int(rows[s.index]), s.score, s.suggested, s.probability) for s in found)
    return [s for s in placed if not decided[s.index]]


def _label_findings(
    images: Sequence[ImageRecord], classes: Sequence[str], suspects: Sequence[LabelIssue]
) -> Iterator[Finding]:
    if suspects:
        yield Finding(
            "suspect-label",
            "warning",
            tuple(
                f"{images[s.index].path} [{images[s.index].label}; looks like {classes[s.suggested]}, "
                f"{percent(s.probability, 0)}]"
                for s in suspects
            ),
            f"{images_that(len(suspects), 'has a label that looks', 'have labels that look')} wrong, "
            "the most likely first.",
            "Kept. Inspect them; --write proposes new labels.",
        )


def _outlier_findings(images: Sequence[ImageRecord], far: NDArray[np.float64]) -> Iterator[Finding]:
    # nan is not an outlier
    order = [int(i) for i in np.argsort(-far) if far[i] >= FAR]
    if order:
        yield Finding(
            "outlier",
            "warning",
            tuple(f"{images[i].path} [{images[i].label}]" for i in order),
            f"{images_that(len(order), 'is', 'are')} outliers, the most unusual first.",
            "Kept. Check whether they belong to the task; a rare kind of a class does, and needs more images.",
        )


def _quality_findings(images: Sequence[ImageRecord], faulty: dict[Fault, NDArray[np.intp]]) -> Iterator[Finding]:
    for kind in FAULTS:
        places = faulty[kind]
        if len(places):
            told = _FAULT_WORDS[kind]
            yield Finding(
                kind,
                "warning",
                tuple(images[i].path for i in places),
                f"1 image {told.replace('show', 'shows', 1).replace('are', 'is', 1)}."
                if len(places) == 1
                else f"{len(places)} images {told}.",
                "Kept. Drop them, unless the model will meet such images in use.",
            )


def _overlap_findings(
    classes: Sequence[str], labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> Iterator[Finding]:
    rows = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    found = overlaps(labels[rows], probabilities[rows]) if len(rows) else []
    told = [(a, b, count, both) for a, b, count, both in found if count >= OVERLAP * both and count > 2]
    if told:
        yield Finding(
            "overlapping-classes",
            "note",
            tuple(f"{classes[a]} and {classes[b]}: {count} of {both} images" for a, b, count, both in told),
            f"{_pairs_of_classes(len(told))} hard to tell apart by the features of the backbone.",
            "Kept. Check that they are two classes. If so, more images of them or --fine-tune help most.",
        )


def _unjudged_findings(
    classes: Sequence[str], labels: NDArray[np.int64], probabilities: NDArray[np.float64]
) -> Iterator[Finding]:
    rows = np.flatnonzero(~np.isnan(probabilities[:, 0]))
    judged = told_apart(labels[rows], probabilities[rows]) if len(rows) else np.ones(len(classes), np.bool_)
    if not judged.all():
        names = [name for name, good in zip(classes, judged, strict=True) if not good]
        yield Finding(
            "labels-not-judged",
            "note",
            tuple(names),
            f"The labels of {counted(len(names), 'class', 'classes')} are not checked: from the features of the "
            "backbone, fewer than two thirds of the images are predicted as labelled.",
            "Kept. Either the backbone does not see what distinguishes them, or very many labels are wrong: inspect "
            "some.",
        )


def _drops(evidence: DeepEvidence, same: Sequence[Pair], blank: NDArray[np.intp]) -> Iterator[Correction]:
    """Blank images; and, of copies across splits given by the source, those that are not in the latest split, so that
    the test images stay the same. No copies across splits remain for training to report."""
    dropped = set()
    for i in blank:
        dropped.add(evidence.images[i].path)
        yield Correction(evidence.images[i].path, "drop", reason="blank: a single colour")
    pairs = [*(in_order_of_splits(pair) for pair in same), *parted(evidence.images)]
    while pairs:
        before = len(dropped)
        for one, other in sorted(pairs, key=lambda pair: -SPLITS.index(pair[1].split)):
            kept = one.split == other.split or {one.split, other.split} <= evidence.drawn
            if not kept and not dropped & {one.path, other.path}:
                dropped.add(one.path)
                yield Correction(one.path, "drop", reason=f"the same image as {other.path} in {other.split}")
        # For smaller images, fingerprints may mistake others for copies.
        rest = [image for image in evidence.images if image.path not in dropped]
        pairs = parted(rest) if len(dropped) > before else []


def _relabels(
    evidence: DeepEvidence, classes: Sequence[str], suspects: Sequence[LabelIssue], pairs: NDArray[np.int64]
) -> Iterator[Correction]:
    """Each suspect with the class it looks like; copies get the same label as the most suspicious of them: of two with
    the same wrong label one may not be suspected, and different labels would then contradict each other."""
    images = evidence.images
    _, digests = np.unique([image.digest for image in images], return_inverse=True)
    _, first = np.unique(digests, return_index=True)
    copies = _joined(first[digests].tolist(), pairs)
    suspected = {s.index for s in suspects}
    alike = np.argsort(copies, kind="stable")
    sets = np.split(alike, np.flatnonzero(np.diff(copies[alike])) + 1)
    members = {int(copies[places[0]]): places.tolist() for places in sets if len(places)}
    done = set()
    for s in suspects:
        if copies[s.index] in done:
            continue
        done.add(copies[s.index])
        label, wrong = classes[s.suggested], images[s.index].label
        for i in members[int(copies[s.index])]:
            given, path = images[i].label, images[i].path
            if given == label or path in evidence.decided or not (given == wrong or i in suspected):
                continue
            reason = f"labelled {given}, looks like {label} ({percent(s.probability, 0)})"
            if i != s.index:
                reason = f"the same image as {images[s.index].path}: {reason}"
            yield Correction(path, "relabel", label=label, reason=reason)


def _regroups(images: Sequence[ImageRecord], groups: NDArray[np.int64]) -> Iterator[Correction]:
    """Copies that only features detect; images that are kept together anyway need no row."""
    before = groups_of(images, range(len(images)))
    members: dict[int, list[int]] = defaultdict(list)
    for index, group in enumerate(groups.tolist()):
        members[group].append(index)
    taken = {image.group for image in images}
    numbers = (number for number in itertools.count(1) if f"copies-{number}" not in taken)
    for indices in members.values():
        if len({before[i] for i in indices}) < 2:
            continue
        number = next(numbers)
        for i in indices:
            other = images[indices[0] if i != indices[0] else indices[1]].path
            yield Correction(images[i].path, "regroup", group=f"copies-{number}", reason=f"looks the same as {other}")


def _pairs_of_classes(count: int) -> str:
    return "1 pair of classes is" if count == 1 else f"{count} pairs of classes are"
