"""Python objects -> images: paths, URLs, bytes, open files, pixels, tables, lists.

In: anything; out: (name, what Predictor.predict_named takes), lazily, one by one. Every image is decoded by
data.pixels, however it is given.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from tellapart.data.address import has_scheme
from tellapart.data.image_file import MAX_BYTES
from tellapart.data.image_formats import PREFIX, format_of
from tellapart.data.sources.hugging_face import images_of_dataset, is_dataset
from tellapart.data.sources.table_file import is_frame
from tellapart.errors import ImageError, SourceError
from tellapart.files import expanded
from tellapart.inference.inputs import Held, column_of, find_images, require_table

TAKEN = (
    "paths of files, folders, archives, tables (csv, tsv, parquet) and shards (parquet, WebDataset, TFRecord), and "
    "glob patterns; URLs (https://, http://); the bytes of an image file, or the file open in mode 'rb'; Pillow "
    "images; NumPy arrays of uint8, shape (h, w), (h, w, 1), (h, w, 3), (h, w, 4), or (n, h, w, c) of several; a "
    "column of a DataFrame; a list of any of these"
)
_CHANNELS = (1, 3, 4)
_TENSORS = {
    "torch": "tensor.permute(1, 2, 0).cpu().numpy(), or for a batch tensor.permute(0, 2, 3, 1).cpu().numpy(),",
    "tensorflow": "tensor.numpy()",
    "keras": "keras.ops.convert_to_numpy(tensor)",
}


def images_of(
    given: Any,
    *,
    path_column: str | None = None,
    root: str | os.PathLike[str] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Iterator[tuple[str, Held]]:
    """(name, image) of each image, in order, found lazily. given: see TAKEN; it may be endless.

    An image without a name is called `image 0`, numbered by position. path_column, root: for tables and DataFrames, as
    in find_images. max_bytes: of an open file. Raises SourceError for anything that is not an image and does not name
    one; the message lists what is accepted.

    >>> [name for name, _ in images_of([np.zeros((8, 8, 3), np.uint8), "a.jpg", np.zeros((2, 8, 8), np.uint8)[0]])]
    ['image 0', 'a.jpg', 'image 2']
    """
    place = 0
    if isinstance(given, str | os.PathLike):
        require_table([given], path_column, root)
    for one in _several(given, path_column, root):
        named = isinstance(one, os.PathLike) or (isinstance(one, str) and one.strip() != "")
        found = find_images([one], path_column=path_column, root=root) if named else _held(one, max_bytes)
        for name, image in found:
            yield name or f"image {place}", image
            place += 1


def _several(given: Any, path_column: str | None, root: str | os.PathLike[str] | None) -> Iterable[Any]:
    """The given object itself, or its elements."""
    pandas = sys.modules.get("pandas")
    if is_dataset(given):
        return images_of_dataset(given)
    if is_frame(given):
        names = list(map(str, given.columns))
        return _below(root, given.iloc[:, names.index(column_of(names, path_column, "The DataFrame"))])
    if pandas is not None and isinstance(given, pandas.Series | pandas.Index):
        return _below(root, given)
    if isinstance(given, np.ndarray):
        return given.tolist() if given.dtype.kind in "OU" and given.ndim == 1 else [given]
    alone = isinstance(given, str | os.PathLike | bytes | bytearray | memoryview | Image.Image | Mapping)
    if alone or hasattr(given, "read") or hasattr(given, "__array__") or not isinstance(given, Iterable):
        return [given]
    return given


def _below(root: str | os.PathLike[str] | None, values: Iterable[Any]) -> list[Any]:
    """The values of a column, with paths relative to `root` if given."""
    if root is None:
        return list(values)
    folder = expanded(root)
    return [folder / value if isinstance(value, str) and not has_scheme(value) else value for value in values]


def _held(one: Any, max_bytes: int) -> Iterable[tuple[str, Held]]:
    """For an object that is not a name, or an empty name: the image, or the images of a batch."""
    if isinstance(one, bytes | bytearray | memoryview):
        return [("", bytes(one))]
    if isinstance(one, Image.Image):
        name = getattr(one, "filename", "")
        return [(os.fsdecode(name) if name else "", _of_pillow(one, max_bytes))]
    if isinstance(one, np.ndarray):
        return [("", _of_array(array)) for array in _arrays(one)]
    if hasattr(one, "read"):
        name = getattr(one, "name", "")
        return [(name if isinstance(name, str) else "", _content(one, max_bytes))]
    missing = one is None or isinstance(one, str) or type(one).__name__ in ("NAType", "NaTType")
    if missing or (isinstance(one, float) and np.isnan(one)):
        return [("", ImageError("not an image", "the row names no image"))]
    raise SourceError(_refusal(one))


def _content(file: Any, max_bytes: int) -> bytes:
    """The content of an open file from its current position, up to one byte beyond the limit, so that exceeding it is
    noticed."""
    content = None if isinstance(file, io.TextIOBase) else file.read(max_bytes + 1)
    if not isinstance(content, bytes):
        if isinstance(content, Coroutine):
            content.close()  # it is never awaited
        raise SourceError(
            f"Given {file!r}, which does not return bytes. Open it in mode 'rb'; of an asynchronous upload, pass "
            "the result of its read()."
        )
    return content


def _of_pillow(image: Image.Image, max_bytes: int) -> Held:
    """The original bytes if Pillow has only opened the file, so that it is decoded as from its path; else the image."""
    if isinstance(image, ImageFile.ImageFile) and image.tile and image.fp and not image.fp.closed and not image.tell():
        before = image.fp.tell()
        image.fp.seek(0)
        content = image.fp.read(max_bytes + 1)
        image.fp.seek(before)
        if format_of(content[:PREFIX]) is not None:
            return content
    return image


def _arrays(given: NDArray[Any]) -> list[NDArray[np.uint8]]:
    shape = given.shape
    if given.dtype != np.uint8:
        raise SourceError(f"Given an array of {given.dtype}; expected uint8, 0..255. {_as_uint8(given.dtype)}")
    if given.ndim == 2 or (given.ndim == 3 and shape[2] in _CHANNELS):
        return [given]
    if given.ndim == 4 and shape[3] in _CHANNELS:
        return list(given)
    advice = ""
    if given.ndim == 3 and shape[0] in _CHANNELS:
        advice = " If its channels come first: array.transpose(1, 2, 0)."
    elif given.ndim == 4 and shape[1] in _CHANNELS:
        advice = " If its channels come first: array.transpose(0, 2, 3, 1)."
    elif given.ndim == 3:
        advice = " If these are several grey images: array[..., None]."
    raise SourceError(
        f"Given an array of shape {shape}; expected (h, w), (h, w, 1), (h, w, 3), (h, w, 4), or (n, h, w, c) of "
        f"several.{advice}"
    )


def _as_uint8(kind: np.dtype[Any]) -> str:
    if kind.kind == "f":
        scaled = "(array * 255).round().astype('uint8') if its values lie in 0..1"
        return f"{scaled}; array.round().astype('uint8') if they lie in 0..255."
    if kind.kind == "b":
        return "array.astype('uint8') * 255 converts it."
    if kind == np.uint16:
        return "(array // 257).astype('uint8') if its values lie in 0..65535."
    return "array.astype('uint8') converts it if its values lie in 0..255."


def _of_array(array: NDArray[np.uint8]) -> Held:
    """Its pixels; with four channels as a Pillow image, whose transparency is composited over white as for a file."""
    if array.ndim == 3 and array.shape[2] == 4 and array.size:
        return Image.fromarray(np.ascontiguousarray(array))
    return array


def _refusal(one: Any) -> str:
    kind = type(one)
    library = kind.__module__.partition(".")[0]
    if hasattr(one, "__array__") or library in _TENSORS:
        how = _TENSORS.get(library, "numpy.asarray(it)")
        return (
            f"Given a {kind.__name__} of {library}. {how} converts it to an array; expected are uint8 values, 0..255, "
            "with the channels last."
        )
    if isinstance(one, list | tuple):
        return f"Given a {kind.__name__} inside another; expected a flat list of images. Accepted: {TAKEN}."
    return f"Given {kind.__name__} as an image. Accepted: {TAKEN}."
