"""The one road from bytes to pixels: every encoding of one photograph gives the same pixels; damage is named."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.config import DataConfig
from tellapart.data.pixels import MAX_PIXELS, Decoded, decode, read
from tellapart.errors import PictureError
from tellapart.task import ImageSpec

HEIGHT, WIDTH = 180, 240
SPEC = ImageSpec(60, 80)


def photograph() -> np.ndarray:
    """Smooth shapes that differ in each corner and each channel."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH] / np.array([HEIGHT, WIDTH])[:, None, None]
    red = 40 + 180 * x
    green = 30 + 190 * y
    blue = 60 + 150 * np.exp(-((x - 0.3) ** 2 + (y - 0.6) ** 2) * 20)
    return np.rint(np.stack([red, green, blue], axis=-1)).astype(np.uint8)


PHOTO = photograph()
GREY = np.asarray(Image.fromarray(PHOTO).convert("L"))


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_alpha(mode: str) -> Image.Image:
    """The photograph over white, said with transparency: half covered, so each colour is twice as far from white."""
    base = PHOTO if mode == "RGBA" else GREY[..., None]
    darker = np.clip(2 * base.astype(int) - 255, 0, 255)
    clipped = (base < 128).all(axis=-1, keepdims=True) | (base < 128)
    alpha = np.where(clipped.any(axis=-1, keepdims=True), 255, 128)
    colours = np.where(alpha == 255, base, darker)
    return Image.fromarray(np.concatenate([colours, alpha], axis=-1).astype(np.uint8), mode)


def paletted_with_hole() -> Image.Image:
    """A palette picture whose white is one transparent, black entry."""
    quantised = Image.fromarray(PHOTO).quantize(200)
    indices = np.asarray(quantised).copy()
    indices[:30, :30] = 255
    image = Image.fromarray(indices, "P")
    image.putpalette((quantised.getpalette()[:600] + [0] * 768)[:768])
    return image


def table() -> dict[str, tuple[bytes, np.ndarray]]:
    rgb, grey = Image.fromarray(PHOTO), Image.fromarray(GREY)
    flat = np.repeat(GREY[..., None], 3, axis=-1)
    sixteen = Image.fromarray(GREY.astype(np.uint16) * 257)
    holed = PHOTO.copy()
    holed[:30, :30] = 255
    other = Image.fromarray(255 - PHOTO)
    return {
        "jpeg": (encoded(rgb, "JPEG", quality=95), PHOTO),
        "jpeg-progressive": (encoded(rgb, "JPEG", quality=95, progressive=True), PHOTO),
        "jpeg-grey": (encoded(grey, "JPEG", quality=95), flat),
        "jpeg-cmyk": (encoded(rgb.convert("CMYK"), "JPEG", quality=95), PHOTO),
        "png-rgb": (encoded(rgb, "PNG"), PHOTO),
        "png-rgba": (encoded(with_alpha("RGBA"), "PNG"), PHOTO),
        "png-la": (encoded(with_alpha("LA"), "PNG"), flat),
        "png-palette": (encoded(rgb.quantize(256), "PNG"), PHOTO),
        "png-palette-transparent": (encoded(paletted_with_hole(), "PNG", transparency=255), holed),
        "png-16": (encoded(sixteen, "PNG"), flat),
        "png-rgb-transparent-colour": (
            encoded(Image.fromarray(np.where(holed == 255, 0, holed).astype(np.uint8)), "PNG", transparency=(0, 0, 0)),
            holed,
        ),
        "tiff-16": (encoded(sixteen, "TIFF"), flat),
        "tiff-16-big-endian": (encoded(Image.fromarray((GREY.astype(">u2") * 257).astype(">u2")), "TIFF"), flat),
        "tiff-32-integer": (encoded(Image.fromarray(GREY.astype(np.int32) * 257), "TIFF"), flat),
        "tiff-float": (encoded(Image.fromarray((GREY / 255).astype(np.float32)), "TIFF"), flat),
        "webp": (encoded(rgb, "WEBP", quality=95), PHOTO),
        "gif": (encoded(rgb, "GIF"), PHOTO),
        "bmp": (encoded(rgb, "BMP"), PHOTO),
        "gif-animated": (encoded(rgb, "GIF", save_all=True, append_images=[other]), PHOTO),
        "webp-animated": (encoded(rgb, "WEBP", quality=95, save_all=True, append_images=[other]), PHOTO),
    }


TABLE = table()


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
    "name", ["png-rgb", "bmp", "tiff-16", "png-16", "tiff-16-big-endian", "tiff-32-integer", "tiff-float"]
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


def test_a_one_bit_picture_is_black_and_white() -> None:
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
    noise = np.random.default_rng(0).integers(0, 256, (300, 420, 3), np.uint8)
    found = read(noise, ImageSpec(*size, fit=fit)).astype(int)  # type: ignore[arg-type]
    ratio = max(size[0] / 300, size[1] / 420)
    across, down = (420 - size[1] / ratio) / 2, (300 - size[0] / ratio) / 2
    box = (across, down, 420 - across, 300 - down) if fit == "crop" else None
    pillows = np.asarray(Image.fromarray(noise).resize(size[::-1], Image.Resampling.BILINEAR, box)).astype(int)
    assert np.abs(found - pillows).mean() < 12
    assert found.std() == pytest.approx(pillows.std(), rel=0.12)
    assert found.mean() == pytest.approx(pillows.mean(), abs=0.3)


@pytest.mark.parametrize("fit", ["squash", "crop", "pad"])
def test_a_picture_much_longer_than_wide_keeps_its_colour(fit: str) -> None:
    strip = np.full((10, 40_000, 3), (200, 100, 50), np.uint8)
    for picture in (strip, strip.swapaxes(0, 1)):
        found = read(picture, ImageSpec(32, 32, fit=fit))  # type: ignore[arg-type]
        assert (found.max(axis=(0, 1)) == (200, 100, 50)).all()


@pytest.mark.parametrize("side", range(33, 90, 4))
def test_shrinking_leaves_a_flat_picture_flat(side: int) -> None:
    assert (read(np.full((side, side + 9), 255, np.uint8), ImageSpec(32, 32)) == 255).all()


def test_what_is_read_is_not_the_array_that_was_given() -> None:
    given = np.zeros((8, 8, 3), np.uint8)
    read(given, ImageSpec(8, 8))[...] = 1
    assert not given.any()


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


def test_a_picture_of_the_wanted_size_is_not_resampled() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (31, 17, 3), np.uint8)
    assert np.array_equal(read(noise, ImageSpec(31, 17)), noise)
    assert np.array_equal(read(noise[..., :1], ImageSpec(31, 17, channels=1)), noise[..., :1])
    assert np.array_equal(read(noise[..., 0], ImageSpec(31, 17))[..., 2], noise[..., 0])


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
    path = tmp_path / "picture"
    path.write_bytes(TABLE[name][0])
    broken = tmp_path / "broken"
    broken.write_bytes(TABLE[name][0][:300])
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        read(path, SPEC)
        with pytest.raises(PictureError):
            read(broken, SPEC)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize("spec", [None, SPEC])
@pytest.mark.parametrize("name", ["jpeg", "jpeg-progressive", "jpeg-grey", "png-rgb", "gif", "bmp", "tiff-16"])
@pytest.mark.parametrize("share", [0.4, 0.9])
def test_a_truncated_picture_is_named_so(name: str, share: float, spec: ImageSpec | None) -> None:
    data = TABLE[name][0]
    with pytest.raises(PictureError) as caught:
        decode(data[: int(len(data) * share)], spec)
    assert caught.value.reason in ("truncated", "unreadable")
    if name.startswith(("jpeg", "png")):
        assert caught.value.reason == "truncated"


def test_a_jpeg_that_lacks_its_last_bytes_is_truncated() -> None:
    with pytest.raises(PictureError, match="truncated"):
        decode(TABLE["jpeg"][0][:-2], None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<html>Not Found</html>", "not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
        (b"\0", "not a picture"),
        (TABLE["jpeg"][0][:20], "truncated"),
        (TABLE["png-rgb"][0][:20], "truncated"),
        (np.zeros((4, 4, 2), np.uint8), "not a picture"),
        (np.zeros((4, 4), np.float32), "not a picture"),
        (np.zeros((0, 4), np.uint8), "empty"),
    ],
)
def test_what_is_no_picture_is_told_with_its_reason(data: bytes | np.ndarray, reason: str) -> None:
    for spec in (None, SPEC):
        with pytest.raises(PictureError) as caught:
            decode(data, spec)
        assert caught.value.reason == reason
        assert caught.value.detail


def test_a_missing_file_a_folder_or_no_path_at_all_is_unreadable_and_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.jpg", tmp_path, Path("zero \0 byte.jpg"), Path("x" * 5000)):
        with pytest.raises(PictureError, match=r"unreadable") as caught:
            read(path, SPEC)
        assert path.name in caught.value.detail


def huge_png(side: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def test_the_bound_on_pixels_is_ours_and_holds_before_decoding() -> None:
    assert DataConfig().max_pixels == MAX_PIXELS
    with pytest.raises(PictureError, match="too many pixels"):
        decode(huge_png(60_000), None)
    with pytest.raises(PictureError) as caught:
        decode(huge_png(20_000), SPEC, 400_000_000)
    assert caught.value.reason != "too many pixels"
    for source in (PHOTO, TABLE["jpeg"][0]):
        assert decode(source, None, HEIGHT * WIDTH).width == WIDTH
        with pytest.raises(PictureError, match="too many pixels"):
            decode(source, None, HEIGHT * WIDTH - 1)


def test_a_limit_of_pillow_that_others_set_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for data, _ in TABLE.values():
        assert decode(data, SPEC, HEIGHT * WIDTH).width == WIDTH
        with pytest.raises(PictureError, match="too many pixels"):
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
    with pytest.raises(PictureError, match="unreadable"):
        read(whole[:start] + whole[start + 12 + length :], SPEC)


def test_damaged_bytes_raise_picture_errors_and_nothing_else() -> None:
    generator = np.random.default_rng(7)
    for data, _ in TABLE.values():
        for _ in range(12):
            bad = bytearray(data)
            for place in generator.integers(0, min(len(bad), 400), 6):
                bad[place] = int(generator.integers(256))
            for spec in (None, SPEC):
                with suppress(PictureError):
                    decode(bytes(bad), spec, 10_000_000)


def test_threads_decode_what_one_thread_decodes() -> None:
    names = sorted(TABLE)
    expected = {name: read(TABLE[name][0], SPEC) for name in names}
    barrier = threading.Barrier(4)

    def work(start: int) -> bool:
        barrier.wait()
        return all(np.array_equal(read(TABLE[name][0], SPEC), expected[name]) for name in names[start:] + names[:start])

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
