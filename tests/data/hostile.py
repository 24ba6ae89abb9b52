"""Images that cost far more than their size suggests, and one that contains another format."""

from __future__ import annotations

import io
import struct
from functools import cache

from PIL import Image

SLOW_SIDE = 5000


@cache
def slow_jp2() -> bytes:
    """JPEG 2000 of one colour: two thousand bytes, and a second or more for 25 million pixels."""
    image = Image.new("RGB", (SLOW_SIDE, SLOW_SIDE), (10, 20, 30))
    return _encoded(image, "JPEG2000", irreversible=True)


@cache
def large_png(side: int = 7000) -> bytes:
    """With transparency, so that several copies of 196 MB are made of it."""
    return _encoded(Image.new("RGBA", (side, side), (1, 2, 3, 4)), "PNG")


def iptc(content: bytes, width: int, height: int) -> bytes:
    """An image in an IPTC record, which Pillow would open by its content's first bytes."""

    def record(number: int, data: bytes) -> bytes:
        return bytes([0x1C, 8 if number == 10 else 3, number, 132, 0]) + struct.pack(">I", len(data)) + data

    fields = {60: b"\1\0", 20: struct.pack(">I", width), 30: struct.pack(">I", height), 120: b"\5", 10: content}
    return b"".join(record(number, data) for number, data in fields.items()) + bytes(5)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
