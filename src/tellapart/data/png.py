"""A PNG's bytes -> whether its checksums match, which Pillow does not verify."""

from __future__ import annotations

import zlib

from tellapart.errors import ImageError

MOST_SMALL_CHUNKS = 4096
"""In addition to one per SMALL bytes: each chunk is one step of Python, here and in Pillow."""
SMALL = 256


def damage(content: bytes) -> str:
    """What is damaged, or empty: verifies the checksums of the chunks that hold pixels. Pillow verifies the others.

    Raises ImageError, `too many segments`, for a file that consists mostly of chunk headers.
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
