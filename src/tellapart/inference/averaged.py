"""model.onnx of several runs -> one file whose outputs are their means, with what they have in common stored once.

Runs on the same frozen backbone share its weights and its computation, so that the file is hardly larger than one of
them. Needs neither Keras nor the onnx package.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.files import replacing, to_json
from tellapart.inference.onnx_export import BOUND
from tellapart.inference.predictor import METADATA_KEY, Metadata, Predictor
from tellapart.models.classifier import PROBABILITIES, SIMILARITY
from tellapart.models.onnx_file import Node, constants_in, entry, graphs_in, parts_of, text_of
from tellapart.models.onnx_safety import refuse_other_files
from tellapart.models.protobuf import block, block_of, encoded_fields

# Numbers of fields in onnx.proto.
_IR, _OPSET, _GRAPH = 1, 8, 7  # of a model
_NODE, _TENSOR, _INPUT, _OUTPUT = 1, 5, 11, 12  # of a graph
_TENSOR_NAME, _NODE_INPUT, _NODE_OUTPUT, _NODE_NAME = 8, 1, 2, 3


def write_average(files: Sequence[Path], path: Path, metadata: Metadata, images: NDArray[np.uint8]) -> float:
    """Write the average of these networks, which take the same images and tell apart the same classes. images: for the
    check that the file gives the mean of what they give; returns the largest difference. Raises ExportError if it is
    too large."""
    with replacing(path) as draft:
        with draft.open("wb") as file:
            file.writelines(_merged([_opened(one) for one in files]))
            file.write(entry(METADATA_KEY, to_json(metadata.to_dict())))
        each = [Predictor(file).answer(images) for file in files]
        ours = Predictor(draft).answer(images)
        expected = np.mean([probabilities for probabilities, _ in each], axis=0)
        difference = float(np.abs(ours[0] - expected).max())
        if not difference < BOUND:
            raise ExportError(
                f"The average differs from the mean of its networks by {difference:.2g}; the tolerance is {BOUND:g}. "
                "It was not written."
            )
    return difference


def _opened(file: Path) -> memoryview:
    content = file.read_bytes()
    refuse_other_files(content, str(file))
    return memoryview(content)


@dataclass
class _Merge:
    """The merged graph: its fields so far, the name of each weight by its content, and of each result by how it is
    computed."""

    image: str
    nodes: list[bytes] = field(default_factory=list)
    weights: list[bytes | memoryview] = field(default_factory=list)
    weight_names: dict[bytes, str] = field(default_factory=dict)
    results: dict[bytes, list[str]] = field(default_factory=dict)

    def add(self, content: memoryview, number: int) -> dict[str, str]:
        """Add the graph of a file; its names -> theirs here. Whatever is here already is not added."""
        called = {_input(content): self.image, "": ""}
        for name, weight in (each for graph in graphs_in(content) for each in constants_in(graph)):
            plain = [part for place, part in encoded_fields(weight) if place != _TENSOR_NAME]
            key = _digest(plain)
            if key not in self.weight_names:
                self.weight_names[key] = f"average_{number}_{name}"
                self.weights += block_of(_TENSOR, [*plain, block(_TENSOR_NAME, self.weight_names[key])])
            called[name] = self.weight_names[key]
        for node in _parts(content, _NODE):
            inputs = [block(_NODE_INPUT, called[text_of(name)]) for name in parts_of(node, _NODE_INPUT)]
            named = (_NODE_INPUT, _NODE_OUTPUT, _NODE_NAME)
            added: list[bytes | memoryview] = [*inputs]
            added += (part for place, part in encoded_fields(node) if place not in named)
            outputs = [text_of(name) for name in parts_of(node, _NODE_OUTPUT)]
            key = _digest(added)
            if key not in self.results:
                self.results[key] = [f"average_{number}_{name}" if name else "" for name in outputs]
                self.nodes.append(b"".join((*added, *(block(_NODE_OUTPUT, name) for name in self.results[key]))))
            called |= dict(zip(outputs, self.results[key], strict=True))
        return called


def _merged(contents: Sequence[memoryview]) -> list[bytes | memoryview]:
    """The encoding of the average, not joined. Its first fields are those of the first file."""
    first = contents[0]
    made = _Merge(_input(first))
    names = [made.add(content, number) for number, content in enumerate(contents)]
    outputs = []
    for output in _parts(first, _OUTPUT):
        name = _name(output)
        if name in (PROBABILITIES, SIMILARITY) and all(name in called for called in names):
            made.nodes.append(Node("Mean", [called[name] for called in names], name, {}).encoded())
            outputs.append(block(_OUTPUT, output))
    taken = block(_INPUT, next(_parts(first, _INPUT)))
    nodes = [block(_NODE, node) for node in made.nodes]
    graph = [*nodes, block(2, "average"), *made.weights, taken, *outputs]
    head = [part for place, part in encoded_fields(first) if place in (_IR, _OPSET)]
    return [*head, *block_of(_GRAPH, graph)]


def _parts(content: memoryview, number: int) -> Iterator[memoryview]:
    """The fields of this number in the graph of a file."""
    return (part for graph in graphs_in(content) for part in parts_of(graph, number))


def _input(content: memoryview) -> str:
    """The name of the image in a file."""
    return _name(next(_parts(content, _INPUT)))


def _name(value: memoryview) -> str:
    """Of an input or output."""
    return text_of(next(parts_of(value, 1)))


def _digest(parts: Sequence[bytes | memoryview]) -> bytes:
    digest = hashlib.blake2b()
    for part in parts:
        digest.update(part)
    return digest.digest()
