"""A .tflite file -> the same with TFLite metadata: class names, colours and range of the image, as programs for Android
and MediaPipe Tasks read them.

https://ai.google.dev/edge/litert/models/metadata; the tables are those of metadata_schema.fbs in MediaPipe. Written by
our own code: the writers in mediapipe 1.2.3 cannot be imported (its package lacks a module of theirs), and it brings
opencv-contrib-python, which replaces the OpenCV that decodes images here; tflite-support ended in 2023.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.inference.predictor import Metadata
from tellapart.models.classifier import PROBABILITIES

LABELS = "labels.txt"
"""The class names in order, a line each, among the files that are packed with a network."""

_NAME = "TFLITE_METADATA"
_IDENTIFIER, _PARSER = b"M001", "1.0.0"
_RGB, _GREY, _IMAGE, _FEATURE, _NORMALIZATION, _AXIS_LABELS = 1, 2, 2, 1, 1, 2
_ALIGNED = 16
"""Bytes: LiteRT reads constants in place."""


def describe(path: Path, metadata: Metadata, record: str) -> None:
    """Add the metadata to a file, and the class names. record: the name of a file that is packed later."""
    schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes())
    graph = model.subgraphs[0]
    # The order of tensors is that of the graph; their names for people are in the signature.
    signed = {given.tensorIndex: given.name.decode() for given in model.signatureDefs[0].outputs}
    outputs = [signed[tensor] for tensor in graph.outputs]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(_described(metadata, outputs, record), np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = _NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), entry]
    for held in model.buffers:
        held.Pack = _packing(schema, held)
    builder = _flatbuffers().Builder(path.stat().st_size + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())
    append_file(path, LABELS, "".join(f"{_line(name)}\n" for name in metadata.task.classes))


def append_file(path: Path, name: str, content: str) -> None:
    """Pack a file with a network: behind it, as a zip archive, uncompressed, as the readers want it."""
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(name, content)


def _described(metadata: Metadata, outputs: Sequence[str], record: str) -> bytes:
    """A ModelMetadata."""
    build = _flatbuffers().Builder(1024)
    channels = metadata.spec.channels
    image = _table(build, {0: (_RGB if channels == 3 else _GREY, "Int8")})
    content = _table(build, {0: (_IMAGE, "Uint8"), 1: image})
    # The network scales by itself: it takes 0..255 as they are.
    identity = {0: _floats(build, [0.0] * channels), 1: _floats(build, [1.0] * channels)}
    scaling = _table(build, {0: (_NORMALIZATION, "Uint8"), 1: _table(build, identity)})
    taken = {
        0: "image",
        1: metadata.to_dict()["input"],
        3: content,
        4: _tables(build, [scaling]),
        5: _table(build, {0: _floats(build, [255.0] * channels), 1: _floats(build, [0.0] * channels)}),
    }
    given = []
    for name in outputs:
        fields: dict[int, Any] = {0: name, 3: _table(build, {0: (_FEATURE, "Uint8"), 1: _table(build, {})})}
        if name == PROBABILITIES:
            labels = {0: LABELS, 1: "The class names, in order.", 2: (_AXIS_LABELS, "Int8")}
            fields[6] = _tables(build, [_table(build, labels)])
            fields[5] = _table(build, {0: _floats(build, [1.0]), 1: _floats(build, [0.0])})
        given.append(_table(build, fields))
    graph = {2: _tables(build, [_table(build, taken)]), 3: _tables(build, given)}
    packed = _table(build, {0: record, 1: "Classes, image size, thresholds and how the file was checked."})
    whole = {
        0: "Image classifier",
        1: f"Tells {len(metadata.task.classes)} classes apart. Made by tellapart.",
        3: _tables(build, [_table(build, graph)]),
        6: _tables(build, [packed]),
        7: _PARSER,
    }
    build.Finish(_table(build, whole), _IDENTIFIER)
    return bytes(build.Output())


def _table(build: Any, fields: dict[int, Any]) -> int:
    """fields: by their place in the schema; a string, the place of what was written before, or (number, its type)."""
    places = {slot: build.CreateString(value) if isinstance(value, str) else value for slot, value in fields.items()}
    build.StartObject(max(fields, default=-1) + 1)
    for slot, value in places.items():
        if isinstance(value, tuple):
            getattr(build, f"Prepend{value[1]}Slot")(slot, value[0], 0)
        else:
            build.PrependUOffsetTRelativeSlot(slot, value, 0)
    return int(build.EndObject())


def _tables(build: Any, places: Sequence[int]) -> int:
    build.StartVector(4, len(places), 4)
    for place in reversed(places):
        build.PrependUOffsetTRelative(place)
    return int(build.EndVector())


def _floats(build: Any, values: Sequence[float]) -> int:
    return int(build.CreateNumpyVector(np.asarray(values, np.float32)))


def _packing(schema: Any, held: Any) -> Callable[[Any], int]:
    """Buffer.Pack as the schema asks for it: the generated one does not align the data."""

    def pack(build: Any) -> int:
        data = None
        if held.data is not None and len(held.data):
            content = np.asarray(held.data, np.uint8).tobytes()
            build.StartVector(1, len(content), _ALIGNED)
            build.head -= len(content)
            build.Bytes[build.head : build.head + len(content)] = content
            data = build.EndVector()
        schema.BufferStart(build)
        if data is not None:
            schema.BufferAddData(build, data)
        return int(schema.BufferEnd(build))

    return pack


def _line(name: str) -> str:
    return " ".join(name.splitlines())


def _flatbuffers() -> Any:
    return importlib.import_module("flatbuffers")
