"""Photographs of telephones: read where the extra `heif` is installed, and told what to do where it is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image

from tellapart.data import pixels
from tellapart.errors import ImageError
from tests.data.photograph import HEIGHT, PHOTO, SPEC, WIDTH, encoded


@pytest.fixture
def heic() -> bytes:
    pytest.importorskip("pillow_heif").register_heif_opener()
    exif = Image.Exif()
    exif[274] = 6  # as a telephone held upright says it
    return encoded(Image.fromarray(PHOTO).rotate(90, expand=True), "HEIF", quality=95, exif=exif.tobytes())


@pytest.fixture
def without_heif(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pillow_heif", "pillow_heif.as_plugin"):
        monkeypatch.setitem(sys.modules, name, None)


def test_a_heic_photograph_is_read_upright(heic: bytes) -> None:
    found = pixels.decode(heic, SPEC)
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    assert found.pixels is not None
    assert np.abs(found.pixels.astype(int) - pixels.read(PHOTO, SPEC)).mean() < 2


def test_a_heic_photograph_that_lacks_its_end_is_one_unreadable_image(heic: bytes) -> None:
    for length in (40, 400, len(heic) // 2, len(heic) - 20):
        with pytest.raises(ImageError):
            pixels.decode(heic[:length], SPEC)


def test_a_heic_photograph_has_the_bound_on_pixels(heic: bytes) -> None:
    with pytest.raises(ImageError, match="too many pixels"):
        pixels.decode(heic, SPEC, max_pixels=1000)


@pytest.mark.usefixtures("without_heif")
@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_without_the_extra_it_is_said_what_to_install(brand: bytes) -> None:
    with pytest.raises(ImageError, match=r"unreadable: it is a HEIF image: .*tellapart\[heif\]"):
        pixels.decode(b"\0\0\0\x18ftyp" + brand + b"x" * 100, None)
