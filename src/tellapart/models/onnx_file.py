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

from tellapart.models.protobuf import Value, block, block_of, fields, integer, numbers, real

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
        return b"".join(self.parts())

    def parts(self) -> list[bytes | memoryview]:
        """The same, not joined."""
        dims = b"".join(integer(1, side) for side in self.values.shape)
        kind = integer(2, KINDS[self.values.dtype.name])
        little = np.ascontiguousarray(self.values, self.values.dtype.newbyteorder("<"))
        return [dims + kind + block(8, self.name), *block_of(9, [little.reshape(-1).view(np.uint8).data])]


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

    def addition(self, outputs: Iterable[Given]) -> bytes:
        """What a file that has the other nodes is to be concatenated with."""
        nodes = [node.encoded() for node in self.nodes]
        return b"".join(block_of(7, _graph(nodes, self.constants, (), outputs)))


@dataclass(frozen=True)
class File:
    """A whole ONNX file. name: of the graph. nodes: encoded, each behind those that it reads. entries: of metadata."""

    name: str
    nodes: Sequence[bytes]
    constants: Sequence[Constant]
    inputs: Sequence[Given]
    outputs: Sequence[Given]
    entries: Mapping[str, str]

    def parts(self) -> list[bytes | memoryview]:
        """A ModelProto, not joined: the constants are not copied. It has a single graph, as not every reader joins
        several."""
        opset = block(1, "") + integer(2, OPSET)
        graph = _graph(self.nodes, self.constants, self.inputs, self.outputs)
        entries = (entry(key, value) for key, value in self.entries.items())
        begin = integer(1, IR) + block(2, PRODUCER) + block(8, opset)
        return [begin, *block_of(7, [block(2, self.name), *graph]), *entries]


def entry(key: str, value: str) -> bytes:
    """Of the metadata of a file: may also be appended to a file."""
    return block(14, block(1, key), block(2, value))


def _graph(
    nodes: Iterable[bytes], constants: Iterable[Constant], inputs: Iterable[Given], outputs: Iterable[Given]
) -> list[bytes | memoryview]:
    """The fields of a GraphProto without its name."""
    tensors = (part for constant in constants for part in block_of(5, constant.parts()))
    given = [*(block(11, each.encoded()) for each in inputs), *(block(12, each.encoded()) for each in outputs)]
    return [*(block(1, node) for node in nodes), *tensors, *given]


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
