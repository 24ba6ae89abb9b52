"""Truncated, damaged, immense and missing images: told in words, never guessed."""

from __future__ import annotations

import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.config import DataConfig
from tellapart.data.pixels import MAX_PIXELS, decode, read
from tellapart.errors import ImageError
from tellapart.task import ImageSpec
from tests.data.photograph import HEIGHT, PHOTO, SPEC, TABLE, WIDTH, encoded, paletted_with_hole


@pytest.mark.parametrize("spec", [None, SPEC])
@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "jpeg-grey", "png-rgb", "gif", "bmp", "tiff-16"])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_truncated_image_is_named_so(name: str, share: float, spec: ImageSpec | None) -> None:
    data = TABLE[name][0]
    with pytest.raises(ImageError) as caught:
        decode(data[: int(len(data) * share)], spec)
    assert caught.value.reason in ("truncated", "unreadable")
    if name.startswith(("jpeg", "png")):
        assert caught.value.reason == "truncated"


def test_a_jpeg_that_lacks_its_last_bytes_is_truncated() -> None:
    with pytest.raises(ImageError, match="truncated"):
        decode(TABLE["jpeg"][0][:-2], None)


JPEG = TABLE["jpeg"][0]
FRAME = JPEG.index(b"\xff\xc0")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (JPEG[: FRAME + 5] + bytes(2) + JPEG[FRAME + 7 :], "unreadable"),  # a JPEG of no height
        (JPEG[: FRAME + 7] + bytes(2) + JPEG[FRAME + 9 :], "unreadable"),
        (b"", "empty"),
        (b"<html>Not Found</html>", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (b"\0", "not an image"),
        (TABLE["jpeg"][0][:20], "truncated"),
        (TABLE["png-rgb"][0][:20], "truncated"),
        (np.zeros((4, 4, 2), np.uint8), "not an image"),
        (np.zeros((4, 4), np.float32), "not an image"),
        (np.zeros((0, 4), np.uint8), "empty"),
    ],
)
def test_what_is_no_image_is_told_with_its_reason(data: bytes | np.ndarray, reason: str) -> None:
    for spec in (None, SPEC):
        with pytest.raises(ImageError) as caught:
            decode(data, spec)
        assert caught.value.reason == reason
        assert caught.value.detail


def test_a_missing_file_a_folder_or_no_path_at_all_is_unreadable_and_named_by_who_gave_it(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.jpg", tmp_path, Path("zero \0 byte.jpg"), Path("x" * 5000)):
        with pytest.raises(ImageError, match=r"unreadable") as caught:
            read(path, SPEC)
        assert path.name not in caught.value.detail


def huge_png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_the_bound_on_pixels_is_ours_and_holds_before_decoding() -> None:
    assert DataConfig().max_pixels == MAX_PIXELS
    with pytest.raises(ImageError, match="too many pixels"):
        decode(huge_png(60_000), None)
    with pytest.raises(ImageError) as caught:
        decode(huge_png(20_000), SPEC, 400_000_000)
    assert caught.value.reason != "too many pixels"
    for source in (PHOTO, TABLE["jpeg"][0]):
        assert decode(source, None, HEIGHT * WIDTH).width == WIDTH
        with pytest.raises(ImageError, match="too many pixels"):
            decode(source, None, HEIGHT * WIDTH - 1)


def test_a_limit_of_pillow_that_others_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for data, _ in TABLE.values():
        assert decode(data, SPEC, HEIGHT * WIDTH).width == WIDTH
        with pytest.raises(ImageError, match="too many pixels"):
            decode(data, SPEC, HEIGHT * WIDTH - 1)
    assert Image.MAX_IMAGE_PIXELS == 100


def test_warnings_of_pillow_stay_inside_and_filters_of_others_stay() -> None:
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12\0\x03\0\0\0\x01"
    corrupt = encoded(Image.fromarray(PHOTO), "JPEG", exif=exif, quality=95)
    palette = encoded(paletted_with_hole(), "PNG", transparency=bytes([255] * 254 + [0, 0]))
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda data: read(data, SPEC), [corrupt, palette] * 20))
    assert warnings.filters == before
    assert np.abs(read(corrupt, SPEC).astype(int) - read(PHOTO, SPEC)).mean() < 2


def test_a_png_that_lacks_its_palette_is_unreadable() -> None:
    whole = encoded(Image.fromarray(PHOTO).quantize(16), "PNG")
    start = whole.index(b"PLTE") - 4
    length = int.from_bytes(whole[start : start + 4], "big")
    with pytest.raises(ImageError, match="unreadable"):
        read(whole[:start] + whole[start + 12 + length :], SPEC)


def test_damaged_bytes_raise_image_errors_and_nothing_else() -> None:
    generator = np.random.default_rng(7)
    for data, _ in TABLE.values():
        for _ in range(12):
            bad = bytearray(data)
            for place in generator.integers(0, min(len(bad), 400), 6):
                bad[place] = int(generator.integers(256))
            for spec in (None, SPEC):
                with suppress(ImageError):
                    decode(bytes(bad), spec, 10_000_000)
