"""An image's bytes -> the most that decoding it can cost, from the header alone.

So a server knows which images it may decode in its own process, and which need a process that can be killed.
"""

from __future__ import annotations

import re

from tellapart.data import jpeg
from tellapart.data.image_formats import PREFIX, format_of
from tellapart.errors import ImageError

_PPM = re.compile(rb"P([456])\s+(\d{1,9})\s+(\d{1,9})\s+(\d{1,3})?\s")
_HEAD = 64


def cost(content: bytes) -> int | None:
    """Pixels that the decoder processes, plus bytes: an upper bound that its time and memory are proportional to.

    None if the header does not tell (TIFF, WebP, GIF, JPEG 2000, AVIF, HEIC, ICO, TGA, JPEG of rare kinds, images of
    more than 8 bits, damaged headers): such an image may take no time, or minutes.

    >>> cost(b"P5 30 20 255 " + bytes(600)), cost(b"GIF89a" + bytes(100))
    (1213, None)
    """
    form = format_of(content[:PREFIX])
    pixels = None if form is None or form.name not in _COUNTED else _COUNTED[form.name](content)
    return None if pixels is None else pixels + len(content)


def _jpeg(content: bytes) -> int | None:
    try:
        header = jpeg.read_header(content)
    except ImageError:
        return None
    if header.lossless or header.arithmetic or header.precision != 8 or header.components not in (1, 3):
        return None
    return header.width * header.height * header.scans


def _png(content: bytes) -> int | None:
    if content[12:16] != b"IHDR" or len(content) < 26 or content[24] > 8:
        return None
    return int.from_bytes(content[16:20]) * int.from_bytes(content[20:24])


def _bmp(content: bytes) -> int | None:
    """Uncompressed, with the most common header."""
    header, compression = content[14:18], content[30:34]
    if len(content) < 54 or int.from_bytes(header, "little") < 40 or compression not in (bytes(4), b"\3\0\0\0"):
        return None
    sides = (int.from_bytes(content[at : at + 4], "little", signed=True) for at in (18, 22))
    width, height = sides
    return abs(width * height)


def _ppm(content: bytes) -> int | None:
    """Raw grey, colour or black and white; headers with comments are left to Pillow."""
    found = _PPM.match(content[:_HEAD])
    if found is None or (found[1] != b"4" and not (found[4] and int(found[4]) <= 255)):
        return None
    return int(found[2]) * int(found[3])


_COUNTED = {"JPEG": _jpeg, "PNG": _png, "BMP": _bmp, "PPM": _ppm}
