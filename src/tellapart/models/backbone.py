"""Backbone: an image in, named feature maps out, with its layers in blocks from the image to the top.

It also decides which layers are trained: fine-tuning unfreezes the top blocks, and normalisations keep their
statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tellapart.errors import ModelError
from tellapart.models.backend import start_keras
from tellapart.models.features import TOP

if TYPE_CHECKING:
    import keras

    from tellapart.models.pretrained import PretrainedBackbone


@dataclass(frozen=True, eq=False)
class Backbone:
    """image: the Keras tensor of uint8 images (n, height, width, channels). maps: tensors (n, rows, columns, channels)
    by name, from the image to the top, the last of them TOP.

    normalization: the layer of the pretrained weights after the average of the top map, if any. row: that of
    models.pretrained, with scaling, licence and the origin of weights; None for a network trained from scratch.
    mirrored: the maps are of the images and, behind them, of their mirror images.
    """

    name: str
    image: Any
    maps: Mapping[str, Any]
    normalization: Any = None
    row: PretrainedBackbone | None = None
    mirrored: bool = False

    @cached_property
    def network(self) -> keras.Model:
        """Image in, top map out."""
        return start_keras().Model(self.image, self.maps[TOP], name=self.name.replace(":", "."))

    @cached_property
    def layers(self) -> list[keras.Layer]:
        """All layers, from the image to the top."""
        return [*self.network.layers, *([] if self.normalization is None else [self.normalization])]

    @property
    def weights(self) -> list[Any]:
        """The variables of all layers, in the order of a file of weights."""
        return [variable for layer in self.layers for variable in layer.weights]

    def freeze(self) -> None:
        """Make no layer trainable; normalisations keep their statistics. Compile afterwards."""
        for layer in self.layers:
            layer.trainable = False

    def unfreeze(self, blocks: int | str) -> int:
        """Make the top `blocks` trainable and freeze the others; returns how many layers with weights are trainable.

        Batch normalisation stays frozen everywhere: the statistics of a few images would spoil what the backbone has
        learned. Compile afterwards. Raises ModelError for more blocks than there are.
        """
        free = self.learning(blocks)
        self.freeze()
        for layer in free:
            layer.trainable = True
        return len(free)

    def learning(self, blocks: int | str) -> list[keras.Layer]:
        """The layers that learn where the top `blocks` do, or `all`. Raises ModelError for more than there are."""
        return [layer for group in self.top(blocks) for layer in group if learns(layer)]

    def top(self, blocks: int | str) -> list[list[keras.Layer]]:
        """The top `blocks`, or `all`, from the image to the top. Raises ModelError for more than there are."""
        groups = self.blocks
        count = len(groups) if blocks == "all" else int(blocks)
        if not 0 <= count <= len(groups):
            raise ModelError(
                f"Cannot unfreeze {count} blocks of {self.name}: it has {len(groups)}. "
                f"Give a number from 0 to {len(groups)}, or all."
            )
        return groups[len(groups) - count :]

    @cached_property
    def blocks(self) -> list[list[keras.Layer]]:
        """The layers in blocks, from the image to the top; each has trainable weights.

        A block ends where branches meet and everything after depends on the image through that tensor alone, such as
        the sum of a residual block; layers before it belong to it. If cells read more than the previous one, the row
        tells how many branches meet at the end of one.
        """
        operations = self.network.operations  # in topological order
        parents = parents_of(operations)
        joined = self.row.joined if self.row else 0
        if joined:
            ends = [operation for operation in operations if len(parents[id(operation)]) >= joined]
        else:
            ends = [operation for operation in narrow(operations, parents) if _joins(operation, parents)]
        if not ends or ends[-1] is not operations[-1]:
            ends.append(operations[-1])
        blocks: list[list[keras.Layer]] = []
        seen: set[int] = set()
        for end in ends:
            new = _ancestors(end, parents) - seen
            seen |= new
            block = [operation for operation in operations if id(operation) in new]
            layers = [operation for operation in block if isinstance(operation, start_keras().layers.Layer)]
            if any(learns(layer) and not _normalises(layer) for layer in layers) or not blocks:
                blocks.append(layers)
            else:
                # A final activation or normalisation is not a block of its own.
                blocks[-1] += layers
        if self.normalization is not None:
            blocks[-1].append(self.normalization)
        return blocks


def parents_of(operations: list[Any]) -> dict[int, list[Any]]:
    """The inputs of each operation of a network, by id. Only here does Keras expose its graph with operations that are
    not layers."""
    return {
        id(operation): [node.operation for node in operation._inbound_nodes[0].parent_nodes] for operation in operations
    }


def narrow(order: list[Any], parents: dict[int, list[Any]]) -> list[Any]:
    """The operations that every path from the image to the top passes through."""
    last_reader = {id(parent): place for place, operation in enumerate(order) for parent in parents[id(operation)]}
    found = []
    reach = 0
    for place, operation in enumerate(order):
        # Nothing before this operation is read after it.
        if reach <= place:
            found.append(operation)
        reach = max(reach, last_reader.get(id(operation), place))
    return found


def levels_of(network: keras.Model, joined: int = 0) -> dict[str, Any]:
    """The maps of a network at several depths, by name: for each size the last one that everything after depends on,
    from level_1 with half the rows of the image on; the last of all is TOP. joined: also outputs where so many branches
    meet."""
    operations = network.operations
    parents = parents_of(operations)
    waists = {id(operation) for operation in narrow(operations, parents)}
    levels: list[Any] = []
    rows = network.inputs[0].shape[1]
    for operation in operations:
        tensor = operation.output
        if id(operation) not in waists and not 0 < joined <= len(parents[id(operation)]):
            continue
        if len(tensor.shape) != 4 or tensor.shape[1] is None:
            continue
        # A convolution without padding removes a few rows, and starts no new level.
        if tensor.shape[1] <= 0.7 * rows:
            rows = tensor.shape[1]
            levels.append(tensor)
        elif levels:
            levels[-1] = tensor
    below = {f"level_{number}": tensor for number, tensor in enumerate(levels[:-1], start=1)}
    return {**below, TOP: network.outputs[0]}


def learns(layer: Any) -> bool:
    """Whether a layer of a backbone has weights that are fine-tuned."""
    return bool(getattr(layer, "weights", ())) and not isinstance(layer, start_keras().layers.BatchNormalization)


def _normalises(layer: keras.Layer) -> bool:
    return isinstance(layer, start_keras().layers.LayerNormalization)


def _joins(operation: Any, parents: dict[int, list[Any]]) -> bool:
    """Whether branches meet here. A product is a gate, which scales its own branch."""
    return len(parents[id(operation)]) > 1 and type(operation).__name__ != "Multiply"


def _ancestors(operation: Any, parents: dict[int, list[Any]]) -> set[int]:
    """The operation and all that it depends on, by id."""
    found = {id(operation)}
    waiting = [operation]
    while waiting:
        for parent in parents[id(waiting.pop())]:
            if id(parent) not in found:
                found.add(id(parent))
                waiting.append(parent)
    return found
