"""The table of architectures. Name -> Architecture; `tellapart models` prints it; a test builds every row.

Importing it imports no Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from tellapart.config import ModelConfig, in_words
from tellapart.errors import ModelError, unknown
from tellapart.models import own, pretrained, scratch
from tellapart.models.features import FeatureSet, Hidden
from tellapart.models.pretrained import UNIT, PretrainedBackbone, Scaling
from tellapart.tables import Table


@dataclass(frozen=True)
class Architecture:
    """One row: its name, description, default image side, options, and functions for its parts.

    maps: a scaled image, as a Keras tensor, and options -> feature maps by name, the last of them TOP. features: which
    of them make the features. hidden: the layers between the features and the last layer. pretrained: its row in
    models.pretrained; None for a network trained from scratch. scaling: of the values 0..255 before the maps.
    """

    name: str
    summary: str
    side: int
    options: type[scratch.Options]
    maps: Callable[[Any, Any], dict[str, Any]]
    features: Callable[[Any], FeatureSet]
    hidden: Callable[[Any], Hidden] = lambda _: Hidden()
    pretrained: PretrainedBackbone | None = None
    scaling: Callable[[Any], Scaling] = lambda _: UNIT


ARCHITECTURES: Table[Architecture] = Table(
    "backbones",
    "model",
    Architecture,
    ModelError,
    (
        Architecture(
            "dense",
            "dense layers only; the baseline to beat",
            64,
            scratch.DenseOptions,
            scratch.dense,
            scratch.dense_features,
        ),
        Architecture(
            "cnn",
            "convolutions and max pooling, then dense layers",
            128,
            scratch.CnnOptions,
            scratch.cnn,
            scratch.cnn_features,
        ),
        Architecture(
            "resnet-small",
            "a small residual network with batch normalisation",
            128,
            scratch.ResnetSmallOptions,
            scratch.resnet_small,
            scratch.resnet_small_features,
            lambda options: Hidden(dropout=options.dropout),
        ),
        *(
            Architecture(
                row.name,
                row.summary,
                row.side,
                pretrained.HeadOptions,
                partial(pretrained.maps, pretrained=row),
                partial(pretrained.features, pretrained=row),
                pretrained.hidden,
                row,
                partial(pretrained.scaling, pretrained=row),
            )
            for row in pretrained.PRETRAINED.values()
        ),
    ),
)


def architecture(name: str) -> Architecture:
    """The row of this name, also of a plug-in; for package.module:function, a row for that network. Raises ModelError
    with the most similar names, PluginError for a broken plug-in, and UntrustedCodeError.

    >>> architecture("cnn").side
    128
    """
    if own.is_own(name):
        own.trusted(name)
        return Architecture(
            name, "a network of your own", own.SIDE, own.OwnOptions, *own.parts(name), scaling=pretrained.own_scaling
        )
    return ARCHITECTURES.find(name)


TINY_SIDE = 64
MANY = 10_000


def choose(sizes: Sequence[tuple[int, int]], images: int, keras: bool = True) -> tuple[str, str]:
    """The architecture that suits the images, and why. sizes: (height, width) of some; images: how many in all. keras:
    whether it is installed, without which nothing is trained from scratch.

    A backbone trained on photographs is better than what a few images can teach; only for many tiny images, which it
    would see enlarged, a network of their own size is better (Fashion-MNIST: see docs/recipes.md) and faster.
    """
    largest = max((max(size) for size in sizes), default=TINY_SIDE + 1)
    if largest <= TINY_SIDE and images >= MANY:
        those = f"the {images:,} images are at most {largest} pixels per side"
        if keras:
            return "resnet-small", f"model: resnet-small, as {those}"
        return "efficientnet-lite0", (
            f"model: efficientnet-lite0; as {those}, resnet-small may be better: pip install 'tellapart[train]' adds it"
        )
    return "efficientnet-lite0", "model: efficientnet-lite0, the pretrained backbone inside the package"


def resolve(config: ModelConfig) -> tuple[Architecture, scratch.Options]:
    """The row that a configuration names, with its options checked. Raises ModelError that names each wrong option."""
    row = architecture(config.name)
    if row.pretrained is None and config.weights not in ("auto", "none"):
        raise ModelError(
            f"{row.name} is trained from scratch and takes no weights; given {config.weights!r}. Omit --weights, "
            "or name a pretrained backbone with --model, such as efficientnet-lite0."
        )
    try:
        return row, row.options.model_validate(config.options)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            place = ".".join(str(part) for part in problem["loc"])
            if problem["type"] == "extra_forbidden":
                lines.append(unknown(f"option of {row.name}", place, row.options.model_fields))
            else:
                lines.append(f"model.{place}: {in_words(problem['msg'])}; given {problem['input']!r}.")
        raise ModelError(" ".join(lines)) from None
