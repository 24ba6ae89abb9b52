from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tellapart.data.exif import shot_of

TAKEN, MAKE, MODEL, SERIAL, EXIF_IFD = 0x9003, 0x010F, 0x0110, 0xA431, 0x8769


def photograph(form: str = "JPEG", *, make: str = "Canon", model: str = "Canon EOS 5D", **details: str) -> bytes:
    exif = Image.Exif()
    exif[MAKE], exif[MODEL] = make, model
    inside = exif.get_ifd(EXIF_IFD)
    for name, value in details.items():
        inside[{"taken": TAKEN, "serial": SERIAL}[name]] = value
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "olive").save(file, form, exif=exif)
    return file.getvalue()


def test_a_photograph_says_when_and_with_which_camera_it_was_taken() -> None:
    content = photograph(taken="2026:03:01 14:05:09", serial="123")
    assert shot_of(content) == "2026-03-01T14:05:09 Canon EOS 5D 123"
    assert shot_of(photograph(make="Apple", model="iPhone 15", taken="2026:03:01 14:05:09")).endswith("Apple iPhone 15")


def test_heic_says_it_too() -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    assert shot_of(photograph("HEIF", taken="2026:03:01 14:05:09")) == "2026-03-01T14:05:09 Canon EOS 5D"


@pytest.mark.parametrize("taken", ["", "    :  :     :  :  ", "yesterday"])
def test_a_clock_that_was_never_set_says_nothing(taken: str) -> None:
    assert shot_of(photograph(taken=taken)) == ""


def test_a_photograph_without_a_camera_or_without_exif_says_nothing() -> None:
    assert shot_of(photograph(make="", model="", taken="2026:03:01 14:05:09")) == ""
    file = io.BytesIO()
    Image.new("L", (8, 8)).save(file, "JPEG")
    assert shot_of(file.getvalue()) == ""


@given(st.data())
def test_a_damaged_block_is_no_error(data: st.DataObject) -> None:
    content = bytearray(photograph(taken="2026:03:01 14:05:09"))
    for _ in range(data.draw(st.integers(1, 30))):
        content[data.draw(st.integers(0, min(400, len(content) - 1)))] = data.draw(st.integers(0, 255))
    assert isinstance(shot_of(bytes(content[: data.draw(st.integers(0, len(content)))])), str)
