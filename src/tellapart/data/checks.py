"""Pictures -> findings: broken, duplicate, contradicting, leaking, imbalanced, too few, odd. No file is changed.

Each check takes the pictures with their splits and yields findings; CHECKS is the table of all. Read by: api.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from tellapart.data.catalog import SPLITS, Picture, Split
from tellapart.data.duplicates import Pair, near_copies
from tellapart.data.findings import Finding, Severity
from tellapart.data.splits import MINIMUM

FEW = 20
IMBALANCE = 1.5
TINY = 32
ELONGATED = 4


def find_all(pictures: Sequence[Picture], known: Iterable[Finding] = ()) -> tuple[Finding, ...]:
    """All findings, those that the source gave among them, the gravest first."""
    return in_order_of_gravity([*known, *(finding for check in CHECKS for finding in check(pictures))])


def in_order_of_gravity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = {"error": 0, "warning": 1, "note": 2}
    return tuple(sorted(findings, key=lambda finding: order[finding.severity]))


def broken(pictures: Sequence[Picture]) -> Iterator[Finding]:
    rows = [p for p in pictures if p.error]
    if rows:
        reasons = Counter(p.error.partition(":")[0] for p in rows)
        why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        yield Finding(
            "broken",
            "warning",
            tuple(f"{p.path} ({p.error})" for p in rows),
            f"{_pictures(len(rows), 'cannot', 'cannot')} be decoded: {why}.",
            "Left out of training and evaluation; the files are untouched.",
        )


def duplicates(pictures: Sequence[Picture]) -> Iterator[Finding]:
    """The same bytes under several names: in one class, under two labels, in two splits."""
    same: dict[str, list[Picture]] = defaultdict(list)
    for p in pictures:
        if not p.error:
            same[p.digest].append(p)
    sets = [rows for rows in same.values() if len(rows) > 1]
    contradicting = [rows for rows in sets if len({p.label for p in rows}) > 1]
    across = [rows for rows in sets if len({p.split for p in rows}) > 1]
    plain = [rows for rows in sets if rows not in contradicting and rows not in across]
    if contradicting:
        yield Finding(
            "contradicting-labels",
            "error",
            tuple(" = ".join(f"{p.path} [{p.label}]" for p in rows) for rows in contradicting),
            f"{_pictures(len(contradicting), 'stands', 'stand')} under two labels, so one of each is wrong.",
            "Kept, on one side of the split. Remove or move the wrong copy.",
        )
    yield from _leaks("leaking", across, " = ", "byte for byte")
    if plain:
        yield Finding(
            "duplicate",
            "note",
            tuple(" = ".join(p.path for p in rows) for rows in plain),
            f"{_pictures(len(plain), 'is', 'are')} there more than once, byte for byte.",
            "Kept on one side of the split.",
        )


def near_duplicates(pictures: Sequence[Picture]) -> Iterator[Finding]:
    """Copies that were recompressed, resized, brightened or mirrored, as far as looks alone tell."""
    yield from near_findings(near_copies(pictures))


def near_findings(
    pairs: Iterable[Pair], by_features: Collection[Pair] = (), drawn: Collection[str] = ()
) -> Iterator[Finding]:
    """What is to be said of pictures that look the same: under two labels, in two splits, or neither.

    by_features: those of the pairs that fingerprints do not show. drawn: the splits that were drawn here, among which
    fingerprints are never parted, and the others only until they are regrouped.
    """
    contradicting: list[str] = []
    plain: list[str] = []
    across: list[Pair] = []
    separated: list[Pair] = []
    hidden = 0
    for pair in pairs:
        one, other = pair
        if one.label != other.label:
            contradicting.append(f"{one.path} [{one.label}] ~ {other.path} [{other.label}]")
        if one.split != other.split:
            (separated if {one.split, other.split} <= set(drawn) else across).append(pair)
        elif one.label == other.label:
            plain.append(f"{one.path} ~ {other.path}")
            hidden += pair in by_features
    if contradicting:
        yield Finding(
            "near-contradicting-labels",
            "warning",
            tuple(contradicting),
            f"{_pairs(len(contradicting))} under two labels, so one of each may be wrong.",
            "Kept. Look at them, and relabel or drop the wrong one.",
        )
    yield from _leaks("near-leaking", across, " ~ ", "to the eye")
    if separated:
        yield Finding(
            "near-separated",
            "warning",
            tuple(" ~ ".join(f"{p.path} [{p.split}]" for p in pair) for pair in separated),
            f"{_pairs(len(separated))} by their features alone, and the split that is drawn here parts them: accuracy "
            "is optimistic (leakage).",
            "check --deep --write FILE groups them, and train --corrections FILE then keeps them together.",
        )
    if plain:
        alone = f", {hidden} of them by their features alone" if hidden else ""
        yield Finding(
            "near-duplicate",
            "note",
            tuple(plain),
            f"{_pairs(len(plain))} on one side of the split{alone}.",
            "Kept there.",
        )


def _leaks(kind: str, copies: Sequence[Sequence[Picture]], sign: str, how: str) -> Iterator[Finding]:
    """Of copies across splits: what leaks into test makes accuracy optimistic, what leaks into validation only the
    choice of the model. Splits that are drawn here part no copies, so these were given."""
    into: dict[bool, list[Sequence[Picture]]] = defaultdict(list)
    for rows in copies:
        into[any(p.split == "test" for p in rows)].append(rows)
    kinds: tuple[tuple[str, Severity, list[Sequence[Picture]], str, str], ...] = (
        (
            kind,
            "error",
            into[True],
            f"{_with_copies(into[True], 'test')}, {how}: test accuracy is optimistic (leakage).",
            "Evaluation also reports the accuracy without them. ",
        ),
        (
            f"{kind}-validation",
            "warning",
            into[False],
            f"{_with_copies(into[False], 'validation')}, {how}: the choice of the model is optimistic (leakage), test "
            "accuracy is not.",
            "",
        ),
    )
    for name, severity, found, meaning, also in kinds:
        if found:
            paths = tuple(sign.join(f"{p.path} [{p.split}]" for p in rows) for rows in found)
            done = f"The given splits are kept. {also}Drop one of each: check --deep --write FILE proposes which."
            yield Finding(name, severity, paths, meaning, done)


def _with_copies(copies: Sequence[Sequence[Picture]], split: Split) -> str:
    """How many images of a split have copies, and where."""
    where: dict[str, str] = {}
    for rows in copies:
        place = "training" if any(p.split == "train" for p in rows) else "validation"
        for p in rows:
            if p.split == split and where.get(p.path) != "training":
                where[p.path] = place
    counts = Counter(where.values())
    if len(counts) > 1:
        places = " and ".join(f"in {name} ({count})" for name, count in counts.most_common())
    else:
        places = f"in {next(iter(counts), '')}"
    return (
        f"1 {split} image has a copy {places}"
        if len(where) == 1
        else f"{len(where)} {split} images have copies {places}"
    )


def _pairs(count: int) -> str:
    return "1 pair looks the same" if count == 1 else f"{count} pairs look the same"


def balance(pictures: Sequence[Picture]) -> Iterator[Finding]:
    counts = Counter(p.label for p in pictures if not p.error)
    if not counts:
        return
    largest, most = counts.most_common()[0]
    smallest, least = counts.most_common()[-1]
    if most > IMBALANCE * least:
        yield Finding(
            "imbalanced",
            "warning" if most > 10 * least else "note",
            (),
            f"{largest!r} has {most} pictures, {smallest!r} has {least}.",
            "Training weighs the classes so that each counts the same (train.class_weights); "
            "read balanced accuracy and macro-F1 beside accuracy.",
        )


def few(pictures: Sequence[Picture]) -> Iterator[Finding]:
    """Classes too small to split, or to believe."""
    counts = Counter(p.label for p in pictures if not p.error)
    hopeless = [label for label in sorted({p.label for p in pictures}) if counts[label] < MINIMUM]
    scarce = [label for label, count in sorted(counts.items()) if MINIMUM <= count < FEW]
    if hopeless:
        yield Finding(
            "too-few",
            "error",
            tuple(f"{label} ({counts[label]})" for label in hopeless),
            f"A class needs at least {MINIMUM} usable pictures, one each to train, validate and test.",
            (
                "Kept, though no figure tells how well they are recognised. "
                if all(map(counts.get, hopeless))
                else "Training refuses a class without any. "
            )
            + "Add pictures, or take the class out.",
        )
    if scarce:
        yield Finding(
            "few",
            "warning",
            tuple(f"{label} ({counts[label]})" for label in scarce),
            f"Under {FEW} pictures a class make every figure vague: read the intervals.",
        )
    if not hopeless:
        for split in SPLITS:
            there = {p.label for p in pictures if not p.error and p.split == split}
            lacking = [label for label in sorted(counts) if label not in there]
            if lacking:
                yield Finding(
                    f"class-not-in-{split}",
                    "error" if split == "train" else "warning",
                    tuple(lacking),
                    f"{len(lacking)} of {len(counts)} classes have no picture in {split}.",
                    "Training refuses." if split == "train" else f"Nothing can be said of them on {split}.",
                )


def alike(pictures: Sequence[Picture]) -> Iterator[Finding]:
    """Classes whose names differ in capitals, blanks, dashes and the like alone: most often one class, typed twice."""
    named: dict[str, list[str]] = defaultdict(list)
    for label in sorted({p.label for p in pictures}):
        plain = re.sub(r"[\s_-]+", " ", unicodedata.normalize("NFKC", label).casefold())
        named[plain if len(plain) > 1 else label].append(label)  # A and a are letters, which one may wish to tell apart
    groups = [labels for labels in named.values() if len(labels) > 1]
    if groups:
        yield Finding(
            "class-names-alike",
            "warning",
            tuple(" = ".join(map(repr, labels)) for labels in groups),
            f"{sum(map(len, groups))} classes have names that differ in capitals, blanks or dashes alone.",
            "Kept apart, so each is learnt against the others. If they are one class, write its name in one way.",
        )


def odd(pictures: Sequence[Picture]) -> Iterator[Finding]:
    usable = [p for p in pictures if not p.error]
    small = [p for p in usable if min(p.width, p.height) < TINY]
    # A collection of small pictures is one; a few small ones among large ones are odd.
    if small and len(small) < len(usable) / 2:
        yield Finding(
            "tiny",
            "warning",
            tuple(f"{p.path} ({p.width}x{p.height})" for p in small),
            f"{_pictures(len(small), 'is', 'are')} under {TINY} pixels on a side, unlike most here.",
            "Kept. Look at them.",
        )
    long = [p for p in usable if max(p.width, p.height) > ELONGATED * min(p.width, p.height)]
    if long:
        yield Finding(
            "elongated",
            "note",
            tuple(f"{p.path} ({p.width}x{p.height})" for p in long),
            f"{_pictures(len(long), 'is', 'are')} over {ELONGATED} times as long as wide.",
            "Kept; with image.fit=squash they are distorted most, image.fit=pad keeps their shape.",
        )


def _pictures(count: int, one: str, many: str) -> str:
    """A count of pictures with its verb."""
    return f"1 picture {one}" if count == 1 else f"{count} pictures {many}"


CHECKS: tuple[Callable[[Sequence[Picture]], Iterable[Finding]], ...] = (
    broken, duplicates, near_duplicates, alike, balance, few, odd
)  # fmt: skip
