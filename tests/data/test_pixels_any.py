"""Any size, mode and orientation: one shape, one type, and one answer from a file, its bytes and its array."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from tellapart.data.pixels import decode, read
from tellapart.task import ImageSpec

# What an orientation asks of the stored image to be upright, as NumPy says it.
UPRIGHT = {
    1: lambda stored: stored,
    2: np.fliplr,
    3: lambda stored: np.rot90(stored, 2),
    4: np.flipud,
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),
    8: np.rot90,
}

sides = st.integers(1, 48)
specs = st.builds(
    ImageSpec,
    sides,
    sides,
    channels=st.sampled_from([1, 3]),
    fit=st.sampled_from(["squash", "crop", "pad"]),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
)
noise = st.builds(
    lambda height, width, colour, seed: np.random.default_rng(seed).integers(
        0, 256, (height, width, 3) if colour else (height, width), np.uint8
    ),
    sides,
    sides,
    st.booleans(),
    st.integers(0, 9),
)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@given(noise, specs, st.sampled_from(["PNG", "BMP", "TIFF"]))
@settings(max_examples=60)
def test_a_file_its_bytes_and_its_array_have_one_answer(pixels: np.ndarray, spec: ImageSpec, kind: str) -> None:
    data = encoded(Image.fromarray(pixels), kind)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "image")
        path.write_bytes(data)
        found = [read(source, spec) for source in (pixels, data, io.BytesIO(data), path, str(path))]
    assert all(answer.shape == spec.shape and answer.dtype == np.uint8 for answer in found)
    assert all(np.array_equal(found[0], answer) for answer in found[1:])


@given(
    noise,
    specs.filter(lambda spec: spec.fit != "pad"),
    st.sampled_from(["PNG", "TIFF", "JPEG", "WEBP"]),
    st.sampled_from(sorted(UPRIGHT)),
)
@example(
    np.array([[95, 130, 194, 217]], np.uint8), ImageSpec(1, 1, channels=1, fit="crop"), "PNG", 1
)  # a pixel between two
@settings(max_examples=80)
def test_a_turned_file_is_the_same_image_turned(pixels: np.ndarray, spec: ImageSpec, kind: str, turn: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    image = Image.fromarray(pixels)
    plain, turned = encoded(image, kind), encoded(image, kind, exif=exif)
    lying = ImageSpec(spec.width, spec.height, spec.channels, spec.fit, spec.interpolation) if turn >= 5 else spec
    upright = UPRIGHT[turn](pixels)
    # Pillow turns a TIFF itself, before it is resized; where a pixel lies between two, nearest then takes the other.
    expected = read(np.ascontiguousarray(upright), spec) if kind == "TIFF" else UPRIGHT[turn](read(plain, lying))
    assert np.array_equal(read(turned, spec), expected)
    found = decode(turned, None)
    assert (found.height, found.width) == upright.shape[:2]
    if kind in ("PNG", "TIFF"):
        own = ImageSpec(*upright.shape[:2], channels=3 if pixels.ndim == 3 else 1, fit="pad")
        assert np.array_equal(read(turned, own), upright.reshape(own.shape))


MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"),
    "WEBP": ("RGB", "RGBA"),
    "JPEG": ("L", "RGB", "CMYK", "YCbCr"),
}


@given(noise, specs, st.sampled_from([(kind, mode) for kind, modes in MODES.items() for mode in modes]))
@settings(max_examples=100)
def test_any_mode_of_any_format_has_the_shape_and_type_of_the_spec(
    pixels: np.ndarray, spec: ImageSpec, form: tuple[str, str]
) -> None:
    kind, mode = form
    wide = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
    image = Image.fromarray(pixels)
    image = Image.fromarray(np.asarray(image.convert("L")).astype(wide[mode])) if mode in wide else image.convert(mode)
    data = encoded(image, kind)
    found = decode(data, spec)
    assert found.pixels is not None
    assert (found.pixels.shape, found.pixels.dtype) == (spec.shape, np.uint8)
    assert (found.height, found.width) == pixels.shape[:2]
    assert np.array_equal(found.pixels, read(io.BytesIO(data), spec))
    if spec.channels == 3 and mode in ("1", "L", "LA", "I;16", "I", "F"):
        assert (found.pixels == found.pixels[..., :1]).all(), "grey has become coloured"
