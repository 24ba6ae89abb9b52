"""A 128-bit perceptual hash of an image: similar for recompressed, resized, brightened or mirrored copies.

In: the small grey image from the scan's decoding. Out: 32 hexadecimal digits for the catalog, and pairs of images whose
fingerprints are close.

A perceptual hash as described by Zauner ("Implementation and Benchmarking of Perceptual Image Hash Functions", 2010):
signs of the lowest frequencies of a cosine transform, without the mean. Compared with zero, not with their median, so
that mirroring flips exactly the bits of odd horizontal frequencies: one fingerprint serves both orientations.
(imagehash would resize each image again, which takes longer than all of this.)

128 bits do not separate small images of one kind: these have 256, whose first half is the same, and fewer may differ.
In the smallest images noise is as large as the content: their hash is a digest of the pixels, close only to an
identical one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

VERSION = 2
"""Raised if the hash of any file would change; stored hashes of other versions are discarded."""

BITS = 128
FLAT = 3.0
"""Grey levels: if the small image deviates less from its mean, its frequencies are noise."""

ALIKE = 26
"""Bits: most copies differ by fewer, two different photographs almost never (docs/trust.md)."""

SURELY = {32: 18, 64: 12}
"""Bits by number of digits: images whose fingerprints differ by at most this count as copies without comparing
features. Of 70,000 images of clothes of 28 x 28 (Fashion-MNIST), 54 pairs differ by 12 of 256 bits or fewer."""

SMALL = 32
"""Pixels of the shorter side: below, a fingerprint has 256 bits."""

SMALLEST = 24
"""Below, it is a digest."""

_FREQUENCIES = [(total - across, across) for total in range(1, 32) for across in range(total + 1)][: 2 * BITS]
_EVEN = np.array([across % 2 == 0 for _, across in _FREQUENCIES])
_EVEN_BYTES = np.packbits(_EVEN)
_PLACES = np.array([down * 32 + across for down, across in _FREQUENCIES])
_FEW = 8192
_BANDS, _BAND_CHOICE = 32, 40
_WINDOW = 60
_BLOCK = 1024
_SAMPLE = 100_000
_SPREADS = 6.4


def fingerprint(thumbnail: NDArray[np.uint8], side: int = SMALL) -> str:
    """32 hexadecimal digits of a grey image (32, 32); 64 if the shorter side of the image itself has fewer than SMALL
    pixels; empty for a flat image, which resembles every other.

    >>> fingerprint(np.zeros((32, 32), np.uint8))
    ''
    """
    _, spread = cv2.meanStdDev(thumbnail)
    if spread[0, 0] < FLAT:
        return ""
    if side < SMALLEST:
        return hashlib.blake2b(thumbnail.tobytes(), digest_size=2 * BITS // 8).hexdigest()
    transformed = cv2.dct(thumbnail.astype(np.float32)).reshape(-1)
    return np.packbits(transformed[_PLACES[: BITS if side >= SMALL else 2 * BITS]] > 0).tobytes().hex()


def distances(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number of differing bits (n,) between fingerprints (n, 16 or 32), the smaller of unmirrored and mirrored.

    >>> distances(unpacked(["00" * 16]), unpacked(["ff" + "00" * 15])).tolist()
    [8]
    """
    return _distances(_words(one), _words(other), one.shape[1])


def unpacked(fingerprints: Sequence[str], digits: int = BITS // 4) -> NDArray[np.uint8]:
    """The first hexadecimal digits of each -> bytes (n, digits / 2); zeros for one without a fingerprint."""
    text = "".join(text[:digits] or "0" * digits for text in fingerprints)
    return np.frombuffer(bytes.fromhex(text), np.uint8).reshape(len(fingerprints), digits // 2)


@lru_cache(maxsize=4)
def close_pairs(fingerprints: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """Every (position, position, differing bits) of fingerprints that differ in at most ALIKE bits.

    The limit is lower if all images of a collection look alike (X-rays, scanned forms). Up to 8,192 images, all pairs
    are compared; beyond that, only those that agree in one of 32 random choices of bits, so that a million images do
    not need a trillion comparisons. Empty fingerprints are in no pair, and those of small images only in pairs with
    each other.
    """
    rows: list[tuple[int, int, int]] = []
    for digits in SURELY:
        places = np.array([place for place, text in enumerate(fingerprints) if len(text) == digits], np.int64)
        if len(places) < 2:
            continue
        packed = unpacked([fingerprints[place] for place in places], digits)
        most = min(ALIKE, _bound_of(packed))
        first, second = _all_pairs(packed, most) if len(packed) <= _FEW else _banded_pairs(packed, most)
        bits = distances(packed[first], packed[second])
        rows.extend(zip(places[first].tolist(), places[second].tolist(), bits.tolist(), strict=True))
    return tuple(sorted(rows))


def _bound_of(packed: NDArray[np.uint8]) -> int:
    """The typical distance of two different images of this collection, minus 6.4 times its spread; 128 if there are
    only a handful."""
    generator = np.random.default_rng(0)
    first, second = generator.integers(0, len(packed), (2, _SAMPLE))
    found = distances(packed[first], packed[second])[first != second]
    quarter, middle = np.quantile(found, [0.25, 0.5])
    spread = (middle - quarter) / 0.6745
    return int(middle - _SPREADS * spread) if len(packed) >= 20 else BITS


def _all_pairs(packed: NDArray[np.uint8], bound: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    signs = np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
    which = _EVEN[: signs.shape[1]]
    even, odd = signs[:, which], signs[:, ~which]
    found = []
    for start in range(0, len(packed), _BLOCK):
        block = slice(start, start + _BLOCK)
        agreement = even[block] @ even[start:].T + np.abs(odd[block] @ odd[start:].T)
        rows, columns = np.nonzero(agreement >= signs.shape[1] - 2 * bound)
        later = columns > rows
        found.append((rows[later] + start, columns[later] + start))
    first, second = (np.concatenate(part) for part in zip(*found, strict=True))
    return first.astype(np.int64), second.astype(np.int64)


def _banded_pairs(packed: NDArray[np.uint8], bound: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs that agree in one of many random choices of low, even bits, which mirroring and cropping change least: in
    so many bits (16 for a million images) that few others agree in them.

    Among those that agree, neighbours in the order of all their bits are compared, up to a distance: a value shared by
    many is not informative.
    """
    wanted = min(16, round(np.log2(len(packed))) - 4)
    generator = np.random.default_rng(0)
    lowest = np.flatnonzero(_EVEN)[:_BAND_CHOICE]
    # In the order of all bits first: keys of 16 bits are then sorted by radix, in a time that grows with their number.
    first = np.argsort(packed.view(">u8")[:, 0], kind="stable")
    words, width = _words(packed[first]), packed.shape[1]
    low = np.unpackbits(packed[first, : lowest[-1] // 8 + 1], axis=1).T[lowest].astype(np.uint16)
    found = []
    for _ in range(_BANDS):
        chosen = np.searchsorted(lowest, generator.choice(lowest, wanted, replace=False))
        keys = np.zeros(len(packed), np.uint16)
        for place in chosen:
            keys = (keys << 1) | low[place]
        order = np.argsort(keys, kind="stable")
        ordered, sorted_keys = np.ascontiguousarray(words[:, order]), keys[order]
        for shift in range(1, min(_WINDOW, len(order))):
            together = np.flatnonzero(sorted_keys[shift:] == sorted_keys[:-shift])
            if not len(together):
                break
            if 2 * len(together) > len(order):  # reading all in their order is faster than picking
                near = (_distances(ordered[:, :-shift], ordered[:, shift:], width) <= bound)[together]
            else:
                near = _distances(ordered[:, together], ordered[:, together + shift], width) <= bound
            found.append(np.sort(first[np.stack([order[together[near]], order[together[near] + shift]])], axis=0))
    pairs = np.unique(np.concatenate(found, axis=1), axis=1) if found else np.empty((2, 0), np.int64)
    return pairs[0], pairs[1]


def _words(packed: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The same bits in columns of 64, (words, n): a column is worked on at once."""
    return np.ascontiguousarray(np.ascontiguousarray(packed).view(np.uint64).T)


def _distances(one: NDArray[np.uint64], other: NDArray[np.uint64], width: int) -> NDArray[np.int64]:
    """As `distances`, of fingerprints (words, n) with `width` bytes each."""
    evens = _EVEN_BYTES[:width].view(np.uint64)
    even = np.zeros(one.shape[1], np.uint16)
    odd = np.zeros(one.shape[1], np.uint16)
    for left, right, mask in zip(one, other, evens, strict=True):
        differing = left ^ right
        even += np.bitwise_count(differing & mask)
        odd += np.bitwise_count(differing & ~mask)
    return (even + np.minimum(odd, 8 * width - int(np.bitwise_count(evens).sum()) - odd)).astype(np.int64)
