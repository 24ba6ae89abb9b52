"""Bytes -> pixels, the one image pipeline: decode, orient, convert to 8-bit grey or colour, fit and resize.

In: a file, bytes, an open binary file, an array or a Pillow image, and an ImageSpec. Out: uint8 (height, width,
channels), 0..255. Nothing else decodes an image, so training and prediction see the same pixels.

For every input: EXIF orientation is applied; transparency is composited over white; CMYK (including Adobe's inverted
kind) becomes RGB; ICC profiles are ignored; the first frame of an animation is used; downscaling is antialiased.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import BinaryIO, Literal, cast

import cv2
import numpy as np
import PIL
import simplejpeg
from numpy.typing import NDArray
from PIL import ExifTags, Image

from tellapart.data import jpeg, png
from tellapart.data.decode_cost import cost
from tellapart.data.image_file import MAX_BYTES, read_file
from tellapart.data.image_formats import JPEG, PREFIX, ImageFormat, foreign, format_of
from tellapart.data.pillow import DAMAGE, damage_told, load, quiet, refuse_bomb
from tellapart.data.raster import Raster
from tellapart.data.resize import bilinear, geometry
from tellapart.errors import ImageError
from tellapart.task import ImageSpec

__all__ = ["MAX_PIXELS", "ROAD", "Decoded", "Source", "cost", "decode", "look", "read"]

ROAD = f"4-{cv2.__version__}-{PIL.__version__}-{simplejpeg.__version__}"
"""Part of every cache key. The number is raised if the same bytes would give other pixels than before, as may another
version of a decoder (OpenCV 5 warps one value in a hundred to the next grey level of OpenCV 4)."""

# Images are processed in parallel threads; OpenCV's own threads would busy-wait and double the processor time.
cv2.setNumThreads(1)

MAX_PIXELS = 100_000_000
"""A larger image is refused before it is decoded, as a possible decompression bomb."""

Source = str | Path | bytes | BinaryIO | NDArray[np.uint8] | Image.Image

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "lanczos": Image.Resampling.LANCZOS}
_Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
_TURNS: dict[int, _Turn] = {
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}
# The spec used for thumbnails, whatever is requested: that of the default backbone, so that its pixels need no second
# decoding. Hashes computed from it are versioned by perceptual_hash.VERSION. inference/web/pixels.js knows it too.
_LOOKS = ImageSpec(224, 224, channels=3, fit="crop")


@dataclass(frozen=True, slots=True)
class Decoded:
    """pixels: uint8 (h, w, c), None without a spec. width, height: of the image itself, after its EXIF orientation.
    mode: Pillow's name of the file's mode (RGB, L, P, CMYK, I;16 ...). thumbnail: the whole image in grey, uint8 (32,
    32), if requested; it depends on the file alone. warning: damage that the decoder found but could recover from;
    empty for an intact image."""

    pixels: NDArray[np.uint8] | None
    width: int
    height: int
    mode: str
    thumbnail: NDArray[np.uint8] | None = field(default=None, repr=False)
    warning: str = ""


def read(
    source: Source, spec: ImageSpec, *, max_pixels: int = MAX_PIXELS, max_bytes: int = MAX_BYTES
) -> NDArray[np.uint8]:
    """The image as the network takes it: uint8, shape spec.shape, 0..255, RGB or grey.

    source: a path, a file's bytes, a binary file (read to its end, left open), a uint8 array of shape (h, w), (h, w, 1)
    or (h, w, 3), or a Pillow image in any mode. Raises ImageError as `decode` does. Thread-safe.

    >>> read(np.full((20, 10), 7, np.uint8), ImageSpec(2, 2, channels=1)).tolist()
    [[[7], [7]], [[7], [7]]]
    """
    return cast(NDArray[np.uint8], decode(source, spec, max_pixels, max_bytes=max_bytes).pixels)


def decode(
    source: Source,
    spec: ImageSpec | None,
    max_pixels: int = MAX_PIXELS,
    *,
    thumbnail: bool = False,
    max_bytes: int = MAX_BYTES,
) -> Decoded:
    """Decode the whole image; without a spec only to verify that it is complete, at the smallest scale.

    Values of more than 8 bits are scaled by their range: 16-bit by 65535; 32-bit integers by 65535 if all are in
    0..65535, else by their own minimum..maximum; floats by 0..1 if all are in it, else by minimum..maximum.

    A JPEG is decoded at 1/2, 1/4 or 1/8 if that is still at least as large as needed. Measured on 300 photographs at
    128x128 against full decoding: 0.2 grey levels of mean difference, 1.5 times the speed. A thumbnail uses the scale
    for 224x224. Pixels that need half of it use it too: reducing it takes less than a second decoding. Pixels of
    another scale, or of a colour photograph in grey, need one.

    Raises ImageError with the reason `empty`, `not an image` (of no format in data.image_formats), `truncated`, `too
    many pixels` (more than max_pixels, by the header), `too many bytes` (over max_bytes), `too many scans` or `too many
    segments` (see data.jpeg and data.png) or `unreadable` (cannot be opened, or damaged).

    >>> decode(np.zeros((20, 10, 3), np.uint8), None)
    Decoded(pixels=None, width=10, height=20, mode='RGB', warning='')
    """
    if isinstance(source, np.ndarray):
        array = _checked(source)
        refuse_bomb(array.shape[1::-1], max_pixels)
        size = (array.shape[1], array.shape[0])
        loaded = seen = _Loaded(Raster(array), "L" if array.ndim == 2 else "RGB", size, size, 1)
    elif isinstance(source, Image.Image):
        loaded = seen = _held(source, max_pixels)
    else:
        content = _content(source, max_bytes)
        loaded = seen = _load(content, spec or (_LOOKS if thumbnail else None), max_pixels)
        if thumbnail and not loaded.as_looked_at:
            seen = _load(content, _LOOKS, max_pixels)
    width, height = loaded.size[::-1] if loaded.turn >= 5 else loaded.size
    small = _thumbnail(seen) if thumbnail else None
    pixels = None if spec is None else _fit(loaded, spec)
    return Decoded(pixels, width, height, loaded.mode, small, loaded.warning)


def look(source: Source, max_pixels: int = MAX_PIXELS) -> Decoded:
    """Size and mode as in `decode`; for a JPEG from its header alone, so that later damage is not noticed."""
    content = source if isinstance(source, np.ndarray | Image.Image) else _content(source)
    if not isinstance(content, bytes) or format_of(content[:PREFIX]) is not JPEG:
        return decode(content, None, max_pixels)
    header = jpeg.read_header(content)
    refuse_bomb((header.width, header.height), max_pixels)
    upright = (header.height, header.width) if _jpeg_orientation(header) >= 5 else (header.width, header.height)
    return Decoded(None, *upright, _JPEG_MODES.get(header.components, ("",))[0])


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A decoded image, not yet rotated. mode, size: of the file. extent: of the image within the raster: size, or a
    fraction of it (not whole pixels) if the JPEG decoder downscaled. turn: the EXIF orientation, 1..8. as_looked_at:
    whether _LOOKS gives the same raster."""

    raster: Raster
    mode: str
    size: tuple[int, int]
    extent: tuple[float, float]
    turn: int
    warning: str = ""
    as_looked_at: bool = True


def _content(source: str | Path | bytes | BinaryIO, max_bytes: int = MAX_BYTES) -> bytes:
    if isinstance(source, (str, Path)):
        return read_file(source, max_bytes)[0]
    content = source if isinstance(source, bytes) else source.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ImageError("too many bytes", f"at most {max_bytes:,} are read")
    if not content:
        raise ImageError("empty", "the file is empty")
    return content


def _held(image: Image.Image, max_pixels: int) -> _Loaded:
    """An image in memory, as if it had been read from a file."""
    refuse_bomb(image.size, max_pixels)
    if 0 in image.size:
        raise ImageError("empty", f"an image of {image.width}x{image.height} pixels")
    with quiet(), damage_told():
        image.load()
    return _Loaded(Raster(image), image.mode, image.size, image.size, _orientation(image))


def _load(content: bytes, spec: ImageSpec | None, max_pixels: int) -> _Loaded:
    """The image, fully decoded."""
    prefix = content[:PREFIX]
    form = format_of(prefix)
    if form is None:
        raise ImageError("not an image", foreign(prefix))
    if form is JPEG:
        return _load_jpeg(content, form, spec, max_pixels)
    warning = png.damage(content) if form.name == "PNG" else ""
    image = load(content, form, max_pixels)
    return _Loaded(Raster(image), image.mode, image.size, image.size, _orientation(image), warning)


_JPEG_MODES: dict[int, tuple[str, jpeg.Colours]] = {1: ("L", "GRAY"), 3: ("RGB", "RGB"), 4: ("CMYK", "CMYK")}


def _load_jpeg(content: bytes, form: ImageFormat, spec: ImageSpec | None, max_pixels: int) -> _Loaded:
    header = jpeg.read_header(content)
    size = (header.width, header.height)
    refuse_bomb(size, max_pixels)
    if header.precision != 8:
        advice = "8 are read; save it as a PNG or TIFF of 16 bits"
        raise ImageError("unreadable", f"a JPEG of {header.precision} bits a sample; {advice}")
    turn = _jpeg_orientation(header)
    mode, colours = _JPEG_MODES.get(header.components, ("", "GRAY"))
    if not mode:
        image = load(content, form, max_pixels)
        return _Loaded(Raster(image), image.mode, size, size, turn)
    scale: Literal[1, 2, 4, 8] = 1
    as_looked_at = True
    if not header.lossless:
        grey = mode == "RGB" and (spec is None or spec.channels == 1)
        scale, looks = _scale(size, spec, turn), _scale(size, _LOOKS, turn)
        if spec is not None and not grey and scale == 2 * looks:
            scale = looks
        as_looked_at = not grey and scale == looks
        colours = "GRAY" if grey else colours
    pixels, warning = jpeg.decode(content, header, colours, scale)
    raster = Raster(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return _Loaded(raster, mode, size, (size[0] / scale, size[1] / scale), turn, warning, as_looked_at)


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1..8; 1 if the EXIF block is damaged."""
    try:
        with quiet():
            turn = image.getexif().get(ExifTags.Base.Orientation, 1)
    except DAMAGE:
        return 1
    return turn if isinstance(turn, int) and turn in _TURNS else 1


def _jpeg_orientation(header: jpeg.JpegHeader) -> int:
    if not header.exif and not header.xmp:
        return 1
    bearer = Image.Image()  # Pillow reads EXIF and XMP from an image object
    bearer.info = {"exif": header.exif, "xmp": header.xmp}
    return _orientation(bearer)


def _scale(size: tuple[int, int], spec: ImageSpec | None, turn: int) -> Literal[1, 2, 4, 8]:
    """The factor by which the JPEG decoder may downscale: the image stays at least as large as needed."""
    if spec is None:
        return 8
    if spec.interpolation == "nearest" or max(size) <= 8:  # nearest needs the pixels of the file itself
        return 1
    box, inner = geometry(size, spec, turn)
    needed = (ceil(size[0] * inner[0] / (box[2] - box[0])), ceil(size[1] * inner[1] / (box[3] - box[1])))
    possible = min(size[0] // needed[0], size[1] // needed[1])
    scales: tuple[Literal[8, 4, 2], ...] = (8, 4, 2)
    return next((scale for scale in scales if scale <= possible), 1)


def _checked(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    plane = array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array
    if array.dtype != np.uint8 or not (plane.ndim == 2 or (plane.ndim == 3 and plane.shape[2] == 3)):
        raise ImageError(
            "not an image",
            f"an array of {array.dtype} and shape {array.shape}; expected uint8 and (h, w), (h, w, 1) or (h, w, 3)",
        )
    if plane.size == 0:
        raise ImageError("empty", f"an array of shape {array.shape}")
    return plane


def _fit(loaded: _Loaded, spec: ImageSpec) -> NDArray[np.uint8]:
    """Resize, rotate, pad and convert to the channels of the spec."""
    box, inner = geometry(loaded.size, spec, loaded.turn)
    across, down = loaded.extent[0] / loaded.size[0], loaded.extent[1] / loaded.size[1]
    box = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
    if spec.interpolation == "bilinear":
        pixels = bilinear(loaded.raster, box, inner)
    elif spec.interpolation == "nearest":
        pixels = loaded.raster.nearest(inner, box)
    else:
        pixels = loaded.raster.resized(inner, _FILTERS[spec.interpolation], box)
    if loaded.turn in _TURNS:
        pixels = _TURNS[loaded.turn](pixels)
    if pixels.ndim == 3 and spec.channels == 1:
        pixels = cast(NDArray[np.uint8], cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape == spec.shape and pixels.flags.owndata and pixels.flags.c_contiguous:
        return pixels
    canvas = np.zeros(spec.shape, np.uint8)
    height, width = pixels.shape[:2]
    top, left = (spec.height - height) // 2, (spec.width - width) // 2
    canvas[top : top + height, left : left + width] = pixels
    return canvas


def _thumbnail(loaded: _Loaded) -> NDArray[np.uint8]:
    """From every n-th pixel, which takes a third of the time of a mean over all and changes a fingerprint by 3 bits of
    128."""
    width, height = loaded.raster.size
    few = loaded.raster.nearest((min(width, 96), min(height, 96)), (0, 0, width, height))
    pixels = cv2.resize(few, (32, 32), interpolation=cv2.INTER_AREA)
    grey = cast(NDArray[np.uint8], pixels if pixels.ndim == 2 else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY))
    return _TURNS[loaded.turn](grey) if loaded.turn in _TURNS else grey
