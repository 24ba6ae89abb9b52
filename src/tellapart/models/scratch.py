"""Networks trained from scratch: dense, cnn, a small residual network. Scaled image -> one feature map.

Each takes the Keras tensor of an image scaled to 0..1, shape (batch, height, width, channels), and its options; each
returns its maps by name, and tells which of them make its features. The options are plain values, so listing the
architectures imports no Keras.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tellapart.models.features import TOP, FeatureSet, Hidden, Pool

Padding = Literal["valid", "same"]


class Options(BaseModel):
    """The options of one architecture, validated."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class DenseOptions(Options):
    dense: tuple[int, ...] = Field((128,), description="units of each dense layer")
    dropout: float = Field(0, ge=0, lt=1, description="dropout rate after each dense layer")


class CnnOptions(Options):
    filters: tuple[int, ...] = Field((32, 64, 128), min_length=1, description="filters of each convolution")
    kernel_size: int = Field(3, gt=0)
    padding: Padding = Field("valid", description="padding of the convolutions")
    pool_size: int = Field(2, gt=0)
    pool_padding: Padding = Field("valid", description="padding of the max pooling after each convolution")
    pooling: Literal["flatten", "average", "max"] = Field(
        "flatten", description="how the last map becomes the input of the dense layers"
    )
    dense: tuple[int, ...] = Field((128,), description="units of each dense layer")
    dropout: float = Field(0, ge=0, lt=1, description="dropout rate after each dense layer")
    batch_normalization: bool = Field(False, description="batch normalisation between each convolution and its ReLU")


class ResnetSmallOptions(Options):
    filters: tuple[int, ...] = Field(
        (32, 64, 128), min_length=1, description="filters of each stage; each stage halves the side"
    )
    blocks: int = Field(2, gt=0, description="residual blocks per stage")
    stem: Literal["auto", "plain", "reduce"] = Field(
        "auto",
        description="reduce: a strided convolution and pooling divide the side by four; auto: reduce if it is over 64",
    )
    dropout: float = Field(0, ge=0, lt=1, description="dropout rate before the head")


def _behind(options: DenseOptions | CnnOptions) -> Hidden:
    return Hidden(options.dense, options.dropout if options.dense else 0)


def dense(x: Any, options: DenseOptions) -> dict[str, Any]:  # noqa: ARG001 - a row of the table
    """Every pixel to every unit: the baseline that any convolution should beat."""
    return {TOP: x}


def dense_features(options: DenseOptions) -> FeatureSet:
    return FeatureSet((Pool(TOP, "flatten", name="flatten"),), _behind(options))


def cnn(x: Any, options: CnnOptions) -> dict[str, Any]:
    """Convolution, ReLU and max pooling, once for each entry of `filters`."""
    from keras import layers

    normal = options.batch_normalization
    for number, filters in enumerate(options.filters, start=1):
        x = layers.Conv2D(
            filters,
            options.kernel_size,
            padding=options.padding,
            activation=None if normal else "relu",
            use_bias=not normal,
            name=f"convolution_{number}",
        )(x)
        if normal:
            x = layers.BatchNormalization(name=f"normalization_{number}")(x)
            x = layers.ReLU(name=f"relu_{number}")(x)
        x = layers.MaxPooling2D(options.pool_size, padding=options.pool_padding, name=f"pooling_{number}")(x)
    return {TOP: x}


def cnn_features(options: CnnOptions) -> FeatureSet:
    return FeatureSet((Pool(TOP, options.pooling, name=options.pooling),), _behind(options))


def resnet_small(x: Any, options: ResnetSmallOptions) -> dict[str, Any]:
    """Residual blocks that normalise before they convolve (He et al., Identity Mappings in Deep Residual Nets)."""
    from keras import layers

    def convolve(x: Any, name: str, filters: int, stride: int = 1, size: int = 3) -> Any:
        return layers.Conv2D(
            filters, size, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=name
        )(x)

    def activate(x: Any, name: str) -> Any:
        return layers.ReLU(name=f"{name}_relu")(
            layers.BatchNormalization(momentum=0.9, name=f"{name}_normalization")(x)
        )

    if options.stem == "reduce" or (options.stem == "auto" and max(x.shape[1:3]) > 64):
        x = convolve(x, "stem", options.filters[0], stride=2, size=5)
        x = layers.MaxPooling2D(2, padding="same", name="stem_pooling")(x)
    else:
        x = convolve(x, "stem", options.filters[0])
    for stage, filters in enumerate(options.filters, start=1):
        for block in range(1, options.blocks + 1):
            name = f"stage_{stage}_block_{block}"
            stride = 2 if stage > 1 and block == 1 else 1
            inner = activate(x, f"{name}_1")
            # A block that changes the shape takes its shortcut from the activated input, as in the paper.
            changes = stride > 1 or x.shape[-1] != filters
            shortcut = convolve(inner, f"{name}_shortcut", filters, stride, size=1) if changes else x
            inner = convolve(inner, f"{name}_convolution_1", filters, stride)
            inner = convolve(activate(inner, f"{name}_2"), f"{name}_convolution_2", filters)
            x = layers.Add(name=f"{name}_sum")([shortcut, inner])
    return {TOP: activate(x, "end")}


def resnet_small_features(options: ResnetSmallOptions) -> FeatureSet:  # noqa: ARG001 - a row of the table
    return FeatureSet((Pool(TOP, name="average"),))
