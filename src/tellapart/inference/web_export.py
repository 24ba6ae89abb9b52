"""A network -> a folder whose index.html predicts in a browser, on the device itself: the export format `web`.

The page, the network and ONNX Runtime's build for browsers are scripts, since a page opened from a disk may read no
other files. The page repeats the image pipeline in JavaScript (web/pixels.js); when it opens, it predicts a few test
images in that browser, and compares pixels and probabilities with those computed here.
"""

from __future__ import annotations

import base64
import io
import tempfile
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tellapart.data import pixels
from tellapart.errors import ExportError
from tellapart.files import from_json, to_json
from tellapart.inference.export_formats import ONNX, ExportFormat, Run, Shipment
from tellapart.inference.predictor import Predictor
from tellapart.task import ImageSpec
from tellapart.words import counted

RUNTIME_VERSION = "1.30.0"
"""Of the npm package onnxruntime-web at its public address."""
RUNTIME_ADDRESS = f"https://cdn.jsdelivr.net/npm/onnxruntime-web@{RUNTIME_VERSION}/dist/"
RUNTIME_FILES = {
    "ort.wasm.bundle.min.mjs": "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
    "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
}
"""The digests that a browser requires of what it loads from there."""

_MODEL, _RUNTIME = ("model.js", "const tellapartModel = "), ("runtime.js", "const tellapartRuntime = ")
_PAGE = ("index.html", "pixels.js", "page.js")
_COMPARED = 2000
"""Values of an image whose pixels are compared."""


def _write(shipment: Shipment, path: Path) -> None:
    _write_with(shipment, path, ONNX.write)


def _quantize(shipment: Shipment, path: Path) -> None:
    assert ONNX.quantize is not None
    _write_with(shipment, path, ONNX.quantize)


def _write_with(shipment: Shipment, path: Path, write: Any) -> None:
    runtime = _runtime(shipment.runtime)
    path.mkdir()
    with tempfile.TemporaryDirectory() as folder:
        write(shipment, file := Path(folder) / "model.onnx")
        _put(path, _MODEL, {"onnx": _text(file.read_bytes())})
    _put(path, _RUNTIME, runtime)
    page, look = files("tellapart") / "inference/web", files("tellapart") / "serve/page"
    for name in _PAGE:
        (path / name).write_bytes((page / name).read_bytes())
    # Look and words are those of the page of `tellapart serve`.
    for name in ("icon.svg", "words.js"):
        (path / name).write_bytes((look / name).read_bytes())
    (path / "style.css").write_bytes((look / "style.css").read_bytes() + (page / "page.css").read_bytes())


def _runtime(folder: Path | None) -> dict[str, Any]:
    """What the page loads ONNX Runtime from: its files, or their public address and digests.

    folder: the npm package, or the folder `dist` in it. Raises ExportError where it lacks a file.
    """
    if folder is None:
        return {"address": RUNTIME_ADDRESS, "integrity": RUNTIME_FILES}
    inside = (".", "dist", "onnxruntime-web/dist", "node_modules/onnxruntime-web/dist")
    found = next(
        (place for place in map(folder.joinpath, inside) if all((place / name).is_file() for name in RUNTIME_FILES)),
        None,
    )
    if found is None:
        raise ExportError(
            f"{folder} does not contain {' and '.join(RUNTIME_FILES)}. Give the folder of the npm package: "
            f"npm install onnxruntime-web@{RUNTIME_VERSION}, then --runtime node_modules/onnxruntime-web"
        )
    return {"files": {name: _text((found / name).read_bytes()) for name in RUNTIME_FILES}}


def _run(path: Path) -> Run | None:
    with tempfile.TemporaryDirectory() as folder:
        return ONNX.run(_as_onnx(path, Path(folder)))


def _as_onnx(path: Path, folder: Path) -> Path:
    """The network of a page as a file in another folder."""
    file = folder / "model.onnx"
    file.write_bytes(base64.b64decode(_taken(path, _MODEL)["onnx"]))
    return file


def _finish(path: Path, record: dict[str, Any]) -> None:
    """Add to the page how it was checked, and what it checks itself with."""
    record = {name: value for name, value in record.items() if name != "path"}  # of this machine
    with tempfile.TemporaryDirectory() as folder:
        file = _as_onnx(path, Path(folder))
        assert ONNX.embed is not None
        ONNX.embed(file, to_json(record))
        examples = list(_examples(Predictor(file)))
        said = {"onnx": _text(file.read_bytes()), "record": record, "examples": examples, "words": _checked(record)}
    _put(path, _MODEL, said)


def _checked(record: dict[str, Any]) -> str:
    """How the network was checked, in words."""
    kind = "on average" if record["quantized"] else "at most"
    return (
        f"When it was exported, the network was run in ONNX Runtime on {counted(record['images'], 'image')}: its "
        f"outputs differ from those of the trained network by {kind} {record['difference']:.6f} (limit "
        f"{record['bound']:g})."
    )


def _examples(predictor: Predictor) -> Iterator[dict[str, Any]]:
    """Test images as files, with the pixels and probabilities that tellapart computes from them."""
    spec = predictor.spec
    size = spec.height * spec.width * spec.channels
    step = max(1, size // _COMPARED) | 1
    for content in example_files(spec):
        taken = pixels.read(content, spec)
        probabilities = predictor.answer(taken[None])[0][0]
        yield {
            "file": _text(content),
            "step": step,
            "pixels": _text(taken.ravel()[::step].tobytes()),
            "probabilities": [float(value) for value in probabilities],
        }


def example_files(spec: ImageSpec) -> list[bytes]:
    """Drawn images that take every turn of the pipeline: a large PNG, a JPEG turned by EXIF, a small and a transparent
    PNG. Nobody's photographs are shipped with a page. All decoders agree on them: the colours of the JPEG are not
    reduced, and it is too small to be decoded at a fraction of its size."""
    width, height = spec.width, spec.height
    turned = Image.Exif()
    turned[0x0112] = 6
    transparent = _drawn(width * 3 // 2 + 7, height + 11, 3).convert("RGBA")
    transparent.putalpha(Image.linear_gradient("L").resize(transparent.size))
    return [
        _encoded(_drawn(min(3 * width + 3, 1600), min(4 * height + 1, 1600), 0), "PNG"),
        _encoded(_drawn(width * 5 // 4, height * 3 // 2, 1), "JPEG", quality=95, subsampling=0, exif=turned),
        _encoded(_drawn(width // 2 + 9, height // 3 + 5, 2), "PNG"),
        _encoded(transparent, "PNG"),
    ]


def _drawn(width: int, height: int, seed: int) -> Image.Image:
    """Smooth colours with a disc and stripes."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    canvas = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).copy()
    y, x = np.mgrid[:height, :width]
    canvas[np.hypot((x / width) - 0.4, (y / height) - 0.55) < 0.2] = rng.integers(0, 256, 3)
    canvas[(x > 0.65 * width) & ((y * 12 // height) % 2 == 0)] = rng.integers(0, 256, 3)
    return Image.fromarray(canvas)


def _encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _put(folder: Path, script: tuple[str, str], value: dict[str, Any]) -> None:
    """A value as a script that defines it."""
    (folder / script[0]).write_text(f"{script[1]}{to_json(value, ascii=True)};\n", encoding="utf-8", newline="")


def _taken(folder: Path, script: tuple[str, str]) -> dict[str, Any]:
    """What `_put` put there."""
    text = (folder / script[0]).read_text(encoding="utf-8")
    value: dict[str, Any] = from_json(text.removeprefix(script[1]).removesuffix(";\n"))
    return value


WEB = ExportFormat(
    "web", "", "ONNX Runtime", _write, _run, _quantize, of_onnx=True, finish=_finish, takes_runtime=True
)  # fmt: skip
