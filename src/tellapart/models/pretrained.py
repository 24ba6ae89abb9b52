"""The table of pretrained backbones: input size, scaling, weights and their licence.

In: the Keras tensor of an RGB image, scaled. Out: feature maps by name, of one flat network. The rows are plain values,
so listing them imports no Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Literal

from pydantic import Field

from tellapart.config import AUTO
from tellapart.errors import ModelError, unknown
from tellapart.models.backbone import levels_of
from tellapart.models.convnext import convnext_tiny, normalization
from tellapart.models.efficientnet_lite import OFFSET, SCALE, VARIANTS, efficientnet_lite, filter_maps
from tellapart.models.features import TOP, FeatureSet, Hidden, Pool
from tellapart.models.own import OwnOptions
from tellapart.models.scratch import Options
from tellapart.task import Fit, ImageSpec


@dataclass(frozen=True, slots=True)
class Scaling:
    """RGB value * scale + offset, per channel if they are tuples; then the channels are reversed if `bgr`."""

    words: str
    scale: float | tuple[float, float, float]
    offset: float | tuple[float, float, float]
    bgr: bool = False


_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)

UNIT = Scaling("0 to 1", 1 / 255, 0.0)
SIGNED = Scaling("-1 to 1", 1 / 127.5, -1.0)
SIGNED_128 = Scaling("value / 128 - 1", 1 / 128, -1.0)
LITE = Scaling("(value - 127) / 128", SCALE, OFFSET)
STANDARDISED = Scaling(
    "0 to 1, minus ImageNet's mean of each channel, divided by its standard deviation",
    (1 / (255 * _DEVIATION[0]), 1 / (255 * _DEVIATION[1]), 1 / (255 * _DEVIATION[2])),
    (-_MEAN[0] / _DEVIATION[0], -_MEAN[1] / _DEVIATION[1], -_MEAN[2] / _DEVIATION[2]),
)
OWN = {"unit": UNIT, "signed": SIGNED, "imagenet": STANDARDISED, "none": Scaling("0 to 255", 1.0, 0.0)}
"""Of a custom network, by the names in its options."""
CENTRED_BGR = Scaling(
    "0 to 255, minus ImageNet's mean of each channel, in the order blue, green, red",
    1.0,
    (-123.68, -116.779, -103.939),
    bgr=True,
)


@dataclass(frozen=True, slots=True)
class PretrainedBackbone:
    """One row. side: of the images it was trained on; smallest: the smallest side that it can take.

    application: the name in keras.applications, empty for our own networks; preprocesses: whether that function would
    include its own scaling. file, source, checksum: the official weights without the top, as Keras stores them, their
    URL, and their MD5 or SHA-256 as listed by Keras (empty: not listed). joined: a block ends where at least so many
    branches meet, if the graph does not tell. rebuild: scaled image -> maps, our copy of a network whose Keras version
    trains slowly or cannot be exported; its weights have the same order and number of values, perhaps other shapes.
    normalization: makes the layer of the weights after the average of the top map. fast_bfloat16: whether a processor
    that supports bfloat16 trains it faster so, as measured: narrow networks of depthwise filters are slower.
    """

    name: str
    summary: str
    licence: str
    side: int
    smallest: int
    scaling: Scaling
    fit: Fit = "squash"
    application: str = ""
    preprocesses: bool = False
    file: str = ""
    source: str = ""
    checksum: str = ""
    joined: int = 0
    rebuild: Callable[[Any], dict[str, Any]] | None = None
    normalization: Callable[[], Any] | None = None
    fast_bfloat16: bool = True


def _lite(number: int, accuracy: str) -> PretrainedBackbone:
    name = f"efficientnet-lite{number}"
    summary = f"EfficientNet-Lite {number}: small and fast, {accuracy} % on ImageNet"
    # Cropped images gave better features than squashed ones, as the weights were trained on crops.
    return PretrainedBackbone(
        name, summary, "Apache-2.0", VARIANTS[name].side, 32, LITE, fit="crop", fast_bfloat16=False
    )


def _keras(  # noqa: PLR0913 - the columns of the table below
    name: str,
    summary: str,
    licence: str,
    side: int,
    scaling: Scaling,
    application: str,
    file: str,
    checksum: str,
    *,
    folder: str,
    remote: str = "",
    smallest: int = 32,
    preprocesses: bool = False,
    joined: int = 0,
    rebuild: Callable[[Any], dict[str, Any]] | None = None,
    normalization: Callable[[], Any] | None = None,
    fast_bfloat16: bool = True,
) -> PretrainedBackbone:
    source = f"{folder}/{remote or file}"
    return PretrainedBackbone(
        name, summary, licence, side, smallest, scaling, "squash", application, preprocesses, file, source, checksum,
        joined, rebuild, normalization, fast_bfloat16,
    )  # fmt: skip


_KERNELS = "weights_tf_dim_ordering_tf_kernels"

PRETRAINED: dict[str, PretrainedBackbone] = {
    row.name: row
    for row in (
        _lite(0, "75.1"),
        _lite(1, "76.7"),
        _lite(2, "77.6"),
        _keras(
            "inception-v3", "Inception V3: branches of several kernel sizes", "Apache-2.0", 299, SIGNED, "InceptionV3",
            f"inception_v3_{_KERNELS}_notop.h5", "bcbd6486424b2319ff4ef7d526e38f63",
            folder="inception_v3", smallest=75,
        ),
        _keras(
            "inception-resnet-v2", "Inception-ResNet V2: large, accurate and slow", "Apache-2.0", 299, SIGNED,
            "InceptionResNetV2",
            f"inception_resnet_v2_{_KERNELS}_notop.h5", "d19885ff4a710c122648d3b5c3b684e4",
            folder="inception_resnet_v2", smallest=75,
        ),
        _keras(
            "xception", "Xception: separable convolutions", "MIT", 299, SIGNED, "Xception",
            f"xception_{_KERNELS}_notop.h5", "b0042744bf5b25fce3cb969f33bebb97",
            folder="xception", smallest=71,
        ),
        _keras(
            "mobilenet-v2", "MobileNet V2: designed for phones", "Apache-2.0", 224, SIGNED, "MobileNetV2",
            f"mobilenet_v2_{_KERNELS}_1.0_224_no_top.h5", "",
            folder="mobilenet_v2", fast_bfloat16=False,
        ),
        _keras(
            "mobilenet-v3-large", "MobileNet V3 large: for phones, with attention gates", "Apache-2.0", 224, SIGNED,
            "MobileNetV3Large",
            "weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5", "07fb09a5933dd0c8eaafa16978110389",
            folder="mobilenet_v3", preprocesses=True, fast_bfloat16=False,
        ),
        _keras(
            "resnet-50", "ResNet 50: the usual baseline", "MIT", 224, CENTRED_BGR, "ResNet50",
            f"resnet50_{_KERNELS}_notop.h5", "4d473c1dd8becc155b73f8504c6f6626",
            folder="resnet",
        ),
        _keras(
            "resnet-50-v2", "ResNet 50 V2: normalises before convolutions", "BSD-3-Clause", 224, SIGNED, "ResNet50V2",
            f"resnet50v2_{_KERNELS}_notop.h5", "fac2f116257151a9d068a22e544a4917",
            folder="resnet",
        ),
        _keras(
            "densenet-121", "DenseNet 121: each layer sees all layers before it", "BSD-3-Clause", 224, STANDARDISED,
            "DenseNet121",
            f"densenet121_{_KERNELS}_notop.h5", "30ee3e1110167f948a6b9946edeeb738",
            folder="densenet",
        ),
        _keras(
            "efficientnet-v2-b0", "EfficientNet V2 B0: small, accurate for its size", "Apache-2.0", 224, STANDARDISED,
            "EfficientNetV2B0",
            "efficientnetv2-b0_notop.h5", "893217f2bb855e2983157299931e43ff",
            folder="efficientnet_v2", preprocesses=True,
        ),
        _keras(
            "efficientnet-v2-s", "EfficientNet V2 S: accurate, for large images", "Apache-2.0", 384, SIGNED_128,
            "EfficientNetV2S",
            "efficientnetv2-s_notop.h5", "af0682fb74e8c54910f2d4393339c070",
            folder="efficientnet_v2", preprocesses=True,
        ),
        _keras(
            "nasnet-mobile", "NASNet mobile: found by architecture search", "Apache-2.0", 224, SIGNED, "NASNetMobile",
            "nasnet_mobile_no_top.h5", "1ed92395b5b598bdda52abe5c0dbfd63",
            # Every cell reads the two before it, so the graph never passes through a single tensor between them.
            folder="nasnet", remote="NASNet-mobile-no-top.h5", joined=4,
        ),
        _keras(
            "convnext-tiny", "ConvNeXt tiny: convolutions arranged like a vision transformer", "MIT", 224, STANDARDISED,
            "ConvNeXtTiny",
            "convnext_tiny_notop.h5", "d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
            folder="convnext", preprocesses=True, rebuild=convnext_tiny,
            normalization=normalization,
        ),
    )
}  # fmt: skip


TINY = 32
"""Pixels a side of the image per position of the top map."""


class HeadOptions(Options):
    """The layers between the pooled features of a backbone and the last layer of the head."""

    features: Literal["auto", "top", "levels", "filters", "all-filters"] = Field(
        "auto", description="feature maps that the head uses; auto: chosen on the validation split"
    )
    root: bool | None = Field(
        None,
        description="whether the head reads the square roots of several maps; None: as chosen when training begins",
    )
    dense: tuple[int, ...] = Field((), description="units of each dense layer before the head")
    dropout: float = Field(0, ge=0, lt=1, description="dropout rate after each dense layer, or before the head")


def scaled(image: Any, scaling: Scaling) -> Any:
    """RGB values 0..255 as the weights expect them."""
    import keras

    scale, offset = (list(value) if isinstance(value, tuple) else value for value in (scaling.scale, scaling.offset))
    x = keras.layers.Rescaling(scale, offset, name="scaling")(image)
    return keras.ops.flip(x, axis=-1) if scaling.bgr else x


def maps(x: Any, options: HeadOptions, *, pretrained: PretrainedBackbone) -> dict[str, Any]:  # noqa: ARG001 - a row of the table
    """A scaled image (batch, height, width, 3) -> the feature maps of the backbone, by name."""
    if pretrained.rebuild:
        return pretrained.rebuild(x)
    if not pretrained.application:
        return efficientnet_lite(x, pretrained.name)
    return levels_of(application(pretrained, input_tensor=x), pretrained.joined)


def offered(pretrained: PretrainedBackbone, spec: ImageSpec) -> dict[str, FeatureSet]:
    """The candidates that are useful for such an image: for a tiny one, the last maps have a single position."""
    sets = candidates(pretrained)
    return sets if min(spec.height, spec.width) > TINY else {"top": sets["top"]}


def require_offered(options: HeadOptions, pretrained: PretrainedBackbone, spec: ImageSpec) -> None:
    """Raise ModelError for features that such an image is too small for."""
    if options.features not in (AUTO, *offered(pretrained, spec)):
        raise ModelError(
            f"model.features={options.features} reads maps with several positions; those of images of {spec.height}x"
            f"{spec.width} pixels have one. Use an --image-size above {TINY}, or model.features=top."
        )


def candidates(pretrained: PretrainedBackbone) -> dict[str, FeatureSet]:
    """The feature sets that training chooses from, by name, the narrowest first; each includes the first one.

    Several depths help if the images differ from those that the backbone was trained on (Head2Toe: Evci, Dumoulin,
    Larochelle, Mozer, ICML 2022). levels: two maps of lower levels on a 2x2 grid; filters: the filter outputs of one
    stage, on a 2x2 grid; all-filters: the averages of all filter outputs. All but the first take square roots.
    """
    # A normalisation after it takes the name `pooling` instead.
    top = Pool(TOP, name="average" if pretrained.normalization else "pooling")
    if pretrained.application:
        lower = ("stage_2", "stage_3") if pretrained.rebuild else ("level_3", "level_4")
        return {"top": FeatureSet((top,)), "levels": FeatureSet((top, *_quarters(lower)), root=True)}
    filters = filter_maps(pretrained.name)
    return {
        "top": FeatureSet((top,)),
        "levels": FeatureSet((top, *_quarters(("stage_5", "stage_6"))), root=True),
        "all-filters": FeatureSet(
            (top, *(Pool(name, name=f"{name}_average") for name in chain(*filters.values()))), root=True
        ),
        "filters": FeatureSet((top, *_quarters(filters[5])), root=True),
    }


def _quarters(names: Iterable[str]) -> list[Pool]:
    return [Pool(name, grid=2, name=f"{name}_quarters") for name in names]


def features(options: HeadOptions, *, pretrained: PretrainedBackbone) -> FeatureSet:
    """The candidate selected by the options; the first for an undecided `auto`. Without a decision about roots, as in
    runs of earlier versions, there are none."""
    sets = candidates(pretrained)
    name = "top" if options.features == AUTO else options.features
    if name not in sets:
        raise ModelError(unknown(f"set of features of {pretrained.name}", name, sets))
    return replace(sets[name], root=sets[name].root and options.root is True)


def options_of(pretrained: PretrainedBackbone, name: str) -> dict[str, Any]:
    """The options that select a candidate by its name."""
    return {"features": name} | ({"root": True} if candidates(pretrained)[name].root else {})


def scaling(options: HeadOptions, *, pretrained: PretrainedBackbone) -> Scaling:  # noqa: ARG001 - a row of the table
    return pretrained.scaling


def own_scaling(options: OwnOptions) -> Scaling:
    return OWN[options.scaling]


def hidden(options: HeadOptions) -> Hidden:
    """The layers between the features and the last layer."""
    return Hidden(options.dense, options.dropout)


def application(pretrained: PretrainedBackbone, **choice: Any) -> Any:
    """The network of Keras Applications for a row: random weights, no top, no scaling. choice: its other options."""
    import keras

    # Keras would export its own Normalization layer wrongly, and preprocess in addition to our scaling.
    if pretrained.preprocesses:
        choice["include_preprocessing"] = False
    return getattr(keras.applications, pretrained.application)(include_top=False, weights=None, **choice)
