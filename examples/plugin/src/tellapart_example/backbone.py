"""A backbone: three convolutions, each half as wide and high as the one before."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from tellapart.plugins import Options, backbone


class Width(Options):
    filters: int = Field(16, gt=0, description="filters of the first convolution; each next one has twice as many")


@backbone("three-convolutions", summary="three convolutions, for small images", side=32, options=Width)
def three_convolutions(images: Any, options: Width) -> Any:
    """Images (batch, height, width, channels), 0..1 -> features (batch, 4 * filters)."""
    from keras import layers  # Keras starts where it is used, not where names are listed

    for number in range(3):
        images = layers.Conv2D(
            options.filters * 2**number, 3, strides=2, padding="same", activation="relu", name=f"convolution_{number}"
        )(images)
    return layers.GlobalAveragePooling2D(name="average")(images)
