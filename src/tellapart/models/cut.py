"""Cut: where the part of a classifier that learns begins, and the parts below and above it as networks of their own.

Both follow from the blocks that the backbone declares and from the graph, never from the name of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tellapart.models.backbone import learns
from tellapart.models.backend import start_keras
from tellapart.models.classifier import Classifier


@dataclass(frozen=True, eq=False)
class Cut:
    """tensors: all that the learning part reads and that depends on nothing that learns: one map, or with it the pools
    of maps further below that the head reads, or several maps where connections skip the cut.

    >>> from tellapart.task import ImageSpec, Task
    >>> network = Classifier.from_name(Task(("a", "b")), ImageSpec(32, 32, 3), "efficientnet-lite0", weights="none")
    >>> cut = cut_of(network, 1)
    >>> cut.widths, cut.above().input.shape
    ([192], (None, 192))
    """

    classifier: Classifier
    tensors: tuple[Any, ...]

    @property
    def widths(self) -> list[int]:
        """Numbers of one image in each tensor; 0 where a side is not known."""
        return [int(np.prod([side or 0 for side in tensor.shape[1:]])) for tensor in self.tensors]

    @property
    def width(self) -> int:
        """Numbers of one image at the cut; 0 where they are not known."""
        return sum(self.widths) if all(self.widths) else 0

    def below(self) -> Any:
        """Image in, a Keras model; out what is at the cut, (n, numbers) of each tensor."""
        keras = start_keras()
        parts = [tensor if len(tensor.shape) == 2 else keras.layers.Flatten()(tensor) for tensor in self.tensors]
        return keras.Model(self.classifier.backbone.image, parts)

    def above(self) -> Any:
        """What is at the cut in, float16 (n, width), the tensors beside each other; probabilities out. A Keras model
        that shares the layers."""
        keras = start_keras()
        given = keras.Input((self.width,), dtype="float16", name="activations")
        ends = np.cumsum(self.widths).tolist()
        parts = [
            keras.ops.reshape(given[:, end - width : end], (-1, *tensor.shape[1:]))
            for tensor, width, end in zip(self.tensors, self.widths, ends, strict=True)
        ]
        top = keras.Model(list(self.tensors), self.classifier.network.output)
        return keras.Model(given, top(parts), name=f"{self.classifier.network.name}_top")


def cut_of(classifier: Classifier, blocks: int | str) -> Cut:
    """The cut below the top `blocks` of the backbone, or below `all`. Raises ModelError for more than there are."""
    learning = [*classifier.backbone.learning(blocks), *classifier.features.dense, *classifier.head.layers]
    free = {id(layer) for layer in learning}
    depends: set[int] = set()
    read: dict[int, Any] = {}
    made_by: dict[int, Any] = {}
    # A layer may be called more than once, so it is calls that are followed. Keras shows them nowhere else.
    by_depth = classifier.network._nodes_by_depth
    for depth in sorted(by_depth, reverse=True):
        for call in by_depth[depth]:
            made_by |= {id(tensor): call for tensor in call.outputs}
            if id(call.operation) in free or any(id(tensor) in depends for tensor in call.input_tensors):
                depends.update(id(tensor) for tensor in call.outputs)
                read |= {id(tensor): tensor for tensor in call.input_tensors}
    found = {key: tensor for key, tensor in read.items() if key not in depends}
    return Cut(classifier, tuple(tensor for tensor in found.values() if not _follows(tensor, found, made_by)))


def _follows(tensor: Any, found: dict[int, Any], made_by: dict[int, Any]) -> bool:
    """Whether it follows from another at the cut by layers that cost nothing, such as a normalisation: it need not be
    kept beside it."""
    call = made_by[id(tensor)]
    while len(call.input_tensors) == 1 and not learns(call.operation):
        (tensor,) = call.input_tensors
        if id(tensor) in found:
            return True
        call = made_by[id(tensor)]
    return False
