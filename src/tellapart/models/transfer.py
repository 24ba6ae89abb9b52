"""A network on a pretrained base -> its two parts, base and head, and which of its blocks learn.

In: keras.Model as build makes it, whose layer "pooling" holds the features. Read by: base_weights, training.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from tellapart.errors import ModelError
from tellapart.models.backend import start_keras
from tellapart.models.pretrained import BASES, POOLING

if TYPE_CHECKING:
    import keras


def base_of(model: keras.Model) -> keras.Model:
    """Picture in, pooled features (n, width) out; shares the layers of `model`. Raises ModelError where it has none."""
    return start_keras().Model(model.input, model.layers[_pooling(model)].output, name=model.name)


def head_of(model: keras.Model, *, last: bool = True) -> keras.Model:
    """Pooled features (n, width) in, probabilities out, or without `last` what the last layer reads; shares the layers
    of `model`. Raises ModelError as base_of."""
    keras = start_keras()
    place = _pooling(model)
    features = keras.Input(model.layers[place].output.shape[1:], dtype="float32", name="features")
    x = features
    for layer in model.layers[place + 1 : None if last else -1]:
        x = layer(x)
    return keras.Model(features, x, name=f"{model.name}_head")


def freeze(model: keras.Model) -> None:
    """No layer of the base learns, and its normalisations keep their statistics. Compile afterwards."""
    for layer in base_of(model).layers:
        layer.trainable = False


def unfreeze(model: keras.Model, blocks: int | Literal["all"]) -> int:
    """The top `blocks` of the base learn, the others are frozen; returns how many layers with weights are free.

    Batch normalisation stays frozen everywhere: statistics of a few pictures would spoil what the base has learned.
    Compile afterwards. Raises ModelError for more blocks than there are.
    """
    groups = blocks_of(model)
    count = len(groups) if blocks == "all" else blocks
    if not 0 <= count <= len(groups):
        raise ModelError(
            f"Cannot unfreeze {count} blocks of {model.name}: it has {len(groups)}. "
            f"Give a number from 0 to {len(groups)}, or all."
        )
    freeze(model)
    free = [layer for group in groups[len(groups) - count :] for layer in group if _learns(layer)]
    for layer in free:
        layer.trainable = True
    return len(free)


def blocks_of(model: keras.Model) -> list[list[keras.Layer]]:
    """The layers of the base in blocks, from the picture to the features; each has something to learn.

    A block ends where branches meet and all that follows depends on the picture through that one place alone, such as
    the sum of a residual block; what precedes it belongs to it.
    """
    base = base_of(model)
    parents = {id(operation): _parents(operation) for operation in base.operations}
    # Keras lists every operation after all that it reads.
    operations = base.operations
    pattern = BASES[_name(model)].block_end
    if pattern:
        ends = [operation for operation in operations if re.fullmatch(pattern, operation.name)]
    else:
        ends = [operation for operation in _narrow(operations, parents) if _joins(operation, parents)]
    if not ends or ends[-1] is not operations[-1]:
        ends.append(operations[-1])
    blocks: list[list[keras.Layer]] = []
    seen: set[int] = set()
    for end in ends:
        new = _ancestors(end, parents) - seen
        seen |= new
        block = [operation for operation in operations if id(operation) in new]
        layers = [operation for operation in block if isinstance(operation, start_keras().layers.Layer)]
        if any(_learns(layer) and not _normalises(layer) for layer in layers) or not blocks:
            blocks.append(layers)
        else:
            # A last activation or normalisation is no block of its own.
            blocks[-1] += layers
    return blocks


def _pooling(model: keras.Model) -> int:
    for place, layer in enumerate(model.layers):
        if layer.name == POOLING:
            return place
    raise ModelError(f"{model.name} is no pretrained base with a head: it has no layer named {POOLING!r}.")


def _name(model: keras.Model) -> str:
    return str(model.name).replace("_", "-")


def _learns(layer: keras.Layer) -> bool:
    return bool(layer.weights) and not isinstance(layer, start_keras().layers.BatchNormalization)


def _normalises(layer: keras.Layer) -> bool:
    return isinstance(layer, start_keras().layers.LayerNormalization)


def _parents(operation: Any) -> list[Any]:
    # Keras shows its graph, with what is no layer, nowhere else.
    return [node.operation for node in operation._inbound_nodes[0].parent_nodes]


def _narrow(order: list[Any], parents: dict[int, list[Any]]) -> list[Any]:
    """The operations that every way from the picture to the features passes through."""
    last_reader = {id(parent): place for place, operation in enumerate(order) for parent in parents[id(operation)]}
    found = []
    reach = 0
    for place, operation in enumerate(order):
        # Nothing before this place is read after it.
        if reach <= place:
            found.append(operation)
        reach = max(reach, last_reader.get(id(operation), place))
    return found


def _joins(operation: Any, parents: dict[int, list[Any]]) -> bool:
    """Whether branches meet here. A product is a gate, which scales the branch that it stands in."""
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
