"""Bytes -> pixels: every encoding of one photograph, every orientation, and which road they go."""

from __future__ import annotations

import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.data.pixels import Decoded, decode, read
from tellapart.errors import ImageError
from tellapart.task import ImageSpec
from tests.data.photograph import HEIGHT, PHOTO, SPEC, TABLE, WIDTH, encoded


@pytest.mark.parametrize("name", TABLE)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_encoding_of_one_photograph_gives_the_same_pixels(name: str, channels: int) -> None:
    data, meant = TABLE[name]
    spec = ImageSpec(60, 80, channels=channels)
    found = read(data, spec)
    expected = read(meant, spec)
    assert found.shape == spec.shape
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).mean() < 3
    assert np.percentile(np.abs(found.astype(int) - expected), 99) < 12


@pytest.mark.parametrize(
    "name",
    [
        "png-rgb",
        "bmp",
        "tga",
        "ppm",
        "jpeg-2000",
        "tiff-16",
        "png-16",
        "tiff-16-big-endian",
        "tiff-32-integer",
        "tiff-float",
    ],
)
def test_lossless_encodings_give_exactly_the_pixels_of_the_array(name: str) -> None:
    data, meant = TABLE[name]
    assert np.array_equal(read(data, ImageSpec(HEIGHT, WIDTH)), meant)


@pytest.mark.parametrize("name", TABLE)
def test_decoding_tells_size_and_mode_with_and_without_pixels(name: str) -> None:
    data = TABLE[name][0]
    with_pixels, without = decode(data, SPEC), decode(data, None)
    assert (with_pixels.width, with_pixels.height) == (WIDTH, HEIGHT)
    assert without == Decoded(None, WIDTH, HEIGHT, with_pixels.mode)


def test_the_mode_is_of_the_file_and_not_of_its_draft() -> None:
    assert decode(TABLE["jpeg"][0], None).mode == "RGB"
    assert decode(TABLE["jpeg"][0], ImageSpec(8, 8, channels=1)).mode == "RGB"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_all_eight_exif_orientations_decode_alike(kind: str, turn: int, fit: str) -> None:
    stored = {
        1: PHOTO,
        2: PHOTO[:, ::-1],
        3: PHOTO[::-1, ::-1],
        4: PHOTO[::-1],
        5: PHOTO.transpose(1, 0, 2),
        6: np.rot90(PHOTO),
        7: PHOTO[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(PHOTO, -1),
    }[turn]
    exif = Image.Exif()
    exif[0x0112] = turn
    options = {"quality": 95} if kind in ("JPEG", "WEBP") else {}
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif, **options)
    spec = ImageSpec(50, 90, fit=fit)  # type: ignore[arg-type]
    found = decode(data, spec)
    assert (found.width, found.height) == (WIDTH, HEIGHT)
    assert found.pixels is not None
    assert np.abs(found.pixels.astype(int) - read(PHOTO, spec)).mean() < 2


def test_a_one_bit_image_is_black_and_white() -> None:
    stripes = np.zeros((40, 40), bool)
    stripes[:, 20:] = True
    found = read(encoded(Image.fromarray(stripes), "PNG"), ImageSpec(40, 40, channels=1))[..., 0]
    assert np.array_equal(found, np.where(stripes, 255, 0))


def test_adobe_inverted_cmyk_is_not_a_negative() -> None:
    data = TABLE["jpeg-cmyk"][0]
    assert b"Adobe" in data
    assert read(data, SPEC)[-1, 0, 0] < 90 < 180 < read(data, SPEC)[0, -1, 0]


def test_integers_beyond_16_bit_and_odd_floats_are_scaled_by_their_own_range() -> None:
    spec = ImageSpec(1, 3, channels=1, interpolation="nearest")
    wide = Image.fromarray(np.array([[-100_000, 0, 100_000]], np.int32))
    assert read(encoded(wide, "TIFF"), spec).ravel().tolist() == [0, 128, 255]
    floats = Image.fromarray(np.array([[np.nan, 10.0, 30.0]], np.float32))
    assert read(encoded(floats, "TIFF"), spec).ravel().tolist() == [0, 0, 255]
    signed = Image.fromarray(np.array([[-1.0, 0.0, 1.0]], np.float32))
    assert read(encoded(signed, "TIFF"), spec).ravel().tolist() == [0, 128, 255]
    flat = Image.fromarray(np.full((1, 3), 7e6, np.float32))
    assert read(encoded(flat, "TIFF"), spec).ravel().tolist() == [0, 0, 0]


def test_what_is_read_is_not_the_array_that_was_given() -> None:
    given = np.zeros((8, 8, 3), np.uint8)
    read(given, ImageSpec(8, 8))[...] = 1
    assert not given.any()


def test_path_name_bytes_and_file_go_the_same_road(tmp_path: Path) -> None:
    data = TABLE["jpeg"][0]
    path = tmp_path / "Füße 1.JPG.txt"
    path.write_bytes(data)
    file = io.BytesIO(data)
    found = [read(source, SPEC) for source in (path, str(path), data, file)]
    assert all(np.array_equal(found[0], other) for other in found[1:])
    assert not file.closed


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts the open files by /proc")
@pytest.mark.parametrize("name", ["jpeg", "tiff-16", "gif-animated", "webp-animated"])
def test_files_are_closed(tmp_path: Path, name: str) -> None:
    path = tmp_path / "image"
    path.write_bytes(TABLE[name][0])
    broken = tmp_path / "broken"
    broken.write_bytes(TABLE[name][0][:300])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        read(path, SPEC)
        with pytest.raises(ImageError):
            read(broken, SPEC)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_threads_decode_what_one_thread_decodes() -> None:
    names = sorted(TABLE)
    expected = {name: read(TABLE[name][0], SPEC) for name in names}
    barrier = threading.Barrier(4)

    def work(start: int) -> bool:
        barrier.wait()
        return all(np.array_equal(read(TABLE[name][0], SPEC), expected[name]) for name in names[start:] + names[:start])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
