"""An image of any size -> the size that a network wants: fit, filters, and JPEG files decoded smaller."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tellapart.data import jpeg
from tellapart.data.pixels import decode, read
from tellapart.data.raster import Raster
from tellapart.task import ImageSpec
from tests.data.photograph import PHOTO, TABLE, encoded


def test_crop_covers_and_keeps_the_middle_and_pad_shows_all_on_black() -> None:
    wide = np.zeros((20, 60, 3), np.uint8)
    wide[:, 20:40] = (200, 100, 50)
    cropped = read(wide, ImageSpec(10, 10, fit="crop"))
    assert (cropped[:, 1:-1] == (200, 100, 50)).all()
    padded = read(np.full((20, 60, 3), 200, np.uint8), ImageSpec(30, 30, fit="pad"))
    assert (padded[10:20] == 200).all()
    assert not padded[:10].any()
    assert not padded[20:].any()
    squashed = read(wide, ImageSpec(10, 9))
    assert (squashed[:, 4] == (200, 100, 50)).all()
    assert not squashed[:, 0].any()


def test_shrinking_is_antialiased_unless_nearest_is_asked_for() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    for interpolation in ("bilinear", "bicubic", "lanczos"):
        spec = ImageSpec(8, 8, channels=1, interpolation=interpolation)  # type: ignore[arg-type]
        assert np.abs(read(stripes, spec)[:, 1:-1].astype(int) - 127).max() < 12
    assert set(read(stripes, ImageSpec(8, 8, channels=1, interpolation="nearest")).ravel()) <= {0, 255}


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize(
    "size", [(299, 419), (250, 300), (160, 230), (150, 210), (100, 140), (61, 83), (500, 200), (400, 600)]
)
def test_bilinear_is_nearly_pillows_antialiased_filter(size: tuple[int, int], fit: str) -> None:
    """On white noise, the worst case: without the blur the difference is 15 to 60 where it is 0 to 10 with it."""
    noise = np.random.default_rng(0).integers(0, 256, (301, 421, 3), np.uint8)
    found = read(noise, ImageSpec(*size, fit=fit)).astype(int)  # type: ignore[arg-type]
    ratio = max(size[0] / 301, size[1] / 421)
    across, down = (421 - size[1] / ratio) / 2, (301 - size[0] / ratio) / 2
    box = (across, down, 421 - across, 301 - down) if fit == "crop" else None
    pillows = np.asarray(Image.fromarray(noise).resize(size[::-1], Image.Resampling.BILINEAR, box)).astype(int)
    assert np.abs(found - pillows).mean() < 12
    assert found.std() == pytest.approx(pillows.std(), rel=0.12)
    assert found.mean() == pytest.approx(pillows.mean(), abs=0.3)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_an_image_much_longer_than_wide_keeps_its_colour(fit: str) -> None:
    strip = np.full((10, 40_000, 3), (200, 100, 50), np.uint8)
    for image in (strip, strip.swapaxes(0, 1)):
        found = read(image, ImageSpec(32, 32, fit=fit))  # type: ignore[arg-type]
        assert (found.max(axis=(0, 1)) == (200, 100, 50)).all()


@pytest.mark.parametrize("side", range(33, 90, 4))
def test_shrinking_leaves_a_flat_image_flat(side: int) -> None:
    assert (read(np.full((side, side + 9), 255, np.uint8), ImageSpec(32, 32)) == 255).all()


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
@pytest.mark.parametrize("side", [9, 33, 61, 100])
def test_a_drafted_jpeg_differs_little_from_a_full_one(fit: str, side: int) -> None:
    data = encoded(Image.fromarray(PHOTO[:175, :233]), "JPEG", quality=98, subsampling=0)
    full = np.asarray(Image.open(io.BytesIO(data)))
    spec = ImageSpec(side, side, fit=fit)  # type: ignore[arg-type]
    difference = np.abs(read(data, spec).astype(int) - read(full, spec))
    assert difference.mean() < 0.8
    assert difference.max() < 12


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("size", [(20, 170), (170, 20), (100, 100), (80, 110)])
def test_a_drafted_jpeg_keeps_all_the_detail_that_the_network_is_shown(fit: str, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (175, 233, 3), np.uint8)
    data = encoded(Image.fromarray(noise), "JPEG", quality=98, subsampling=0)
    full = np.asarray(Image.open(io.BytesIO(data)))
    spec = ImageSpec(*size, fit=fit)  # type: ignore[arg-type]
    assert read(data, spec).std() > 0.95 * read(full, spec).std()


def test_nearest_takes_pixels_of_the_jpeg_itself() -> None:
    data = TABLE["jpeg"][0]
    full = np.asarray(Image.open(io.BytesIO(data)))
    spec = ImageSpec(20, 20, interpolation="nearest")
    assert np.array_equal(read(data, spec), read(full, spec))


def test_an_image_of_the_wanted_size_is_not_resampled() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    assert np.array_equal(read(noise, ImageSpec(31, 17)), noise)
    assert np.array_equal(read(noise[..., :1], ImageSpec(31, 17, channels=1)), noise[..., :1])
    assert np.array_equal(read(noise[..., 0], ImageSpec(31, 17))[..., 2], noise[..., 0])


@pytest.mark.parametrize(("side", "decodings"), [(128, 1), (224, 1), (64, 2)])
def test_one_decoding_gives_pixels_and_thumbnail_of_a_usual_photograph(
    side: int, decodings: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a smaller image than half, a second decoding takes less than a whole one and its reduction."""
    data = encoded(Image.fromarray(PHOTO).resize((500, 375)), "JPEG", quality=90)
    spec, real, times = ImageSpec(side, side), jpeg.decode, []
    monkeypatch.setattr(jpeg, "decode", lambda *given: times.append(given) or real(*given))
    both = decode(data, spec, thumbnail=True)
    assert len(times) == decodings
    assert both.thumbnail is not None
    assert np.array_equal(both.thumbnail, decode(data, None, thumbnail=True).thumbnail)  # type: ignore[arg-type]
    assert np.array_equal(both.pixels, read(data, spec))  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(375, 500, 3), (374, 499, 3), (101, 99), (1, 7, 3)])
def test_halving_is_pillows(shape: tuple[int, ...]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    halved = Raster(noise).reduced((2, 2), (0, 0, shape[1], shape[0]))
    assert np.array_equal(halved, np.asarray(Image.fromarray(noise).reduce(2)))


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("size", [(375, 500), (374, 333), (501, 375)])
def test_a_photograph_is_resized_within_two_grey_levels_of_pillow(size: tuple[int, int], fit: str) -> None:
    photo = Image.fromarray(PHOTO).resize(size[::-1], Image.Resampling.BICUBIC)
    side = min(size)
    left, top = (size[1] - side) / 2, (size[0] - side) / 2
    box = (left, top, left + side, top + side) if fit == "crop" else None
    pillows = np.asarray(photo.resize((224, 224), Image.Resampling.BILINEAR, box)).astype(int)
    found = read(np.asarray(photo), ImageSpec(224, 224, fit=fit))  # type: ignore[arg-type]
    assert np.abs(found - pillows).mean() < 2
