"""The graph of a bundled backbone -> the part of it that computes some features, with its weights inside.

The graph in the package reads its weights from the file beside it and outputs every feature that training may choose;
a network that is to stand alone takes from it what it needs. Needs neither Keras nor the onnx package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.features import Pool
from tellapart.models.onnx_file import Constant, constants_in, graphs_in, parts_of, text_of, values_in
from tellapart.models.pretrained_weights import bundled_graph
from tellapart.models.protobuf import block, fields, numbers


@dataclass(frozen=True)
class _Node:
    """One of the file. encoded: as it stands there. perm: of a Transpose."""

    operator: str
    inputs: tuple[str, ...]
    output: str
    perm: tuple[int, ...]
    encoded: bytes

    def reading(self, instead: Mapping[str, str]) -> bytes:
        """Encoded, with other inputs in the place of some."""
        if instead.keys().isdisjoint(self.inputs):
            return self.encoded
        found = [(number, value) for number, value in fields(memoryview(self.encoded)) if isinstance(value, memoryview)]
        names = (instead.get(text_of(value), text_of(value)) if number == 1 else value for number, value in found)
        return b"".join(block(number, value) for (number, _), value in zip(found, names, strict=True))


@dataclass(frozen=True)
class BundledGraph:
    """nodes: by the name of their output, in order. constants: encoded tensors by name. weights: the bytes of the file
    beside the graph."""

    nodes: Mapping[str, _Node]
    constants: Mapping[str, memoryview]
    weights: memoryview

    @classmethod
    def of(cls, name: str) -> BundledGraph:
        """That of a bundled backbone."""
        path = bundled_graph(name)
        nodes: dict[str, _Node] = {}
        constants: dict[str, memoryview] = {}
        for graph in graphs_in(path.read_bytes()):
            nodes |= {node.output: node for node in map(_node, parts_of(graph, 1))}
            constants |= dict(constants_in(graph))
        return cls(nodes, constants, memoryview(path.with_suffix(".safetensors").read_bytes()))

    def part(
        self, outputs: Iterable[str], instead: Mapping[str, str] | None = None
    ) -> tuple[list[bytes], list[Constant]]:
        """The encoded nodes that compute some tensors, in order, and the constants that they read, float32 and in the
        order of axes that the nodes take. instead: for a tensor, the name of another one that is read in its place."""
        read: dict[str, NDArray[Any]] = {}
        taken: set[str] = set()
        waiting = list(outputs)
        while waiting:
            name = waiting.pop()
            if name in taken or name in read:
                continue
            value = self._value(name)
            if value is not None:
                read[name] = value
            elif name in self.nodes:
                taken.add(name)
                waiting += self.nodes[name].inputs
        nodes = [node.reading(instead or {}) for name, node in self.nodes.items() if name in taken]
        return nodes, [Constant(name, read[name]) for name in sorted(read)]

    def map_of(self, pool: Pool) -> tuple[str, bool]:
        """The tensor that a pool averages, and whether its channels are the last axis rather than the second."""
        if pool.grid > 1:
            return pool.map, True
        node = self.nodes[pool.key]
        while node.operator in ("Identity", "Flatten"):
            node = self.nodes[node.inputs[0]]
        if node.operator != "GlobalAveragePool":
            raise ValueError(f"{pool.key} is not an average in the graph")
        return node.inputs[0], False

    def _value(self, name: str) -> NDArray[Any] | None:
        """Of a constant, or of a tensor that is a constant in another type or order; None for others."""
        if name in self.constants:
            return values_in(self.constants[name], self.weights)
        node = self.nodes.get(name)
        if node is None or node.operator not in ("Cast", "Transpose"):
            return None
        value = self._value(node.inputs[0])
        if value is None:
            return None
        # The graph casts weights to float32 alone.
        return value.astype(np.float32) if node.operator == "Cast" else value.transpose(node.perm)


def _node(encoded: memoryview) -> _Node:
    (output,), (operator,) = parts_of(encoded, 2), parts_of(encoded, 4)
    inputs = tuple(text_of(name) for name in parts_of(encoded, 1))
    perm: list[int] = []
    for attribute in parts_of(encoded, 5):
        if text_of(next(parts_of(attribute, 1))) == "perm":
            perm = [number for place, value in fields(attribute) if place == 8 for number in numbers(value)]
    return _Node(text_of(operator), inputs, text_of(output), tuple(perm), bytes(encoded))
