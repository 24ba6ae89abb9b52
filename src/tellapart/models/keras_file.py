"""An untrusted .keras file -> keras.Model, refused if it holds anything but what tellapart writes.

The format is a zip of JSON that names classes, and an HDF5 file of arrays. Keras' safe mode refuses Lambda layers;
older versions let other classes through, and a layer may load a vocabulary or a module from any path, an array may be
stored in any file. Here only the classes of tellapart's own networks are built, from arrays stored completely in the
file. Needs the extra `train`.
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
from tellapart.models.backend import ran_out_of_memory, start_keras
from tellapart.models.weights_file import elsewhere, shapes_of
from tellapart.parallel import without_collecting

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
"""The layers that networks of models.registry consist of; a test builds each and compares."""
_ARITHMETIC = {
    ("keras.src.applications.inception_resnet_v2", "CustomScaleLayer"),
    ("keras.src.ops.numpy", "Add"),  # of MobileNetV3, as is the next
    ("keras.src.ops.numpy", "Multiply"),
    ("keras.src.ops.numpy", "Flip"),  # reverses the channels, before ResNet-50
    ("keras.src.ops.numpy", "Absolute"),  # for the root of features, as the next two
    ("keras.src.ops.numpy", "Sqrt"),
    ("keras.src.ops.numpy", "Divide"),
    ("keras.src.ops.numpy", "Reshape"),  # for the mean over an image and its mirror image, as the next
    ("keras.src.ops.numpy", "Mean"),
}
"""Operations in networks that are not layers."""
_PLAIN = ("keras.initializers", "keras.regularizers", "keras.constraints")
_MODELS = {("keras", "Functional"), ("keras.src.models.functional", "Functional"), ("keras", "DTypePolicy")}
_TENSOR = "__keras_tensor__"  # marks the output of a layer in the configuration
_MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
_DAMAGE = (OSError, zipfile.BadZipFile, ValueError, TypeError, LookupError, RecursionError, MemoryError)
_own: ContextVar[frozenset[str]] = ContextVar("own", default=frozenset())
_LONGEST = 1 << 26  # bytes of a configuration: that of the largest network has a million


@without_collecting()
def open_keras(path: str | os.PathLike[str]) -> keras.Model:
    """The network of a .keras file, not compiled. Raises RunError for a file that tellapart did not write like this."""
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
    """Load the weights of a .keras file into a network that was built from a run's configuration; nothing described in
    the file is built. own: classes that it may mention beside ours, from own_classes. Raises RunError for a file that
    tellapart did not write like this, or of another network."""
    path = Path(path)
    try:
        held = _refuse_foreign(path, frozenset(own))
        wanted = Counter(tuple(variable.shape) for variable in network.weights)
        if not wanted <= held:  # it may also hold an optimizer's
            raise RunError(
                f"{path} does not hold the weights of the network that its run's config.toml names: they are from "
                "another network, or from another version of tellapart."
            )
        with warnings.catch_warnings():
            # Keras reports no more about layers that are missing in the file.
            warnings.filterwarnings("error", "Skipping nested container", UserWarning)
            network.load_weights(path)
    except (*_DAMAGE, UserWarning) as error:
        # Keras leaves the file open, and an HDF5 file that is open at exit may crash Python.
        traceback.clear_frames(error.__traceback__)
        raise RunError(f"{path} is damaged, or not a network that tellapart wrote: {error}") from None


def own_classes(network: keras.Model) -> list[str]:
    """`module.Class` of everything in a network's configuration beyond what tellapart's own networks use, sorted.

    Raises ModelError for a layer that Keras cannot serialise, as the network could not be saved.
    """
    try:
        described = json.loads(network.to_json())
    except Exception as error:  # of a custom get_config
        raise ModelError(
            f"The network cannot be saved, as one of its layers cannot be serialised: {error} "
            "Define get_config in your layers, or give their constructors only simple arguments."
        ) from error
    return sorted({f"{held[0]}.{held[1]}" for held in _classes(described) if not _known(*held)})


@contextmanager
def layers_of(network: keras.Model) -> Iterator[None]:
    """Inside, open_keras also builds the classes of this network's layers: those of a custom network, which is
    trusted."""
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
        # Keras does not compress: reading never gives more than the size of the file.
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
    # Keras looks up a registered name first.
    return registered in (None, name) and (
        (module == "keras.layers" and name in LAYERS)
        or (module, name) in _MODELS | _ARITHMETIC
        or module in _PLAIN
        or (module is None and name == _TENSOR)
    )


def _classes(config: Any) -> Iterator[tuple[Any, Any, Any]]:
    """(module, name, registered name) of each class in a configuration, except for compiling, which is not done."""
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
