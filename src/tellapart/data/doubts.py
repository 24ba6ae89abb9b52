"""Checked images -> doubts: what a person should look at, one after the other, with what is proposed.

In: a catalog, what a deep check found, and labels that a run's predictions make suspect. Out: plain values, the gravest
first. Never imports Keras.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tellapart.data.catalog import Catalog, ImageRecord, Split
from tellapart.data.corrections import Correction
from tellapart.data.deep_checks import Deep
from tellapart.data.duplicates import sure_pairs
from tellapart.data.groups import METHODS
from tellapart.data.neighbours import FAR
from tellapart.data.quality import FAULTS
from tellapart.words import counted, percent

KINDS = {
    "contradicting": "Copies under two labels",
    "suspect": "Labels that look wrong",
    "leaking": "Copies across splits",
    "blank": "Blank images",
    "dark": "Dark images",
    "blurred": "Blurred images",
    "damaged": "Damaged images",
    "outlier": "Outliers",
    "burst": "Bursts",
}
"""In words, in the order in which they are shown."""

BURST = 3
"""Images in a row that look alike, from which they are taken for a burst."""

MOST = 9
"""Likely classes of a doubt: as many as there are keys."""

Likely = tuple[tuple[str, float | None], ...]
"""Classes, the likeliest first, each with its probability, or None where nothing is known."""


@dataclass(frozen=True)
class Doubt:
    """Images of which something may be wrong, for a person to decide. kind: of KINDS. paths: one, or those that are to
    be seen side by side. reason: in words. likely: at most MOST classes for the first image. proposed: what
    `check --deep` or the run would correct. together: whether a group would keep them in one split."""

    kind: str
    paths: tuple[str, ...]
    reason: str
    likely: Likely = ()
    proposed: tuple[Correction, ...] = ()
    together: bool = False

    @cached_property
    def key(self) -> str:
        """Equal for the same doubt of the same images, today and tomorrow."""
        text = "\0".join((self.kind, *self.paths))
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class SuspectLabel:
    """A label that looks wrong to a run. likely: classes with probabilities, the likeliest first."""

    path: str
    likely: Likely


def doubts_of(
    catalog: Catalog,
    deep: Deep | None = None,
    suspects: Sequence[SuspectLabel] = (),
    drawn: frozenset[Split] = frozenset(),
) -> tuple[Doubt, ...]:
    """Every doubt, by kind. deep: what a look into the images gave; without it, what fingerprints and suspects tell.
    suspects: of a run, on images that it did not learn. drawn: splits that move with the groups, so that copies
    across them can be kept together."""
    usable = tuple(image for image in catalog.images if not image.error)
    images = usable if deep is None else deep.images
    classes = catalog.task.classes
    proposed: dict[str, list[Correction]] = defaultdict(list)
    for row in () if deep is None else deep.corrections:
        proposed[row.path].append(row)
    likely = _likely(deep, classes)
    for suspect in suspects:
        likely.setdefault(suspect.path, suspect.likely)
    found = [
        *_pairs(images, sure_pairs(usable) if deep is None else deep.pairs.tolist(), drawn),
        *_suspects(images, classes, deep, suspects),
        *(() if deep is None else _odd(deep)),
        *(Doubt("damaged", (p.path,), f"Damaged: {p.warning}.") for p in usable if p.warning),
        *_bursts(usable, drawn),
    ]
    order = list(KINDS)
    found.sort(key=lambda doubt: order.index(doubt.kind))
    label_of = {image.path: image.label for image in usable}
    return tuple(
        _completed(doubt, likely, proposed, classes, [label_of[path] for path in doubt.paths if path in label_of])
        for doubt in found
    )


def _completed(
    doubt: Doubt,
    likely: Mapping[str, Likely],
    proposed: Mapping[str, Sequence[Correction]],
    classes: Sequence[str],
    labels: Sequence[str],
) -> Doubt:
    """labels: those that its images have, which are its likely classes where no network was asked."""
    known = doubt.likely or likely.get(doubt.paths[0]) or _with(labels, classes)
    rows = tuple(row for path in doubt.paths for row in proposed.get(path, ()))
    return replace(doubt, likely=known, proposed=rows or doubt.proposed)


def _with(labels: Sequence[str], classes: Sequence[str]) -> Likely:
    """These labels, then the other classes, as far as there are keys."""
    return tuple((name, None) for name in dict.fromkeys([*labels, *classes]))[:MOST]


def _likely(deep: Deep | None, classes: Sequence[str]) -> dict[str, Likely]:
    if deep is None:
        return {}
    known = np.flatnonzero(~np.isnan(deep.probabilities[:, 0]))
    order = np.argsort(-deep.probabilities[known], axis=1, kind="stable")[:, :MOST]
    return {
        deep.images[row].path: tuple((classes[c], float(deep.probabilities[row, c])) for c in best)
        for row, best in zip(known.tolist(), order.tolist(), strict=True)
    }


def _pairs(images: Sequence[ImageRecord], pairs: Iterable[Sequence[int]], drawn: frozenset[Split]) -> Iterator[Doubt]:
    for first, second in pairs:
        one, other = images[first], images[second]
        same = "The same file" if one.digest == other.digest else "The same image to the eye"
        splits = f"one in {one.split}, one in {other.split}"
        if one.label != other.label:
            apart = "" if one.split == other.split else f", {splits}"
            yield Doubt("contradicting", (one.path, other.path), f"{same}: {one.label} and {other.label}{apart}.")
        elif one.split != other.split:
            together = {one.split, other.split} <= drawn
            advice = "Keep them together, or drop one." if together else "Drop one, or accuracy is optimistic."
            reason = f"{same}, {splits}. {advice}"
            yield Doubt("leaking", (one.path, other.path), reason, together=together)


def _suspects(
    images: Sequence[ImageRecord], classes: Sequence[str], deep: Deep | None, suspects: Sequence[SuspectLabel]
) -> Iterator[Doubt]:
    labels = {image.path: image.label for image in images}
    told = set()
    for issue in () if deep is None else deep.suspects:
        image = images[issue.index]
        told.add(image.path)
        looks = f"{classes[issue.suggested]} ({percent(issue.probability, 0)})"
        yield Doubt("suspect", (image.path,), f"Labelled {image.label}; looks like {looks}.")
    for suspect in suspects:
        if suspect.path in labels and suspect.path not in told:
            name, value = suspect.likely[0]
            looks = f"{name} ({percent(value or 0.0, 0)})"
            reason = f"Labelled {labels[suspect.path]}; the run says {looks}."
            wanted = Correction(suspect.path, "relabel", label=name, reason=reason)
            yield Doubt("suspect", (suspect.path,), reason, suspect.likely, (wanted,))


def _odd(deep: Deep) -> Iterator[Doubt]:
    told = {
        "blank": "A single colour, or nearly.",
        "dark": "So dark that little can be seen.",
        "blurred": "Blurred.",
    }
    for kind in FAULTS:
        for place in deep.faulty[kind].tolist():
            yield Doubt(kind, (deep.images[place].path,), told[kind])
    for place in np.argsort(-deep.farness).tolist():
        if deep.farness[place] >= FAR:  # nan is no outlier
            yield Doubt("outlier", (deep.images[place].path,), "Unlike the other images. Does it belong here?")


def _bursts(images: Sequence[ImageRecord], drawn: frozenset[Split]) -> Iterator[Doubt]:
    runs: dict[str, list[str]] = defaultdict(list)
    for image, key in zip(images, METHODS["looks"].find(images), strict=True):
        if key and not image.group:
            runs[key].append(image.path)
    for paths in sorted(runs.values(), key=len, reverse=True):
        if len(paths) >= BURST:
            reason = f"{counted(len(paths), 'image')} in a row that look alike: a burst, or frames of a video."
            yield Doubt("burst", tuple(paths), reason, together=bool(drawn))
