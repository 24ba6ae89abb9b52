"""Nodes and constants -> the bytes of an ONNX file, and its constants again, without the onnx package.

In: names, NumPy arrays, attributes. Out: messages of onnx.proto in their encoding. Parts of a file that are
concatenated are read as one: so nodes can be added to a file that is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.protobuf import Value, block, fields, integer, numbers, real

OPSET = 17
"""The first with LayerNormalization."""
IR = 8
PRODUCER = "tellapart"

# Numbers of fields and values in onnx.proto, https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
KINDS = {"float32": 1, "uint8": 2, "int64": 7}
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7
_READ: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 7: np.dtype("<i8"), 10: np.dtype("<f2")}


@dataclass(frozen=True)
class Node:
    """operator: its name in ONNX, of OPSET. attributes: floats, integers, strings, or lists of integers."""

    operator: str
    inputs: Sequence[str]
    output: str
    attributes: Mapping[str, Any]

    def encoded(self) -> bytes:
        """A NodeProto."""
        attributes = (block(5, _attribute(name, value)) for name, value in self.attributes.items())
        inputs = (block(1, name) for name in self.inputs)
        return b"".join((*inputs, block(2, self.output), block(4, self.operator), *attributes))


def _attribute(name: str, value: Any) -> bytes:
    if isinstance(value, float):
        return block(1, name) + real(2, value) + integer(20, _FLOAT)
    if isinstance(value, str):
        return block(1, name) + block(4, value) + integer(20, _STRING)
    if isinstance(value, int):
        return block(1, name) + integer(3, value) + integer(20, _INT)
    return block(1, name) + b"".join(integer(8, int(each)) for each in value) + integer(20, _INTS)


@dataclass(frozen=True)
class Constant:
    """values: float32, int64 or uint8."""

    name: str
    values: NDArray[Any]

    def encoded(self) -> bytes:
        """A TensorProto."""
        dims = b"".join(integer(1, side) for side in self.values.shape)
        kind = integer(2, KINDS[self.values.dtype.name])
        little = np.ascontiguousarray(self.values, self.values.dtype.newbyteorder("<"))
        return b"".join((dims, kind, block(8, self.name), block(9, little.tobytes())))


@dataclass(frozen=True)
class Given:
    """An input or output. shape: a string where any length is possible; None: not told, for an output."""

    name: str
    dtype: str = "float32"
    shape: Sequence[int | str] | None = None

    def encoded(self) -> bytes:
        """A ValueInfoProto."""
        if self.shape is None:
            return block(1, self.name)
        sides = (block(1, block(2, side) if isinstance(side, str) else integer(1, side)) for side in self.shape)
        tensor = integer(1, KINDS[self.dtype]) + block(2, *sides)
        return block(1, self.name) + block(2, block(1, tensor))


class Nodes:
    """Nodes and constants, in the order they were added. prefix: of generated names."""

    def __init__(self, prefix: str = "") -> None:
        self.nodes: list[Node] = []
        self.constants: list[Constant] = []
        self._prefix = prefix

    def add(self, operator: str, inputs: Sequence[str], *, output: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its output."""
        output = output or f"{self._prefix}{operator}_{len(self.nodes)}"
        self.nodes.append(Node(operator, inputs, output, attributes))
        return output

    def constant(self, values: Any, dtype: Any = np.float32, name: str = "") -> str:
        """Add a constant; returns its name."""
        name = name or f"{self._prefix}constant_{len(self.constants)}"
        self.constants.append(Constant(name, np.ascontiguousarray(values, dtype)))
        return name

    def encoded(self, outputs: Iterable[Given], inputs: Iterable[Given] = ()) -> bytes:
        """A ModelProto with all of it, without a head: for concatenation."""
        return block(
            7,
            *(block(1, node.encoded()) for node in self.nodes),
            *(block(5, constant.encoded()) for constant in self.constants),
            *(block(11, given.encoded()) for given in inputs),
            *(block(12, given.encoded()) for given in outputs),
        )


def head_of(name: str) -> bytes:
    """What a ModelProto begins with: versions, and the name of its graph."""
    opset = block(1, "") + integer(2, OPSET)
    return integer(1, IR) + block(2, PRODUCER) + block(8, opset) + block(7, block(2, name))


def metadata_of(entries: Mapping[str, str]) -> bytes:
    """A ModelProto with these entries beside the graph."""
    return b"".join(block(14, block(1, key), block(2, value)) for key, value in entries.items())


def graphs_in(content: bytes | memoryview) -> Iterator[memoryview]:
    """The encoded graph of an ONNX file; several where parts of a file were concatenated. Raises ValueError."""
    return parts_of(memoryview(content), 7)


def constants_in(graph: memoryview) -> Iterator[tuple[str, memoryview]]:
    """Name and encoded tensor of each constant of a graph. Raises ValueError."""
    return ((text_of(next(parts_of(encoded, 8), b"")), encoded) for encoded in parts_of(graph, 5))


def values_in(constant: memoryview, outside: memoryview | None = None) -> NDArray[Any]:
    """Of an encoded tensor: float32, float16 or int64. outside: the bytes of the file that may hold them. Raises
    ValueError for another type, or a shape that the bytes do not have."""
    dims: list[int] = []
    kind, raw, place = 1, memoryview(b""), {}
    for number, value in fields(constant):
        if number == 1:
            dims += numbers(value)
        elif number == 2 and isinstance(value, int):
            kind = value
        elif number == 9 and isinstance(value, memoryview):
            raw = value
        elif number == 13 and isinstance(value, memoryview):
            key, entry = (text_of(part) for _, part in fields(value))
            place[key] = entry
    if place and outside is not None:
        start = int(place["offset"])
        raw = outside[start : start + int(place["length"])]
    if kind not in _READ:
        raise ValueError(f"it holds numbers of the kind {kind}")
    values: NDArray[Any] = np.frombuffer(raw, _READ[kind]).reshape(dims)
    return values


def parts_of(message: memoryview, number: int) -> Iterator[memoryview]:
    """The contents of each field of this number that is a string or message."""
    return (value for place, value in fields(message) if place == number and isinstance(value, memoryview))


def text_of(value: Value | bytes) -> str:
    """A string; empty for a number."""
    return "" if isinstance(value, int) else bytes(value).decode()
