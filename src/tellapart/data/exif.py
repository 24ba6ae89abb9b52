"""An image's bytes -> camera and capture time, from its EXIF data.

Only five tags out of hundreds are needed, for every image of a scan: Pillow would read all of them, and issue warnings
for damage. Reading is bounded here, and a damaged block counts as empty.
"""

from __future__ import annotations

import re
import struct

HEAD = 1 << 14
"""Number of bytes at the beginning in which cameras write the block (JPEG, HEIC)."""

LONGEST = 1 << 16
"""Most bytes of a block; a JPEG has no room for more."""

# HEIC names the block with the same letters before the block itself.
_BLOCK = re.compile(rb"Exif\0\0(?=II\*\0|MM\0\*)")
_NAME = b"Exif\0\0"
_MOST_TAGS = 256
_MAKE, _MODEL, _EXIF_IFD, _TAKEN, _SERIAL = 0x010F, 0x0110, 0x8769, 0x9003, 0xA431
_ASCII, _LONG = 2, 4
_TIME = re.compile(r"(\d{4}):(\d\d):(\d\d) (\d\d):(\d\d):(\d\d)")


def shot_of(content: bytes) -> str:
    """Time and camera, `2026-03-01T14:05:09 Canon EOS 5D`, of a photograph that has both; else empty.

    >>> shot_of(b"no photograph")
    ''
    """
    start = content.find(_NAME, 0, HEAD)  # far faster than the pattern, and most images have none
    mark = _BLOCK.search(content, start, HEAD) if start >= 0 else None
    if mark is None:
        return ""
    block = content[mark.end() : mark.end() + LONGEST]
    order = "<" if block.startswith(b"II") else ">"
    try:
        first = _tags(block, order, struct.unpack_from(f"{order}I", block, 4)[0])
        details = _tags(block, order, int(first.get(_EXIF_IFD) or 0))
    except struct.error:
        return ""
    time = _TIME.match(str(details.get(_TAKEN, "")))
    make, model, serial = (
        str(tags.get(tag, "")) for tags, tag in ((first, _MAKE), (first, _MODEL), (details, _SERIAL))
    )
    camera = " ".join([*([] if model.startswith(make) else [make]), model, serial]).strip()
    if time is None or not camera:
        return ""
    return "{}-{}-{}T{}:{}:{} ".format(*time.groups()) + camera


def _tags(block: bytes, order: str, at: int) -> dict[int, str | int]:
    """The required tags of the directory at this offset. Raises struct.error if the block is too short."""
    found: dict[int, str | int] = {}
    (count,) = struct.unpack_from(f"{order}H", block, at)
    for entry in range(at + 2, at + 2 + 12 * min(count, _MOST_TAGS), 12):
        tag, kind, size, value = struct.unpack_from(f"{order}HHII", block, entry)
        if tag == _EXIF_IFD and kind == _LONG:
            found[tag] = value
        elif tag in (_MAKE, _MODEL, _TAKEN, _SERIAL) and kind == _ASCII:
            start = entry + 8 if size <= 4 else value
            text = block[start : start + min(size, 64)].partition(b"\0")[0]
            found[tag] = " ".join(text.decode("ascii", "replace").split())
    return found
