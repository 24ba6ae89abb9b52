"""A network of one's own -> a row for the table of architectures: a function (ImageSpec) -> keras.Model, a keras.Model,
or a backbone of KerasHub.

It is called by the name `package.module:function`. Code is run only where the user says so: by naming the network as it
is trained, or by trusting a run that names it. Importing this module imports no Keras.
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
"""Of the images, unless the network says another."""

_FLOATS = ("float", "bfloat")
_ALONE = 0.05
"""Largest difference that company makes to the features of an image, relative to the largest; bfloat16 rounds."""

_trusted: dict[str, Make] = {}
"""What the user named or trusted in this process, by name."""


class OwnOptions(Options):
    scaling: Literal["unit", "signed", "imagenet", "none"] = Field(
        "unit", description="values of 0..1, of -1..1, by ImageNet's mean and deviation, or 0..255 as they are"
    )
    pooling: How = Field("average", description="what is taken of the last map")
    dense: tuple[int, ...] = Field((), description="units of each dense layer before the head")
    dropout: float = Field(0, ge=0, lt=1, description="share dropped after each dense layer, or before the head")


def is_own(name: str) -> bool:
    """Whether a model's name is that of a network of one's own."""
    return ":" in name


def give(network: Any, name: str | None = None) -> str:
    """Take a network that the user handed over, for this process; returns its name. name: the one that a run has for
    it. Raises ModelError for what is no network and no function."""
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
    """Import the code that `package.module:function` names, and let it run in this process. The folder of work is
    looked in as well. Raises ModelError where it is not there."""
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
                f"The network {name} cannot be imported: {error}. Name it as package.module:function, from a folder "
                "that Python looks in or the one that you are in."
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
    """What makes the network of this name. Raises UntrustedCodeError unless the user named or trusted it."""
    if name not in _trusted:
        raise UntrustedCodeError(
            f"The network {name} is code that does not come with tellapart, and to build it that code is run, with all "
            "that you may do yourself. If you trust whom the run is from, and have the code here, say so with "
            "--trust-code (in Python trust_code=True, or model= with the network)."
        )
    return _trusted[name]


def _copies(network: Any) -> Make:
    """The network itself is left as it is: each that is made is a copy, with its weights."""

    def make(_: ImageSpec) -> Any:
        made = _described(network)
        if made is None:
            made = start_keras().models.clone_model(network)
        made.set_weights(network.get_weights())
        return made

    return make


def _described(network: Any) -> Any | None:
    """Of somebody's own class, such as a backbone of KerasHub, which a plain copy would be no longer: made by its own
    description, where it has one."""
    if type(network).__module__.split(".")[0] == "keras":
        return None
    try:
        return type(network).from_config(network.get_config())
    except (TypeError, ValueError, NotImplementedError):
        return None


def maps(x: Any, options: OwnOptions, *, name: str) -> dict[str, Any]:  # noqa: ARG001 - a row of the table
    """A scaled image, as a Keras tensor (n, height, width, channels) -> the maps of the network, or its features alone
    as TOP. Raises ModelError for a network that cannot be trained here, with what is wrong about it."""
    keras = start_keras()
    height, width, channels = x.shape[1:]
    try:
        made = trusted(name)(ImageSpec(height, width, channels))
    except TellapartError:
        raise
    except Exception as error:
        raise ModelError(f"{name} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(made, keras.Model):
        raise ModelError(f"{name} gives a {type(made).__name__}; it must give a keras.Model.")
    if not getattr(made, "inputs", None):
        raise ModelError(
            f"{name} gives a {type(made).__name__} that is not functional, so its maps are not known: make it with "
            "keras.Model(image, map), around your own layers."
        )
    if len(made.inputs) != 1:
        raise ModelError(f"{name} has {len(made.inputs)} inputs; it must take one: images (height, width, channels).")
    (taken,) = made.inputs
    if not str(taken.dtype).startswith(_FLOATS):
        raise ModelError(
            f"{name} takes {taken.dtype}; it must take float32: images that are scaled as model.scaling says."
        )
    fits = len(taken.shape) == 4 and all(
        side in (None, given) for side, given in zip(taken.shape[1:], x.shape[1:], strict=True)
    )
    if not fits:
        raise ModelError(
            f"{name} takes {tuple(taken.shape[1:])}; the images are {(height, width, channels)}. Set image.height, "
            "image.width and image.channels, or build it for the ImageSpec that it is given."
        )
    given = _outputs(made, name)
    _try(keras.Model(taken, given[TOP]), (height, width, channels), name)
    return _flat(keras.Model(made.inputs, given), x)


def _outputs(made: Any, name: str) -> dict[str, Any]:
    """The maps by name, TOP last: those that a backbone of KerasHub calls its pyramid, or what the network gives."""
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
            f"{name} gives {tuple(top.shape)}; it must give features (n, width), tokens (n, count, width), or a map "
            "(n, rows, columns, channels)."
        )
    if not str(top.dtype).startswith(_FLOATS):
        raise ModelError(f"{name} gives {top.dtype}; it must give float32 features, from which a gradient comes back.")
    return {**below, TOP: top}


def _flat(network: Any, x: Any) -> dict[str, Any]:
    """What the network gives of x, by copies of its layers that stand beside ours under names of their own, so that
    every way of writing a network sees layers alone."""
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
    """One that says how it is made again; another is taken itself, as each build makes a network anew."""
    try:
        return type(operation).from_config(operation.get_config() | {"name": f"own_{operation.name}"})
    except (TypeError, ValueError, NotImplementedError):
        return operation


def _try(network: Any, shape: tuple[int, int, int], name: str) -> None:
    """Raises ModelError for features that sum to 1, which are probabilities, and for an image whose features are others
    beside another image, as a batch must not change what is said of it."""
    brightness = np.array([0.1, 1], np.float32)[:, None, None, None]
    noise = np.random.default_rng(0).random((2, *shape), np.float32) * brightness
    try:
        both, alone = (np.asarray(network(images, training=False), np.float32) for images in (noise, noise[:1]))
    except Exception as error:
        raise ModelError(f"{name} cannot compute two images, or one: {type(error).__name__}: {error}") from error
    if not (np.isfinite(both).all() and np.isfinite(alone).all()):
        raise ModelError(f"{name} gives features that are no finite numbers, of an image of values from 0 to 1.")
    largest = float(np.abs(both).max(initial=0))
    if len(both) != 2 or len(alone) != 1 or not np.abs(both[:1] - alone).max(initial=0) <= _ALONE * largest:
        raise ModelError(
            f"{name} gives other features of an image beside another image than of the image alone, so what it says "
            "would depend on the batch. Let each image be computed for itself (training=False), and without chance."
        )
    if both.ndim == 2 and both.shape[1] > 1 and (both >= 0).all() and np.allclose(both.sum(axis=1), 1, atol=1e-3):
        raise ModelError(
            f"{name} ends in a softmax: it gives probabilities. Let it give what stands before its last layer; "
            "tellapart adds a head for your classes."
        )


def features(options: OwnOptions) -> FeatureSet:
    return FeatureSet((Pool(TOP, options.pooling),))


def hidden(options: OwnOptions) -> Hidden:
    return Hidden(options.dense, options.dropout)


def parts(name: str) -> tuple[Any, Any, Any]:
    """What says the maps, the features and the hidden layers of the head, as a row of the table has them."""
    return partial(maps, name=name), features, hidden


def keras_name(name: str) -> str:
    """A name that Keras lets a network have.

    >>> keras_name("my.networks:small-one")
    'my_networks_small_one'
    """
    return re.sub(r"\W", "_", name)
