"""Checks of images -> findings: broken, duplicate, contradicting, leaking, imbalanced, too few, odd. Changes no file.

Each check takes the images with their splits and yields findings; CHECKS is the table of all; those of plug-ins run
after them.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tellapart.data.catalog import SPLITS, ImageRecord, by_label
from tellapart.data.findings import Finding, images_that
from tellapart.data.leakage import duplicates, near_duplicates
from tellapart.data.splits import MINIMUM
from tellapart.errors import ConfigError, ImageError
from tellapart.tables import Table, origin

FEW = 20
IMBALANCE = 1.5
TINY = 32
ELONGATED = 4


def find_all(
    images: Sequence[ImageRecord], known: Iterable[Finding] = (), *, several: bool = False
) -> tuple[Finding, ...]:
    """All findings, including those of the source, the most severe first. several: whether images may have several
    labels; what is checked of a class then counts an image for each of its labels."""
    checks, left_out = CHECKS.load_all()
    chosen = [check for check in checks if not (several and check.one_label)]
    each = by_label(images) if several else images
    found = [finding for check in chosen for finding in _findings(check, each if check.by_class else images)]
    return in_order_of_gravity([*known, *found, *map(_left_out, left_out.values())])


def _left_out(reason: str) -> Finding:
    return Finding("check-left-out", "warning", (), reason, "The other checks ran.")


def _findings(check: Check, images: Sequence[ImageRecord]) -> list[Finding]:
    """The findings of one check; if a check of a plug-in fails, only that check is lost."""
    by = origin(CHECKS.kind, check.name)
    if by is None:
        return list(check.find(images))
    try:
        return list(check.find(images))
    except Exception as error:  # noqa: BLE001 - a plug-in may raise anything
        meaning = f"The check {check.name!r} of the plug-in {by} failed: {type(error).__name__}: {error}"
        return [_left_out(meaning)]


def in_order_of_gravity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(findings, key=lambda finding: order[finding.severity]))


def broken(images: Sequence[ImageRecord]) -> Iterator[Finding]:
    rows = [p for p in images if p.error]
    if rows:
        reasons = Counter(ImageError.reason_of(p.error) for p in rows)
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        yield Finding(
            "broken",
            "warning",
            tuple(f"{p.path} ({p.error})" for p in rows),
            f"{images_that(len(rows), 'cannot', 'cannot')} be decoded: {why}.",
            "Left out of training and evaluation; the files are untouched.",
        )


def damaged(images: Sequence[ImageRecord]) -> Iterator[Finding]:
    rows = [p for p in images if p.warning and not p.error]
    if rows:
        yield Finding(
            "damaged",
            "warning",
            tuple(f"{p.path} ({p.warning})" for p in rows),
            f"{images_that(len(rows), 'is', 'are')} damaged but can still be decoded: parts may be grey or noise.",
            "Kept. Inspect them; data.damaged=leave-out leaves them out.",
        )


def balance(images: Sequence[ImageRecord]) -> Iterator[Finding]:
    counts = Counter(p.label for p in images if not p.error)
    if not counts:
        return
    largest, most = counts.most_common()[0]
    smallest, least = counts.most_common()[-1]
    if most > IMBALANCE * least:
        yield Finding(
            "imbalanced",
            "warning" if most > 10 * least else "note",
            (),
            f"{largest!r} has {most} images, {smallest!r} has {least}.",
            "Training weighs the classes so that each counts the same (train.class_weights); "
            "read balanced accuracy and macro-F1 beside accuracy.",
        )


def few(images: Sequence[ImageRecord]) -> Iterator[Finding]:
    """Classes with too few images to split, or for a reliable accuracy."""
    counts = Counter(p.label for p in images if not p.error)
    hopeless = [label for label in sorted({p.label for p in images}) if counts[label] < MINIMUM]
    scarce = [label for label, count in sorted(counts.items()) if MINIMUM <= count < FEW]
    if hopeless:
        yield Finding(
            "too-few",
            "error",
            tuple(f"{label} ({counts[label]})" for label in hopeless),
            f"A class needs at least {MINIMUM} usable images, one each to train, validate and test.",
            (
                "Kept, but no metric tells how well they are recognised. "
                if all(map(counts.get, hopeless))
                else "Training refuses a class without images. "
            )
            + "Add images, or remove the class.",
        )
    if scarce:
        yield Finding(
            "few",
            "warning",
            tuple(f"{label} ({counts[label]})" for label in scarce),
            f"Under {FEW} images a class make every figure vague: read the intervals.",
        )
    if not hopeless:
        for split in SPLITS:
            there = {p.label for p in images if not p.error and p.split == split}
            lacking = [label for label in sorted(counts) if label not in there]
            if lacking:
                yield Finding(
                    f"class-not-in-{split}",
                    "error" if split == "train" else "warning",
                    tuple(lacking),
                    f"{len(lacking)} of {len(counts)} classes have no image in {split}.",
                    "Training refuses." if split == "train" else f"They cannot be evaluated on {split}.",
                )


def alike(images: Sequence[ImageRecord]) -> Iterator[Finding]:
    """Classes whose names differ only in case, spaces, dashes and the like: usually one class, spelled in two ways."""
    named: dict[str, list[str]] = defaultdict(list)
    for label in sorted({p.label for p in images}):
        plain = re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", label).casefold())
        named[plain if len(plain) > 1 else label].append(label)  # A and a are letters, which may be different classes
    groups = [labels for labels in named.values() if len(labels) > 1]
    if groups:
        yield Finding(
            "class-names-alike",
            "warning",
            tuple(" = ".join(map(repr, labels)) for labels in groups),
            f"{sum(map(len, groups))} classes have names that differ only in case, spaces or dashes.",
            "Kept as separate classes, which the network learns to tell apart. If they are one class, use one "
            "spelling.",
        )


def odd(images: Sequence[ImageRecord]) -> Iterator[Finding]:
    usable = [p for p in images if not p.error]
    small = [p for p in usable if min(p.width, p.height) < TINY]
    # A collection of small images is normal; a few small ones among large ones are odd.
    if small and len(small) < len(usable) / 2:
        yield Finding(
            "tiny",
            "warning",
            tuple(f"{p.path} ({p.width}x{p.height})" for p in small),
            f"{images_that(len(small), 'is', 'are')} under {TINY} pixels on a side, unlike most here.",
            "Kept. Inspect them.",
        )
    long = [p for p in usable if max(p.width, p.height) > ELONGATED * min(p.width, p.height)]
    if long:
        yield Finding(
            "elongated",
            "note",
            tuple(f"{p.path} ({p.width}x{p.height})" for p in long),
            f"{images_that(len(long), 'is', 'are')} more than {ELONGATED} times as long as wide.",
            "Kept; with image.fit=squash they are distorted most, image.fit=pad keeps their shape.",
        )


@dataclass(frozen=True)
class Check:
    """A row of CHECKS. find: images with their splits -> findings. by_class: whether it is about the classes, so that
    an image with several labels counts for each. one_label: whether it makes sense only of one label an image."""

    name: str
    find: Callable[[Sequence[ImageRecord]], Iterable[Finding]]
    by_class: bool = False
    one_label: bool = False


_OF_CLASSES = (alike, balance, few)


CHECKS: Table[Check] = Table(
    "checks",
    "check",
    Check,
    ConfigError,
    [
        Check(find.__name__.replace("_", "-"), find, by_class=find in _OF_CLASSES, one_label=find is balance)
        for find in (broken, damaged, duplicates, near_duplicates, alike, balance, few, odd)
    ],
)
