"""Inputs that earlier searches found, each fixed since: the target, and the input as made from the target's seeds.

test_fuzz.py tries each, and docs/soak.md names them.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz import seeds

FOUND: dict[str, tuple[str, Callable[[list[bytes]], bytes]]] = {
    "a description of a network that is no UTF-8": ("descriptions of networks", lambda _: b"\xff"),
    "class means whose header does not end": (
        "run folders",
        lambda some: some[seeds.RUN_FILES.index("class_means.npy")].replace(b"}", b" "),
    ),
    "a JPEG of no height": ("images", lambda some: _flat(next(data for data in some if data[:2] == b"\xff\xd8"))),
}


def _flat(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xc0") + 5
    return jpeg[:at] + bytes(2) + jpeg[at + 2 :]
