"""A Keras network -> its training and prediction steps, a batch at a time, without the host waiting for the device.

Keras' own train_on_batch brings every figure to the host and, under JAX, every variable back into the network, before
it returns; its predict_on_batch takes one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.backend import backend_name, has_gpu, library, start_keras, whole_float32
from tellapart.parallel import cores

if TYPE_CHECKING:
    import keras

AT_ONCE = 8
"""Images in a batch, where a few are computed to compare on."""

Batch = tuple[Any, Any, Any]
"""Inputs, labels, and weights of the examples or None: NumPy arrays, or what to_device made of them."""

Step = Callable[[Batch], dict[str, Any]]
"""A batch learned from, or judged -> loss and accuracy over all batches so far: numbers that are still on the device,
and whose reading waits for it."""


Infer = Callable[[NDArray[Any]], list[NDArray[np.float32]]]
"""A batch (n, ...) -> what a network gives of it, (n, ...) each, one array an output."""


@contextmanager
def stepping(model: keras.Model, *, learn: bool) -> Iterator[Step]:
    """The steps of a compiled network, the means of whose figures begin anew here.

    While it is open the variables of the network belong to the steps; when it is left they hold what was learned.
    """
    model.reset_metrics()
    if learn:
        model.make_train_function()
        function = model.train_function
    else:
        model.make_test_function()
        function = model.test_function
    if backend_name() == "tensorflow":
        yield lambda batch: dict(function(iter([batch])))
        return
    groups = [model.trainable_variables, model.non_trainable_variables, model.metrics_variables]
    if learn:
        groups.insert(2, model.optimizer.variables)
    # What goes into a step is used up by it: the next takes what it gave.
    state: Any = tuple([variable.value for variable in group] for group in groups)

    def step(batch: Batch) -> dict[str, Any]:
        nonlocal state
        figures, state = function(state, iter([batch]))
        return dict(figures)

    try:
        yield step
    finally:
        for group, values in zip(groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)


def to_device(batch: Batch) -> Batch:
    """The batch where the steps compute; in the threads that make batches, so that its way there costs no step time."""
    convert = start_keras().ops.convert_to_tensor
    inputs, labels, weights = (None if part is None else convert(part) for part in batch)
    return inputs, labels, weights


def inferring(model: keras.Model) -> Infer:
    """What the network gives of a batch with the weights that it has now; for any number of threads at once."""
    if backend_name() == "tensorflow":
        tensorflow = library()
        taken = tensorflow.TensorSpec((None, *model.input.shape[1:]), model.input.dtype)
        called = tensorflow.function(lambda batch: model(batch, training=False), input_signature=[taken])
        return lambda batch: _arrays(called(batch))
    values = [[v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]
    traced = library().jit(lambda state, batch: model.stateless_call(*state, batch, training=False)[0])
    longest = 0

    def infer(batch: NDArray[Any]) -> list[NDArray[np.float32]]:
        # Each length is compiled for itself: a last batch that is shorter is filled up.
        nonlocal longest
        longest = max(longest, len(batch))
        filled = np.concatenate([batch, np.zeros((longest - len(batch), *batch.shape[1:]), batch.dtype)])
        return [part[: len(batch)] for part in _arrays(traced(values, filled))]

    return infer


def inferring_soon(model: keras.Model) -> Infer:
    """The same for a few batches alone: TensorFlow is quicker called than traced, JAX is not."""
    return inferring(model) if backend_name() == "jax" else lambda batch: _arrays(model(batch, training=False))


def outputs(model: keras.Model, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """What a network gives for a few images, each output whole, in full float32."""
    with whole_float32():
        infer = inferring_soon(model)
        rows = [infer(images[start : start + AT_ONCE]) for start in range(0, len(images), AT_ONCE)]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def feeders() -> int:
    """Threads that make batches: on a processor the network has its own, which leave one idle place at most."""
    return cores() if has_gpu() else 1


def _arrays(given: Any) -> list[NDArray[np.float32]]:
    return [np.asarray(part, np.float32) for part in (given if isinstance(given, list | tuple) else [given])]
