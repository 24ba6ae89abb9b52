"""Images -> copies of each other, byte for byte or near-duplicates, and which of them leak between splits.

Never imports Keras.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np

from tellapart.data.catalog import SPLITS, ImageRecord, Split
from tellapart.data.perceptual_hash import BITS, SURELY, close_pairs

Pair = tuple[ImageRecord, ImageRecord]

MANY = 50
"""Pairs of two labels that differ in as many bits, or one for a thousand images: fewer are no sign of chance."""


def groups_of(rows: Sequence[ImageRecord], usable: Iterable[int]) -> list[int]:
    """A group number for each image: those with the same content, the same given group or nearly the same looks share
    one. An image that is not usable is alone.

    Similarity is judged generously: a wrong pair only keeps two images in the same split.
    """
    parent = list(range(len(rows)))

    def find(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    places = list(usable)
    first: dict[tuple[str, str], int] = {}
    for index in places:
        for key in (("digest", rows[index].digest), ("group", rows[index].group)):
            if key[1]:
                parent[find(index)] = find(first.setdefault(key, index))
    for one, other, _ in _alike([rows[index] for index in places]):
        parent[find(places[one])] = find(places[other])
    return [find(index) for index in range(len(rows))]


def near_copies(images: Sequence[ImageRecord]) -> list[Pair]:
    """Pairs that look the same and are not byte-identical, as certain as fingerprints alone can be."""
    usable = [image for image in images if not image.error]
    pairs = ((usable[one], usable[other]) for one, other in sure_pairs(usable))
    return [pair for pair in pairs if pair[0].digest != pair[1].digest]


def sure_pairs(usable: Sequence[ImageRecord]) -> list[tuple[int, int]]:
    """Positions of images that look the same, as certain as fingerprints alone can be; including byte-identical
    ones."""
    return [(one, other) for one, other, bits in _alike(usable) if bits <= SURELY[len(usable[one].fingerprint)]]


def _alike(usable: Sequence[ImageRecord]) -> Sequence[tuple[int, int, int]]:
    """The pairs that look alike, without those that do so by chance."""
    return _not_by_chance(tuple(image.fingerprint for image in usable), tuple(image.label for image in usable))


@lru_cache(maxsize=4)  # splits and checks ask for the same images
def _not_by_chance(fingerprints: tuple[str, ...], of: tuple[str, ...]) -> Sequence[tuple[int, int, int]]:
    """The close pairs, without those that are close by chance: these grow with the square of the number of images, and
    where images show little, their chains would put most of them into one split.

    A copy has the label of its original, images that are alike by chance have any two. So the pairs of two labels tell
    how many are alike by chance: if they are many, and would be more than half of those that differ in so many bits,
    such and larger differences are not taken.
    """
    found = close_pairs(fingerprints)
    many = max(MANY, len(fingerprints) // 1000)
    if len(found) <= many:
        return found
    numbers: dict[str, int] = {}
    labels = np.array([numbers.setdefault(label, len(numbers)) for label in of])
    by_chance = 1 - ((np.bincount(labels) / len(labels)) ** 2).sum()
    one, other, bits = np.array(found).T
    digits = np.array([len(fingerprints[place]) for place in one])
    taken = np.ones(len(found), bool)
    for each in SURELY:
        of_size = digits == each
        differing = np.bincount(bits[of_size & (labels[one] != labels[other])], minlength=BITS)
        doubtful = (differing > many) & (2 * differing > by_chance * np.bincount(bits[of_size], minlength=BITS))
        if doubtful.any():
            taken &= ~of_size | (bits < doubtful.argmax())
    return [found[place] for place in np.flatnonzero(taken)]


def parted(images: Sequence[ImageRecord]) -> list[Pair]:
    """Copies, byte-identical or visually the same, in two splits: pairs, the one of the earlier split first.

    Of many identical files, each is paired with one in the latest split that has one.
    """
    usable = [image for image in images if not image.error]
    latest: dict[str, ImageRecord] = {}
    for image in sorted(usable, key=lambda image: SPLITS.index(image.split)):
        latest[image.digest] = image
    pairs = [*((image, latest[image.digest]) for image in usable), *near_copies(usable)]
    return [in_order_of_splits(pair) for pair in pairs if pair[0].split != pair[1].split]


def in_order_of_splits(pair: Pair) -> Pair:
    """train before validation before test."""
    one, other = sorted(pair, key=lambda image: SPLITS.index(image.split))
    return one, other


def leaks(judged: Sequence[ImageRecord], seen: Sequence[ImageRecord]) -> dict[str, str]:
    """Path of each judged image that is a copy of a seen one, or of its group -> that one's path. All are usable."""
    first: dict[tuple[str, str], str] = {}
    for image in seen:
        for key in (("digest", image.digest), ("group", image.group)):
            if key[1]:
                first.setdefault(key, image.path)
    found: dict[str, str] = {}
    for image in judged:
        known = first.get(("digest", image.digest)) or first.get(("group", image.group))
        if known is not None:
            found[image.path] = known
    own = {id(image) for image in judged}
    for one, other in near_copies([*judged, *seen]):
        if (id(one) in own) != (id(other) in own):
            inside, outside = (one, other) if id(one) in own else (other, one)
            found.setdefault(inside.path, outside.path)
    return found


def seen_before(images: Sequence[ImageRecord], split: Split) -> list[ImageRecord]:
    """The images that a run used before it is evaluated on a split: training and, for the test split, validation."""
    splits = {"test": ("train", "validation"), "validation": ("train",), "train": ()}[split]
    return [image for image in images if image.split in splits and not image.error]
