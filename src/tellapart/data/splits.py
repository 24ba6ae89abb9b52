"""Images without a split -> train, validation, test: stratified, with copies and groups in one split, stored.

Splits that the source gives are kept. A test split that is missing is taken from the training images, then a
validation split from what remains. Who goes where follows from a hash of (seed, content), not from names or order: the
same images split the same way from any folder, and added images move few others.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable

from tellapart.data.catalog import SPLITS, ImageRecord, Split
from tellapart.data.duplicates import groups_of
from tellapart.task import split_labels

MINIMUM = 3
"""Images of the smallest class that can be in all three splits."""


def drawn_splits(given: Iterable[str]) -> frozenset[Split]:
    """The splits between which images may move when they are regrouped: those that the source does not give, and train,
    from which they are drawn. given: the split of each image in its source, empty if none.

    >>> sorted(drawn_splits(["train", "test"])), sorted(drawn_splits(["train", "test", "validation"]))
    (['train', 'validation'], [])
    """
    drawn = frozenset(SPLITS) - (set(given) - {"train"})
    return drawn if len(drawn) > 1 else frozenset()


def assign_splits(
    images: Iterable[ImageRecord],
    *,
    seed: int,
    test_fraction: float,
    validation_fraction: float,
    several: bool = False,
) -> tuple[ImageRecord, ...]:
    """Every usable image with its split; a broken one has none.

    test_fraction: of all images; validation_fraction: of the remaining training images; both in 0..1. A class with at
    least three groups has one or more in each split; with fewer it is only in train. several: whether an image may have
    several labels: then each of them is drawn in this proportion.
    """
    rows = list(images)
    usable = [index for index, image in enumerate(rows) if not image.error]
    given = {rows[index].split for index in usable} - {""}
    split = {index: rows[index].split or ("train" if given else "") for index in usable}
    free = [index for index in usable if split[index] in ("", "train")]
    groups = groups_of(rows, usable)
    if not given:
        split.update(dict.fromkeys(free, "train"))
    for name, fraction in (("test", test_fraction), ("validation", validation_fraction)):
        if name in given or fraction == 0:
            continue
        pool = [index for index in free if split[index] == "train"]
        # Each class keeps a group for training, and one for validation if that is still to be drawn.
        behind = 2 if name == "test" and "validation" not in given else 1
        members: dict[int, list[int]] = defaultdict(list)
        for index in pool:
            members[groups[index]].append(index)
        draw = _draw_labels if several else _draw
        for index in draw(rows, list(members.values()), f"{seed}/{name}", fraction, behind):
            split[index] = name
    return tuple(image.in_split(split.get(index, "")) for index, image in enumerate(rows))


def _draw(rows: list[ImageRecord], groups: list[list[int]], purpose: str, fraction: float, behind: int) -> list[int]:
    """The fraction of each class that is drawn, whole groups only; a group counts for its most frequent class.

    `behind` groups of each class stay, and a class with no more than these gives none.
    """
    by_class: dict[str, list[list[int]]] = defaultdict(list)
    for indices in groups:
        labels = [rows[index].label for index in indices]
        most = labels[0] if len(labels) == 1 else max(sorted(set(labels)), key=labels.count)
        by_class[most].append(indices)
    drawn: list[int] = []
    for label in sorted(by_class):
        candidates = sorted(by_class[label], key=lambda indices: _rank(rows, indices, purpose))
        may_go = max(0, len(candidates) - behind)
        # A group of more than twice the share would overshoot by more than it helps: it stays, unless all are so large.
        limit = max(1, 2 * fraction * sum(map(len, candidates)))
        fitting = [indices for indices in candidates if len(indices) <= limit]
        fitting = fitting or [min(candidates, key=len)]
        wanted = max(1, round(fraction * sum(map(len, fitting))))
        taken = 0
        for indices in fitting[:may_go]:
            if taken >= wanted:
                break
            if taken and taken + len(indices) - wanted > wanted - taken:
                continue
            drawn.extend(indices)
            taken += len(indices)
    return drawn


def _draw_labels(
    rows: list[ImageRecord], groups: list[list[int]], purpose: str, fraction: float, behind: int
) -> list[int]:
    """The fraction of each label that is drawn, whole groups only: iterative stratification (Sechidis, Tsoumakas,
    Vlahavas, ECML PKDD 2011). The label with the fewest groups left is shared out first, each of its groups to the side
    that lacks it most.

    `behind` groups of each label stay, and one or more is drawn of a label with more groups than these.
    """
    ranked = sorted(groups, key=lambda indices: _rank(rows, indices, purpose))
    held = [Counter(name for index in indices for name in split_labels(rows[index].label)) for indices in ranked]
    having = Counter(name for labels in held for name in labels)
    images = sum(held, Counter())
    least = {name: images[name] / count for name, count in having.items() if count > behind}  # about one group of it
    lacking = {
        name: [count - max(fraction * count, least.get(name, 0)), max(fraction * count, least.get(name, 0))]
        for name, count in images.items()
    }
    room = [(1 - fraction) * sum(map(len, ranked)), fraction * sum(map(len, ranked))]
    may_go = {name: max(0, count - behind) for name, count in having.items()}
    left, drawn = set(range(len(ranked))), []

    def place(number: int, name: str) -> None:
        """A group, to the side that lacks this label most, or images where both lack it as much."""
        there, labels = lacking.get(name, room), held[number]
        goes = (there[1], room[1]) > (there[0], room[0]) and all(may_go[each] for each in labels)
        if goes:
            drawn.extend(ranked[number])
            may_go.update({each: may_go[each] - 1 for each in labels})
        for each, count in labels.items():
            lacking[each][int(goes)] -= count
        room[int(goes)] -= len(ranked[number])
        left.remove(number)
        having.subtract(labels.keys())

    while any(count > 0 for count in having.values()):
        rarest = min((count, name) for name, count in having.items() if count > 0)[1]
        for number in [number for number in sorted(left) if rarest in held[number]]:
            place(number, rarest)
    for number in sorted(left):  # of no label
        place(number, "")
    return drawn


def _rank(rows: list[ImageRecord], indices: list[int], purpose: str) -> bytes:
    content = min(rows[index].digest for index in indices)
    return hashlib.blake2b(f"{purpose}/{content}".encode(), digest_size=16).digest()
