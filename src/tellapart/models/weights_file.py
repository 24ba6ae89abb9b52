"""A file of weights -> a backbone's variables; a file of another network is refused.

In: a Backbone and a safetensors file whose tensors are named LAYER/VARIABLE, in float16 or float32; or a network and
one of Keras' two HDF5 layouts, which name weights by position.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ModelError, some

if TYPE_CHECKING:
    import keras

    from tellapart.models.backbone import Backbone

BUNDLED = Path(__file__).parent / "weights"
"""The folder of the bundled weights, NAME.safetensors each."""

NAMED = 4
READ = ("F16", "F32")


def load_weights(backbone: Backbone, path: str | os.PathLike[str]) -> None:
    """Load every variable of the backbone from the file; float16 is converted to the variable's type.

    Raises ModelError, and changes nothing, for a file that cannot be read or is of another network; the message tells
    the differences. A file that also contains a classifier is recognised.
    """
    path = Path(path)
    stored = _read(path)
    variables = named_variables(backbone)
    missing = [name for name in variables if name not in stored]
    unexpected = [name for name in stored if name not in variables]
    shapes = [
        f"{name} {stored[name].shape} in the file, {tuple(variable.shape)} in the network"
        for name, variable in variables.items()
        if name in stored and stored[name].shape != tuple(variable.shape)
    ]
    if unexpected and not missing and not shapes and _is_classifier(unexpected, stored):
        raise ModelError(
            f"{path} holds a classifier in addition to the weights of {backbone.name}: {some(unexpected, NAMED)}. "
            "Give a file without the top layers."
        )
    differences = [
        f"{len(found)} {what}: {some(found, NAMED)}"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if found
    ]
    if differences:
        raise ModelError(
            f"{path} does not hold the {len(variables)} weights of {backbone.name}. {'. '.join(differences)}. "
            "Give the file of this network, or name the network of this file with --model."
        )
    for name, variable in variables.items():
        variable.assign(stored[name].astype(np.float32))


def load_h5(model: keras.Model, path: str | os.PathLike[str]) -> None:
    """Load Keras' `.weights.h5` or the older `.h5` of Keras Applications, without the top.

    Raises ModelError, and changes nothing, for a file of another network, with the top, or that cannot be read.
    """
    path = Path(path)
    stored, older = _h5_shapes(path)
    wanted = Counter(tuple(value.shape) for value in model.weights)
    extra, lacking = stored - wanted, wanted - stored
    if extra and not lacking:
        raise ModelError(
            f"{path} holds {extra.total()} arrays in addition to the weights of {model.name}, of shapes "
            f"{some([str(shape) for shape in sorted(extra)], NAMED)}: a classifier, or a larger network. "
            "Give a file without the top layers."
        )
    if lacking:
        raise ModelError(
            f"{path} does not hold the {len(model.weights)} weights of {model.name}: {lacking.total()} of its shapes "
            f"are not in the file, such as {some([str(shape) for shape in sorted(lacking)], NAMED)}. "
            "Give the file of this network, or name the network of this file with --model."
        )
    if older == path.name.endswith(".weights.h5"):
        right = "in .h5 without .weights" if older else "in .weights.h5"
        raise ModelError(f"Keras distinguishes its two HDF5 layouts by file name: rename {path} to end {right}.")
    before = model.get_weights()
    try:
        model.load_weights(path)
    except (ValueError, KeyError) as error:
        model.set_weights(before)
        raise ModelError(
            f"{path} holds the right number of weights for {model.name}, of the same shapes, but in another order: "
            f"{error}"
        ) from None


def _h5_shapes(path: Path) -> tuple[Counter[tuple[int, ...]], bool]:
    """The shapes of all weights in the file, and whether it is in the older layout."""
    import h5py

    try:
        with h5py.File(path) as file:
            found = elsewhere(file)
            if found:
                raise ModelError(f"{path} is refused: its {found} refers to another file or another location.")
            # Attributes that are too long for one are split and numbered.
            return shapes_of(file), any(name.startswith("layer_names") for name in file.attrs)
    except OSError as error:
        raise ModelError(f"{path} cannot be read as an HDF5 file of weights: {error}.") from None


def shapes_of(file: Any) -> Counter[tuple[int, ...]]:
    """The shapes of all arrays of an open h5py.File."""
    import h5py

    shapes: Counter[tuple[int, ...]] = Counter()

    def count(_: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            shapes[item.shape] += 1

    file.visititems(count)
    return shapes


def elsewhere(file: Any, *, whole: bool = False) -> str | None:
    """The name of an object in an open h5py.File that is stored in another file or is a soft link, which could load any
    file of this machine into a network; None if everything is inside. whole: also require that each array takes as many
    bytes in the file as in memory, so that none is larger once read."""
    import h5py

    def link(name: str, found: object) -> str | None:
        return None if isinstance(found, h5py.HardLink) else name

    def array(name: str, item: object) -> str | None:
        if not isinstance(item, h5py.Dataset):
            return None
        apart = item.is_virtual or item.external
        return name if apart or (whole and item.id.get_storage_size() != item.nbytes) else None

    named: str | None = file.visititems_links(link) or file.visititems(array)
    return named


def named_variables(backbone: Backbone) -> dict[str, Any]:
    """Keras variables by LAYER/VARIABLE, as named in files."""
    return {f"{layer.name}/{variable.name}": variable for layer in backbone.layers for variable in layer.weights}


def _read(path: Path) -> dict[str, NDArray[np.generic]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            foreign = [name for name in file.keys() if file.get_slice(name).get_dtype() not in READ]  # noqa: SIM118 - safetensors' file is no mapping
            if foreign:
                raise ModelError(f"{path} holds number types other than {' and '.join(READ)}: {some(foreign, NAMED)}.")
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safetensors' file is no mapping
    except SafetensorError as error:
        raise ModelError(f"{path} cannot be read as a safetensors file of weights: {error}.") from None
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}.") from None


def _is_classifier(names: list[str], stored: dict[str, NDArray[np.generic]]) -> bool:
    """Whether these tensors are the matrix, and perhaps the bias, of one dense layer."""
    ranks = sorted(stored[name].ndim for name in names)
    return ranks in ([2], [1, 2]) and len({name.rsplit("/", 1)[0] for name in names}) == 1
