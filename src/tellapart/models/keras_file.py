"""An untrusted .keras file -> keras.Model, refused if it holds anything but what tellapart writes.

The format is a zip of JSON that names classes, and an HDF5 file of arrays. Keras' safe mode keeps Lambda layers from
running; older versions let other classes through, and a layer may load a vocabulary or a module from any path, an array
lie in any file. Here only the classes of tellapart's own networks are built, from arrays that lie whole in the file.
Needs the extra `train`.
"""

from __future__ import annotations

import io
import json
import os
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.errors import ModelError, RunError
from tellapart.models.backend import ran_out_of_memory, start_keras, without_collecting
from tellapart.models.weights_file import elsewhere, shapes_of

if TYPE_CHECKING:
    import keras

LAYERS = frozenset(
    (
        "Activation", "Add", "AveragePooling2D", "BatchNormalization", "Concatenate", "Conv2D", "Cropping2D", "Dense",
        "DepthwiseConv2D", "Dropout", "Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "InputLayer",
        "LayerNormalization", "MaxPooling2D", "Multiply", "ReLU", "Rescaling", "Reshape", "SeparableConv2D",
        "UnitNormalization", "ZeroPadding2D",
    )
)  # fmt: skip
"""What the networks of models.registry are made of; a test builds each and compares."""
_ARITHMETIC = {
    ("keras.src.applications.inception_resnet_v2", "CustomScaleLayer"),
    ("keras.src.ops.numpy", "Add"),  # of MobileNetV3, as is the next
    ("keras.src.ops.numpy", "Multiply"),
    ("keras.src.ops.numpy", "Flip"),  # of colours, before ResNet-50
    ("keras.src.ops.numpy", "Absolute"),  # of the root of features, as are the next
    ("keras.src.ops.numpy", "Sqrt"),
    ("keras.src.ops.numpy", "Divide"),
}
"""What networks hold beside layers."""
_PLAIN = ("keras.initializers", "keras.regularizers", "keras.constraints")
_MODELS = {("keras", "Functional"), ("keras.src.models.functional", "Functional"), ("keras", "DTypePolicy")}
_TENSOR = "__keras_tensor__"  # stands in the configuration for what a layer gives
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_DAMAGE = (OSError, zipfile.BadZipFile, ValueError, TypeError, LookupError, RecursionError, MemoryError)
_own: ContextVar[frozenset[str]] = ContextVar("own", default=frozenset())
_LONGEST = 1 << 26  # bytes of a configuration: the largest network's has a million


@without_collecting()
def open_keras(path: str | os.PathLike[str]) -> keras.Model:
    """The network of a .keras file, not compiled. Raises RunError for a file that tellapart did not write so."""
    path = Path(path)
    keras = start_keras()
    try:
        _refuse_foreign(path, _own.get())
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except _DAMAGE as error:
        raise RunError(f"{path} is damaged, or not a network that tellapart wrote: {error}") from None
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        raise RunError(f"{path} needs more memory than there is, or is not a network that tellapart wrote.") from None


@without_collecting()
def load_weights(network: keras.Model, path: str | os.PathLike[str], own: Collection[str] = ()) -> None:
    """Give a network, built of a run's configuration, the weights of its .keras file; nothing that the file describes
    is built. own: what it may describe beside our layers, as own_classes has it. Raises RunError for a file that
    tellapart did not write so, or of another network."""
    path = Path(path)
    try:
        held = _refuse_foreign(path, frozenset(own))
        wanted = Counter(tuple(variable.shape) for variable in network.weights)
        if not wanted <= held:  # beside them it may hold an optimizer's
            raise RunError(
                f"{path} does not hold the weights of the network that its run's config.toml names: they are from "
                "another network, or from another version of tellapart."
            )
        with warnings.catch_warnings():
            # Of layers that are not in the file Keras says no more than this.
            warnings.filterwarnings("error", "Skipping nested container", UserWarning)
            network.load_weights(path)
    except (*_DAMAGE, UserWarning) as error:
        # Keras leaves the file open, and HDF5 that is open as Python ends may end in a crash.
        traceback.clear_frames(error.__traceback__)
        raise RunError(f"{path} is damaged, or not a network that tellapart wrote: {error}") from None


def own_classes(network: keras.Model) -> list[str]:
    """`module.Class` of all that a network's description names beside what tellapart's own networks do, sorted.

    Raises ModelError for a layer that Keras cannot describe, as the network could not be saved.
    """
    try:
        described = json.loads(network.to_json())
    except Exception as error:  # of somebody's get_config
        raise ModelError(
            f"The network cannot be saved, as one of its layers does not say how it is made: {error} "
            "Give your layers get_config, or make them with simple arguments alone."
        ) from error
    return sorted({f"{held[0]}.{held[1]}" for held in _classes(described) if not _known(*held)})


@contextmanager
def layers_of(network: keras.Model) -> Iterator[None]:
    """Within, open_keras builds the classes of this network's layers as well: of somebody's own, which is trusted."""
    token = _own.set(frozenset(own_classes(network)))
    try:
        with start_keras().saving.custom_object_scope({type(one).__name__: type(one) for one in network.operations}):
            yield
    finally:
        _own.reset(token)


def _refuse_foreign(path: Path, own: Collection[str] = ()) -> Counter[tuple[int, ...]]:
    """The shapes of its arrays."""
    import h5py

    with zipfile.ZipFile(path) as bundle:
        members = bundle.infolist()
        # Keras does not compress: what is read is never more than the file holds.
        packed = [member.filename for member in members if member.file_size > member.compress_size]
        foreign = sorted({member.filename for member in members} - _MEMBERS) or packed
        if foreign or len(members) != len(_MEMBERS):
            raise RunError(
                f"{path} is refused: it does not hold {', '.join(sorted(_MEMBERS))}, each once and uncompressed."
            )
        if bundle.getinfo("config.json").file_size > _LONGEST:
            raise RunError(f"{path} is refused: its configuration is too long for a network.")
        for module, name, registered in _classes(json.loads(bundle.read("config.json"))):
            if not _known(module, name, registered) and f"{module}.{name}" not in own:
                called = "" if registered in (None, name) else f", called {registered},"
                raise RunError(
                    f"{path} is refused: it holds {name}{called} of {module}, which no network of tellapart contains "
                    "and which could run code or read files. If you trust its source, open it with Keras yourself."
                )
        with h5py.File(io.BytesIO(bundle.read("model.weights.h5"))) as arrays:
            found = elsewhere(arrays, whole=True)
            if found:
                raise RunError(f"{path} is refused: its array {found} is not stored completely in the file.")
            return shapes_of(arrays)


def _known(module: object, name: object, registered: object) -> bool:
    # Keras looks a registered name up first.
    return registered in (None, name) and (
        (module == "keras.layers" and name in LAYERS)
        or (module, name) in _MODELS | _ARITHMETIC
        or module in _PLAIN
        or (module is None and name == _TENSOR)
    )


def _classes(config: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(module, name, registered name) of each class that a configuration asks for, but for compiling, which is
    not done."""
    if isinstance(config, dict):
        config = {key: value for key, value in config.items() if key != "compile_config"}
    left = [config]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            if "class_name" in value or "module" in value:
                yield value.get("module"), value.get("class_name"), value.get("registered_name")
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
