"""An image's bytes -> a decoded Pillow image: with one selected decoder, quietly, within our own limits."""

from __future__ import annotations

import io
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from PIL import Image

from tellapart.data.image_formats import ImageFormat
from tellapart.errors import ImageError

# Exceptions of Pillow's decoders for damaged files: their parsers index, unpack and convert without checking.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    AssertionError,
    LookupError,
    AttributeError,
    EOFError,
    ArithmeticError,
    RuntimeError,
    MemoryError,
    struct.error,
    zlib.error,
)


def load(content: bytes, form: ImageFormat, max_pixels: int) -> Image.Image:
    """The image, fully decoded, in the mode of the file.

    Raises ImageError with the reason `too many pixels`, `truncated` or `unreadable`.
    """
    with quiet(), damage_told():
        try:
            try:
                return _loaded(content, form, max_pixels)
            except Image.DecompressionBombError:
                # TIFF and WebP obey a process-wide limit: retried, briefly, under our own.
                with _limit_lock:
                    theirs, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, max_pixels
                    try:
                        return _loaded(content, form, max_pixels)
                    finally:
                        Image.MAX_IMAGE_PIXELS = theirs
        except Image.DecompressionBombError as error:
            raise ImageError("too many pixels", f"at most {max_pixels:,} are decoded; {error}") from error


@contextmanager
def damage_told() -> Iterator[None]:
    """Turn Pillow's exceptions for a damaged image into an ImageError, `truncated` or `unreadable`."""
    try:
        yield
    except DAMAGE as error:
        raise ImageError(_reason(error), str(error) or type(error).__name__) from error


def _loaded(content: bytes, form: ImageFormat, max_pixels: int) -> Image.Image:
    file = io.BytesIO(content)
    try:
        if form.name == "ICO":
            _refuse_large_icon(file, max_pixels)
        image = form.open(file)
    except ModuleNotFoundError as error:
        if not form.extra:
            raise
        advice = f"to read it, pip install 'tellapart[{form.extra}]', or save it as JPEG"
        raise ImageError("unreadable", f"it is a {form.name} image: {advice}") from error
    except (SyntaxError, LookupError, TypeError, struct.error) as error:
        reason = "truncated" if not file.read(1) else _reason(error)
        raise ImageError(reason, f"begins like {form.name}, but its header is damaged: {error}") from error
    refuse_bomb(image.size, max_pixels)
    image.load()
    if image.mode in ("P", "PA") and image.palette is None:
        raise ValueError("its palette is missing")
    return image


def _refuse_large_icon(file: BinaryIO, max_pixels: int) -> None:
    """Its directory may claim a smaller size than the image inside, which Pillow decodes when opening the file."""
    from PIL.IcoImagePlugin import IcoFile

    icons: Any = IcoFile(cast("io.BytesIO", file))
    if icons.entry:
        refuse_bomb(icons.frame(icons.getentryindex(icons.entry[0].dim)).size, max_pixels)


def refuse_bomb(size: tuple[int, ...], max_pixels: int) -> None:
    """Raises ImageError for an image (width, height) with too many pixels, or none."""
    if not size[0] or not size[1]:
        raise ImageError("unreadable", f"its header says {size[0]}x{size[1]}, which has no pixels")
    if size[0] * size[1] > max_pixels:
        raise ImageError("too many pixels", f"{size[0]}x{size[1]}; at most {max_pixels:,} are decoded")


def _reason(error: BaseException) -> str:
    """truncated if the decoder ran out of bytes, else unreadable."""
    ran_out = isinstance(error, (EOFError, IndexError, struct.error))
    return "truncated" if ran_out or re.search("(?i)truncat|end of file|eof", str(error)) else "unreadable"


_WarningFilter = tuple[str, "re.Pattern[str] | None", type[Warning], "re.Pattern[str] | None", int]
_PILLOW_IS_QUIET: _WarningFilter = ("ignore", None, Warning, re.compile(r"PIL\."), 0)
_quiet_lock = threading.Lock()
_limit_lock = threading.Lock()
_quiet_depth = 0


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Pillow's own warnings (sizes, corrupt EXIF, palettes) while any thread decodes.

    warnings.catch_warnings restores a whole list, losing what other threads set meanwhile; this adds one filter when
    the first thread enters and removes it when the last one leaves.
    """
    global _quiet_depth
    with _quiet_lock:
        _quiet_depth += 1
        filters = cast("list[_WarningFilter]", warnings.filters)
        if _PILLOW_IS_QUIET not in filters:
            filters.insert(0, _PILLOW_IS_QUIET)
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_depth -= 1
            filters = cast("list[_WarningFilter]", warnings.filters)
            if _quiet_depth == 0:
                while _PILLOW_IS_QUIET in filters:
                    filters.remove(_PILLOW_IS_QUIET)
