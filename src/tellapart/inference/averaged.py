"""model.onnx of several runs -> one file whose outputs are their means, with what they have in common stored once.

Runs on the same frozen backbone share its weights and its computation, so that the file is hardly larger than one of
them. Needs the extra `train`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.files import replacing, to_json
from tellapart.inference.onnx_export import BOUND
from tellapart.inference.predictor import METADATA_KEY, Metadata, Predictor
from tellapart.models.classifier import PROBABILITIES, SIMILARITY
from tellapart.models.onnx_safety import refuse_other_files

if TYPE_CHECKING:
    import onnx


def write_average(files: Sequence[Path], path: Path, metadata: Metadata, images: NDArray[np.uint8]) -> float:
    """Write the average of these networks, which take the same images and tell apart the same classes. images: for the
    check that the file gives the mean of what they give; returns the largest difference. Raises ExportError if it is
    too large."""
    import onnx

    with replacing(path) as draft:
        model = _merged([_opened(file) for file in files])
        entry = model.metadata_props.add()
        entry.key, entry.value = METADATA_KEY, to_json(metadata.to_dict())
        onnx.save(model, str(draft))
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


def _opened(file: Path) -> onnx.ModelProto:
    import onnx

    content = file.read_bytes()
    refuse_other_files(content, str(file))
    return onnx.load_from_string(content)


@dataclass
class _Merge:
    """What is in the merged graph: the name of each weight by its content, and of each result by how it is computed."""

    weights: dict[bytes, str] = field(default_factory=dict)
    results: dict[bytes, list[str]] = field(default_factory=dict)


def _merged(models: Sequence[onnx.ModelProto]) -> onnx.ModelProto:
    import onnx
    from onnx import helper

    first, known = models[0].graph, _Merge()
    (taken,) = first.input
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []
    names = [_add(model.graph, number, taken.name, known, nodes, weights) for number, model in enumerate(models)]
    outputs = []
    for output in first.output:
        if output.name in (PROBABILITIES, SIMILARITY) and all(output.name in called for called in names):
            nodes.append(helper.make_node("Mean", [called[output.name] for called in names], [output.name]))
            outputs.append(output)
    graph = helper.make_graph(nodes, "average", [taken], outputs, weights)
    made = helper.make_model(graph, opset_imports=list(models[0].opset_import), ir_version=models[0].ir_version)
    onnx.checker.check_model(made)
    return made


def _add(
    graph: onnx.GraphProto,
    number: int,
    image: str,
    known: _Merge,
    nodes: list[onnx.NodeProto],
    weights: list[onnx.TensorProto],
) -> dict[str, str]:
    """Add a graph to the merged ones; its names -> theirs there. Whatever is there already is not added."""
    import onnx

    called = {graph.input[0].name: image, "": ""}
    for weight in graph.initializer:
        plain = onnx.TensorProto()
        plain.CopyFrom(weight)
        plain.ClearField("name")
        key = hashlib.blake2b(plain.SerializeToString(deterministic=True)).digest()
        if key not in known.weights:
            plain.name = known.weights[key] = f"average_{number}_{weight.name}"
            weights.append(plain)
        called[weight.name] = known.weights[key]
    for node in graph.node:
        added = onnx.NodeProto()
        added.CopyFrom(node)
        added.ClearField("name")
        del added.input[:], added.output[:]
        added.input.extend(called[name] for name in node.input)
        key = hashlib.blake2b(added.SerializeToString(deterministic=True)).digest()
        if key not in known.results:
            known.results[key] = [f"average_{number}_{name}" if name else "" for name in node.output]
            added.output.extend(known.results[key])
            nodes.append(added)
        called |= dict(zip(node.output, known.results[key], strict=True))
    return called
