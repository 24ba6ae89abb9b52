"""A PNG's bytes -> whether its checksums match, which Pillow does not verify."""

from __future__ import annotations

import zlib

from tellapart.errors import ImageError

MOST_SMALL_CHUNKS = 4096
"""Beside one for each SMALL bytes: a chunk costs a step of Python, here and in Pillow."""
SMALL = 256


def damage(content: bytes) -> str:
    """What is damaged, empty for nothing: the check sums of the chunks that hold pixels. Pillow reads the other ones.

    Raises ImageError, `too many segments`, for a file of nearly nothing but chunks.
    """
    view, at, wrong, chunks = memoryview(content), 8, 0, 0
    most = MOST_SMALL_CHUNKS + len(content) // SMALL
    while at + 12 <= len(content):
        chunks += 1
        if chunks > most:
            raise ImageError("too many segments", f"a PNG of over {most:,} chunks in {len(content):,} bytes")
        end = at + 8 + int.from_bytes(view[at : at + 4])
        kind = content[at + 4 : at + 8]
        if kind == b"IDAT" and end + 4 <= len(content):
            wrong += zlib.crc32(view[at + 4 : end]) != int.from_bytes(view[end : end + 4])
        elif kind == b"IEND":
            break
        at = end + 4
    return f"{wrong} of its {chunks} chunks {'has a' if wrong == 1 else 'have'} wrong checksum" if wrong else ""
