"""Images that cost far more than their bytes say."""

from __future__ import annotations

import io
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


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
