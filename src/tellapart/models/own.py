"""A user's own network -> a row for the table of architectures: a function, a keras.Model or a KerasHub backbone.

It is referred to as `package.module:function`. Its code only runs if the user names the network for training, or trusts
a run that names it. Importing this module imports no Keras.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from tellapart.errors import ModelError, TellapartError, UntrustedCodeError
from tellapart.models.backend import start_keras
from tellapart.models.features import TOP, FeatureSet, Hidden, How, Pool
from tellapart.models.scratch import Options
from tellapart.task import ImageSpec

Make = Callable[[ImageSpec], Any]

SIDE = 128
"""Default side of the images, unless the network specifies one."""

_FLOATS = ("float", "bfloat")
_ALONE = 0.05
"""Largest difference between the features of an image alone and in a batch, relative to the largest feature; allows for
rounding in bfloat16."""

_trusted: dict[str, Make] = {}
"""The networks that the user named or trusted in this process, by name."""


class OwnOptions(Options):
    scaling: Literal["unit", "signed", "imagenet", "none"] = Field(
        "unit",
        description="unit: 0..1; signed: -1..1; imagenet: by ImageNet's mean and standard deviation; none: 0..255",
    )
    pooling: How = Field("average", description="how the last feature map is pooled")
    dense: tuple[int, ...] = Field((), description="units of each dense layer before the head")
    dropout: float = Field(0, ge=0, lt=1, description="dropout rate after each dense layer, or before the head")


def is_own(name: str) -> bool:
    """Whether a model's name is that of a custom network."""
    return ":" in name


def give(network: Any, name: str | None = None) -> str:
    """Register a network that the user passed, for this process; returns its name. name: the one in a run. Raises
    ModelError if it is neither a network nor a function."""
    keras = start_keras()
    if isinstance(network, keras.Model):
        name = name or f"{type(network).__module__}:{network.name}"
        _trusted[name] = _copies(network)
    elif callable(network):
        name = name or f"{network.__module__}:{getattr(network, '__qualname__', type(network).__name__)}"
        _trusted[name] = network
    else:
        raise ModelError(
            f"model is a name, a function (ImageSpec) -> keras.Model, or a keras.Model; given {type(network).__name__}."
        )
    return name


def trust(name: str) -> None:
    """Import the code that `package.module:function` names, and allow it to run in this process. The working directory
    is searched too. Raises ModelError if it does not exist."""
    if name in _trusted:
        return
    start_keras()
    module, _, function = name.partition(":")
    with _here():
        try:
            found: Any = importlib.import_module(module)
            for part in function.split("."):
                found = getattr(found, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise ModelError(
                f"The network {name} cannot be imported: {error}. Name it as package.module:function, in a folder "
                "on Python's path or the current folder."
            ) from None
    give(found, name)


@contextmanager
def _here() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def trusted(name: str) -> Make:
    """The function that makes the network of this name. Raises UntrustedCodeError unless the user named or trusted
    it."""
    if name not in _trusted:
        raise UntrustedCodeError(
            f"The network {name} is custom code, not part of tellapart. Building it runs that code with all your "
            "permissions. If you trust where the run is from and have the code here, add "
            "--trust-code (in Python trust_code=True, or model= with the network)."
        )
    return _trusted[name]


def _copies(network: Any) -> Make:
    """The network itself is not changed: each call makes a copy, with its weights."""

    def make(_: ImageSpec) -> Any:
        made = _described(network)
        if made is None:
            made = start_keras().models.clone_model(network)
        made.set_weights(network.get_weights())
        return made

    return make


def _described(network: Any) -> Any | None:
    """A copy of a network of a custom class, such as a KerasHub backbone, which a plain copy would turn into a plain
    network: made from its own configuration, if it has one."""
    if type(network).__module__.split(".")[0] == "keras":
        return None
    try:
        return type(network).from_config(network.get_config())
    except (TypeError, ValueError, NotImplementedError):
        return None


def maps(x: Any, options: OwnOptions, *, name: str) -> dict[str, Any]:  # noqa: ARG001 - a row of the table
    """A scaled image, as a Keras tensor (n, height, width, channels) -> the maps of the network, or its features alone
    as TOP. Raises ModelError for a network that cannot be trained here, and tells why."""
    keras = start_keras()
    height, width, channels = x.shape[1:]
    try:
        made = trusted(name)(ImageSpec(height, width, channels))
    except TellapartError:
        raise
    except Exception as error:
        raise ModelError(f"{name} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(made, keras.Model):
        raise ModelError(f"{name} returns a {type(made).__name__}; it must return a keras.Model.")
    if not getattr(made, "inputs", None):
        raise ModelError(
            f"{name} returns a {type(made).__name__} that is not functional, so its maps are unknown. Build it with "
            "keras.Model(image, map), around your own layers."
        )
    if len(made.inputs) != 1:
        raise ModelError(f"{name} has {len(made.inputs)} inputs; it must take one: images (height, width, channels).")
    (taken,) = made.inputs
    if not str(taken.dtype).startswith(_FLOATS):
        raise ModelError(f"{name} takes {taken.dtype}; it must take float32: images scaled as model.scaling sets.")
    fits = len(taken.shape) == 4 and all(
        side in (None, given) for side, given in zip(taken.shape[1:], x.shape[1:], strict=True)
    )
    if not fits:
        raise ModelError(
            f"{name} takes {tuple(taken.shape[1:])}; the images are {(height, width, channels)}. Set image.height, "
            "image.width and image.channels, or build it for the given ImageSpec."
        )
    given = _outputs(made, name)
    _try(keras.Model(taken, given[TOP]), (height, width, channels), name)
    return _flat(keras.Model(made.inputs, given), x)


def _outputs(made: Any, name: str) -> dict[str, Any]:
    """The maps by name, TOP last: the pyramid outputs of a KerasHub backbone, or the network's outputs."""
    given = made.outputs
    if isinstance(made.output, dict):
        named = dict(made.output)
    else:
        named = {f"map_{number}": tensor for number, tensor in enumerate(given, start=1)}
    pyramid = dict(getattr(made, "pyramid_outputs", None) or {})
    top = list(named.values())[-1]
    both = {**pyramid, **named}
    below = {key: tensor for key, tensor in both.items() if tensor is not top and len(tensor.shape) == 4}
    if len(top.shape) not in (2, 3, 4):
        raise ModelError(
            f"{name} outputs {tuple(top.shape)}; it must output features (n, width), tokens (n, count, width), or a "
            "map (n, rows, columns, channels)."
        )
    if not str(top.dtype).startswith(_FLOATS):
        raise ModelError(f"{name} outputs {top.dtype}; it must output float32 features, which have a gradient.")
    return {**below, TOP: top}


def _flat(network: Any, x: Any) -> dict[str, Any]:
    """The network's outputs for x, using copies of its layers with unique names inside our own network, so that every
    exporter sees only layers."""
    keras = start_keras()
    copies: dict[int, Any] = {}

    originals: list[tuple[Any, Any]] = []

    def copy(operation: Any) -> Any:
        if isinstance(operation, keras.Model) and getattr(operation, "inputs", None):
            inner = keras.Model(operation.inputs, operation.outputs)
            return lambda given, **_: inner._run_through_graph(given, copy)
        if id(operation) not in copies:
            copies[id(operation)] = _copied(operation)
            originals.append((operation, copies[id(operation)]))
        return copies[id(operation)]

    found: dict[str, Any] = network._run_through_graph(x, copy)
    for operation, made in originals:
        if made is not operation and getattr(operation, "weights", None):
            made.set_weights(operation.get_weights())
    if len(found[TOP].shape) == 3:
        found[TOP] = keras.layers.GlobalAveragePooling1D(name="tokens")(found[TOP])
    return found


def _copied(operation: Any) -> Any:
    """A copy from its configuration; a layer without one is used itself, as each build makes a new network."""
    try:
        return type(operation).from_config(operation.get_config() | {"name": f"own_{operation.name}"})
    except (TypeError, ValueError, NotImplementedError):
        return operation


def _try(network: Any, shape: tuple[int, int, int], name: str) -> None:
    """Raises ModelError for features that sum to 1, which are probabilities, and for features that depend on the other
    images of the batch."""
    brightness = np.array([0.1, 1], np.float32)[:, None, None, None]
    noise = np.random.default_rng(0).random((2, *shape), np.float32) * brightness
    try:
        both, alone = (np.asarray(network(images, training=False), np.float32) for images in (noise, noise[:1]))
    except Exception as error:
        raise ModelError(f"{name} fails on a batch of two images or of one: {type(error).__name__}: {error}") from error
    if not (np.isfinite(both).all() and np.isfinite(alone).all()):
        raise ModelError(f"{name} outputs features that are not finite, for an image with values from 0 to 1.")
    largest = float(np.abs(both).max(initial=0))
    if len(both) != 2 or len(alone) != 1 or not np.abs(both[:1] - alone).max(initial=0) <= _ALONE * largest:
        raise ModelError(
            f"{name} outputs different features for an image alone and for the same image in a batch with another, so "
            "its predictions would depend on the batch. Compute each image independently (training=False), without "
            "randomness."
        )
    if both.ndim == 2 and both.shape[1] > 1 and (both >= 0).all() and np.allclose(both.sum(axis=1), 1, atol=1e-3):
        raise ModelError(
            f"{name} ends in a softmax: it outputs probabilities. Return the input of its last layer instead; "
            "tellapart adds a head for your classes."
        )


def features(options: OwnOptions) -> FeatureSet:
    return FeatureSet((Pool(TOP, options.pooling),))


def hidden(options: OwnOptions) -> Hidden:
    return Hidden(options.dense, options.dropout)


def parts(name: str) -> tuple[Any, Any, Any]:
    """The functions for the maps, the features and the hidden layers of the head, as in a row of the table."""
    return partial(maps, name=name), features, hidden


def keras_name(name: str) -> str:
    """A name that Keras accepts for a network.

    >>> keras_name("my.networks:small-one")
    'my_networks_small_one'
    """
    return re.sub(r"\W", "_", name)
