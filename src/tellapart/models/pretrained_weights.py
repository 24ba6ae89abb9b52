"""The weights of a backbone, from their origin: the package, the official server, a user's file, or random.

In: a Backbone, whose row of models.pretrained tells where they are, and config.model.weights. Out: the same with its
weights.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tellapart.download import download
from tellapart.errors import FetchError, ModelError
from tellapart.files import cache_root, expanded
from tellapart.models.pretrained import PretrainedBackbone, application
from tellapart.models.weights_file import BUNDLED, load_h5, load_weights

if TYPE_CHECKING:
    from tellapart.models.backbone import Backbone

SERVER = "https://storage.googleapis.com/tensorflow/keras-applications/"
BUNDLED_DIGESTS = {"efficientnet-lite0": "a6e1071e575c9ac04a454ebde29e8e07"}
"""`weights_digest` of the weights in the package, known without starting Keras; a test compares."""
HDF5 = b"\x89HDF\r\n\x1a\n"


def load_pretrained(backbone: Backbone, pretrained: PretrainedBackbone, weights: str) -> str:
    """Load the weights of the backbone and return a description of them. pretrained: its row.

    weights: `auto`, `imagenet`, `none` or a path, as in config.model.weights. Raises ModelError, and changes nothing,
    for a file that is not available or is of another network.
    """
    if weights == "none":
        return "random weights"
    bundled = bundled_file(pretrained)
    if weights in ("auto", "imagenet") and bundled.exists():
        load_weights(backbone, bundled)
        return of_package(pretrained)
    if weights in ("auto", "imagenet"):
        path = official_file(pretrained)
        _load_file(backbone, pretrained, path)
        return f"ImageNet weights of Keras Applications ({pretrained.licence}), {path}"
    path = expanded(weights)
    _load_file(backbone, pretrained, path)
    return f"the weights of {path}"


def of_package(pretrained: PretrainedBackbone) -> str:
    """What load_pretrained says of weights in the package."""
    return f"ImageNet weights bundled with tellapart ({pretrained.licence})"


def weights_digest(backbone: Backbone) -> str:
    """32 hexadecimal digits of its current values: equal for equal weights, whatever their origin."""
    state = hashlib.blake2b(digest_size=16)
    for value in map(np.asarray, backbone.weights):
        state.update(f"{value.shape}{value.dtype}".encode())
        state.update(np.ascontiguousarray(value).data)
    return state.hexdigest()


def bundled_file(pretrained: PretrainedBackbone) -> Path:
    """Where the package stores the weights of a bundled backbone; most backbones are not bundled."""
    return BUNDLED / f"{pretrained.name}.safetensors"


def bundled_graph(name: str) -> Path:
    """The graph of a bundled backbone, image in and features out, as ONNX that reads its weights from the file next to
    it; most backbones have none. Written by tools/bundled_graph.py."""
    return BUNDLED / f"{name}.onnx"


def described(pretrained: PretrainedBackbone) -> str:
    """The origin of the weights of `auto`, in words."""
    if bundled_file(pretrained).exists():
        return "inside the package"
    return f"downloaded once: {pretrained.file}" if pretrained.file else "your own file, with --weights FILE"


def _keras_home() -> Path:
    home = expanded(os.environ.get("KERAS_HOME") or "~/.keras")
    return cache_root() / "keras" if str(home).startswith("~") else home  # a user without a home folder


def official_file(pretrained: PretrainedBackbone) -> Path:
    """The official weights without the top, downloaded unless they are in Keras' own cache.

    Raises ModelError that names the file and where to put it.
    """
    if not pretrained.file:
        raise ModelError(
            f"The weights of {pretrained.name} are not in the package, and no server offers them in a supported "
            "format. Convert them with tools/convert_efficientnet_lite.py from the source repository and give "
            "the file with --weights FILE, or use efficientnet-lite0, whose weights are in the package."
        )
    path = _keras_home() / "models" / pretrained.file
    if path.exists():
        return path
    url = SERVER + pretrained.source
    try:
        download(url, path, checksum=pretrained.checksum)
    except FetchError as error:
        raise ModelError(
            f"The weights of {pretrained.name} could not be downloaded: {error} Without network access, download "
            f"{pretrained.file} elsewhere and "
            f"put it at {path}, or give it with --weights FILE; or use efficientnet-lite0, whose weights are in the "
            "package."
        ) from None
    return path


def require_weights(weights: str) -> None:
    """Raise ModelError for a missing file of weights, before anything is built."""
    if weights not in ("auto", "imagenet", "none"):
        _begin(Path(weights))


def _begin(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise ModelError(f"The weights {path} are not a file. Name a .h5, .weights.h5 or .safetensors file.")
    try:
        with path.open("rb") as file:
            return file.read(len(HDF5))
    except OSError as error:
        raise ModelError(
            f"The weights {path} cannot be read: {error.strerror or error}. weights is auto, imagenet, none, or a "
            ".h5, .weights.h5 or .safetensors file."
        ) from None


def _load_file(backbone: Backbone, pretrained: PretrainedBackbone, path: Path) -> None:
    if _begin(path) != HDF5:
        load_weights(backbone, path)
    elif pretrained.rebuild:
        # Keras' two layouts name weights by their position in the original network.
        theirs = application(pretrained)
        load_h5(theirs, path)
        for ours, value in zip(backbone.weights, theirs.get_weights(), strict=True):
            ours.assign(value.reshape(ours.shape))
    else:
        load_h5(backbone.network, path)
