"""Images that cost far more than their bytes say."""

from __future__ import annotations

import io
import struct
from functools import cache

from PIL import Image


@cache
def slow_webp(side: int = 6000) -> bytes:
    """Lossless WebP of one colour: some hundred bytes, and a second for 36 million pixels."""
    return _encoded(Image.new("RGB", (side, side), (10, 20, 30)), "WEBP", lossless=True, method=0)


@cache
def large_png(side: int = 7000) -> bytes:
    """With transparency, so that several copies of 196 MB are made of it."""
    return _encoded(Image.new("RGBA", (side, side), (1, 2, 3, 4)), "PNG")


@cache
def scans_jpeg(scans: int, side: int = 3000) -> bytes:
    """A progressive JPEG with so many scans more than it needs, 17 bytes each; every one goes over all its blocks."""
    whole = _encoded(Image.new("L", (side, side), 128), "JPEG", progressive=True, quality=50)
    table = b"\xff\xc4" + struct.pack(">H", 20) + b"\x10" + bytes([1] + [0] * 15) + b"\xe0"
    blocks = ((side + 7) // 8) ** 2
    bits = ("0" + "1" * 14) * -(-blocks // 32767)  # end-of-band runs that cover all blocks
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")
    scan = b"\xff\xda" + struct.pack(">HBBBBBB", 8, 1, 1, 0, 1, 63, 0) + data
    return whole[:-2] + table + scan * scans + b"\xff\xd9"


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
