"""A Keras network -> its training and prediction steps, a batch at a time, without the host waiting for the device.

Keras' own train_on_batch transfers every metric to the host and, under JAX, every variable back into the network,
before it returns; its predict_on_batch allows one thread at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.models.backend import backend_name, has_gpu, library, whole_float32
from tellapart.models.devices import ONE, Devices
from tellapart.parallel import cores

if TYPE_CHECKING:
    import keras

AT_ONCE = 8
"""Images per batch when only a few are computed for comparison."""

Batch = tuple[Any, Any, Any]
"""Inputs, labels, and sample weights or None: NumPy arrays, or the results of to_device."""

Step = Callable[[Batch], dict[str, Any]]
"""A training or evaluation batch -> loss and accuracy over all batches so far, as values on the device; reading them
waits for it."""


Infer = Callable[[NDArray[Any]], list[NDArray[np.float32]]]
"""A batch (n, ...) -> the outputs of a network, (n, ...) each, one array per output."""


@contextmanager
def stepping(model: keras.Model, *, learn: bool) -> Iterator[Step]:
    """The steps of a compiled network; its metrics are reset here.

    Inside, the variables of the network belong to the steps; afterwards they hold the trained values.
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
    # The inputs of a step are consumed by it: the next step takes its results.
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


def to_device(batch: Batch, devices: Devices = ONE, images: int | None = None) -> Batch:
    """Transfer the batch to the device, in the threads that make batches, so that it takes no time of a step.

    devices: several, of which each gets its part; images: in the batches of all processes, of which this is the share.
    """
    images = len(batch[0]) if images is None else images
    inputs, labels, weights = (None if part is None else devices.hold(part, images) for part in batch)
    return inputs, labels, weights


def inferring(model: keras.Model) -> Infer:
    """The outputs of the network for a batch with its current weights; thread-safe."""
    if backend_name() == "tensorflow":
        tensorflow = library()
        taken = tensorflow.TensorSpec((None, *model.input.shape[1:]), model.input.dtype)
        called = tensorflow.function(lambda batch: model(batch, training=False), input_signature=[taken])
        return lambda batch: _arrays(called(batch))
    values = [[v.value for v in group] for group in (model.trainable_variables, model.non_trainable_variables)]
    traced = library().jit(lambda state, batch: model.stateless_call(*state, batch, training=False)[0])
    longest = 0

    def infer(batch: NDArray[Any]) -> list[NDArray[np.float32]]:
        # Each batch size is compiled separately: a shorter last batch is padded.
        nonlocal longest
        longest = max(longest, len(batch))
        filled = np.concatenate([batch, np.zeros((longest - len(batch), *batch.shape[1:]), batch.dtype)])
        return [part[: len(batch)] for part in _arrays(traced(values, filled))]

    return infer


def inferring_soon(model: keras.Model) -> Infer:
    """The same for only a few batches: with TensorFlow, calling is faster than tracing; with JAX it is not."""
    return inferring(model) if backend_name() == "jax" else lambda batch: _arrays(model(batch, training=False))


def outputs(model: keras.Model, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The outputs of a network for a few images, each as one array, in full float32."""
    with whole_float32():
        infer = inferring_soon(model)
        rows = [infer(images[start : start + AT_ONCE]) for start in range(0, len(images), AT_ONCE)]
    return [np.concatenate(parts) for parts in zip(*rows, strict=True)]


def feeders() -> int:
    """Number of threads that make batches: on a CPU the network has threads of its own, which leave at most one core
    idle."""
    return cores() if has_gpu() else 1


def _arrays(given: Any) -> list[NDArray[np.float32]]:
    return [np.asarray(part, np.float32) for part in (given if isinstance(given, list | tuple) else [given])]
