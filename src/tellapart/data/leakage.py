"""Copies and groups of images -> findings: contradicting labels, leakage between splits, plain duplicates."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

from tellapart.data.catalog import ImageRecord, Split
from tellapart.data.duplicates import Pair, near_copies
from tellapart.data.findings import Finding, Severity, images_that


@dataclass(frozen=True, slots=True)
class Tie:
    """A relation between images: its words for one image and for several, and what to do if splits separate them."""

    one: str
    many: str
    advice: str


COPY = Tie("a copy", "copies", "Drop one of each: check --deep --write FILE proposes which.")
GROUP = Tie(
    "others of its group",
    "others of their groups",
    "Give the images without splits: random splits keep groups together.",
)


def duplicates(images: Sequence[ImageRecord]) -> Iterator[Finding]:
    """Identical files under several names: in one class, with two labels, in two splits."""
    # Few are copies: a list for each image would take most of the time.
    earliest: dict[str, int] = {}
    same: dict[int, list[ImageRecord]] = {}
    for place, p in enumerate(images):
        if not p.error:
            first = earliest.setdefault(p.digest, place)
            if first != place:
                same.setdefault(first, [images[first]]).append(p)
    sets = [same[first] for first in sorted(same)]
    contradicting: list[list[ImageRecord]] = []
    across: list[list[ImageRecord]] = []
    plain: list[list[ImageRecord]] = []
    for rows in sets:
        labels, splits = {p.label for p in rows}, {p.split for p in rows}
        if len(labels) > 1:
            contradicting.append(rows)
        if len(splits) > 1:
            across.append(rows)
        if len(labels) == len(splits) == 1:
            plain.append(rows)
    if contradicting:
        yield Finding(
            "contradicting-labels",
            "error",
            tuple(" = ".join(f"{p.path} [{p.label}]" for p in rows) for rows in contradicting),
            f"{images_that(len(contradicting), 'stands', 'stand')} under two labels, so one label of each is wrong.",
            "Kept, in one split. Remove or move the wrong copy.",
        )
    yield from leak_findings("leaking", across, " = ", COPY, ", byte for byte")
    if plain:
        yield Finding(
            "duplicate",
            "note",
            tuple(" = ".join(p.path for p in rows) for rows in plain),
            f"{images_that(len(plain), 'is', 'are')} present more than once, byte for byte.",
            "Kept, in one split.",
        )


def near_duplicates(images: Sequence[ImageRecord]) -> Iterator[Finding]:
    """Copies that were recompressed, resized, brightened or mirrored, as far as fingerprints alone can tell."""
    yield from near_findings(near_copies(images))


def near_findings(
    pairs: Iterable[Pair], by_features: Collection[Pair] = (), drawn: Collection[str] = ()
) -> Iterator[Finding]:
    """Findings about images that look the same: with two labels, in two splits, or neither.

    by_features: those of the pairs that fingerprints do not detect. drawn: the splits that were drawn here, which never
    separate pairs found by fingerprints, and pairs found by features only until they are regrouped.
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
            f"{_pairs(len(contradicting))} under two labels, so one label of each may be wrong.",
            "Kept. Inspect them, and relabel or drop the wrong one.",
        )
    yield from leak_findings("near-leaking", across, " ~ ", COPY, ", to the eye")
    if separated:
        yield Finding(
            "near-separated",
            "warning",
            tuple(" ~ ".join(f"{p.path} [{p.split}]" for p in pair) for pair in separated),
            f"{_pairs(len(separated))} by their features alone, and the random split separates them: accuracy "
            "is optimistic (leakage).",
            "check --deep --write FILE groups them, and train --corrections FILE then keeps them together.",
        )
    if plain:
        alone = f", {hidden} of them by their features alone" if hidden else ""
        yield Finding(
            "near-duplicate",
            "note",
            tuple(plain),
            f"{_pairs(len(plain))} in one split{alone}.",
            "Kept there.",
        )


def leak_findings(
    kind: str, parted: Sequence[Sequence[ImageRecord]], sign: str, tie: Tie, how: str = ""
) -> Iterator[Finding]:
    """Findings about related images in two splits: leakage into test makes test accuracy optimistic, leakage into
    validation only the choice of the model.

    Splits drawn here separate none, so these were given. sign: joins their paths. how: what the relation is based on.
    """
    into: dict[bool, list[Sequence[ImageRecord]]] = defaultdict(list)
    for rows in parted:
        into[any(p.split == "test" for p in rows)].append(rows)
    chosen = "the choice of the model is optimistic (leakage), test accuracy is not"
    kinds: tuple[tuple[str, Severity, Split, str, str], ...] = (
        (kind, "error", "test", "test accuracy is optimistic (leakage)", "Evaluation also reports it without them. "),
        (f"{kind}-validation", "warning", "validation", chosen, ""),
    )
    for name, severity, split, harm, also in kinds:
        if found := into[split == "test"]:
            paths = tuple(sign.join(f"{p.path} [{p.split}]" for p in rows) for rows in found)
            done = f"The given splits are kept. {also}{tie.advice}"
            yield Finding(name, severity, paths, f"{tied(found, split, tie)}{how}: {harm}.", done)


def tied(parted: Iterable[Sequence[ImageRecord]], split: Split, tie: Tie) -> str:
    """How many images of a split have related ones, and in which splits."""
    where: dict[str, str] = {}
    for rows in parted:
        place = "training" if any(p.split == "train" for p in rows) else "validation"
        for p in rows:
            if p.split == split and where.get(p.path) != "training":
                where[p.path] = place
    counts = Counter(where.values()).most_common()
    named = " and ".join(f"in {place} ({count})" if len(counts) > 1 else f"in {place}" for place, count in counts)
    one = len(where) == 1
    return f"1 {split} image has {tie.one} {named}" if one else f"{len(where)} {split} images have {tie.many} {named}"


def _pairs(count: int) -> str:
    return "1 pair looks the same" if count == 1 else f"{count} pairs look the same"
