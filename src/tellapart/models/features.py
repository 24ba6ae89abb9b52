"""FeatureSet: which feature maps of a backbone, pooled to which grid, make the feature vector.

A FeatureSet is a plain value that imports no Keras; `of` builds it on a Backbone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ModelError, unknown

if TYPE_CHECKING:
    from tellapart.models.backbone import Backbone

How = Literal["average", "max", "flatten"]

TOP = "top"
"""The name of the last map of every backbone."""

FLOOR = 1e-3
"""Of the root of a feature: below it the root is a straight line, so that it has a gradient where a feature is 0."""


@dataclass(frozen=True, slots=True)
class Pool:
    """One map as part of the vector. how: its average, its maximum, or all values.

    grid: pooled to at most so many rows and columns, 1 for the whole map. name: of the layer, for people who read the
    network.
    """

    map: str
    how: How = "average"
    grid: int = 1
    name: str = "pooling"

    @property
    def key(self) -> str:
        """Equal if two pools give the same values of the same backbone."""
        return f"{self.map}-{self.how}-{self.grid}"

    def normalised_in(self, backbone: Backbone) -> bool:
        """Whether it is what the backbone's normalisation was trained on."""
        return backbone.normalization is not None and self.key == f"{TOP}-average-1"


@dataclass(frozen=True, slots=True)
class Hidden:
    """dense: units of dense layers with ReLU; dropout: the rate after each, or once if there is none."""

    dense: tuple[int, ...] = ()
    dropout: float = 0


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """pools: concatenated in this order. hidden: layers after them that are trained with the backbone; their output is
    then the vector. root: each value is replaced by its square root, with its sign, so that a few large ones do not
    outweigh the many (Perronnin, Sánchez, Mensink, ECCV 2010)."""

    pools: tuple[Pool, ...]
    hidden: Hidden = Hidden()
    root: bool = False

    @property
    def key(self) -> str:
        """Equal if two sets give the same values of the same backbone; empty for the average of its top map.

        >>> FeatureSet((Pool("stage_3"), Pool("top", grid=2))).key
        'stage_3-average-1+top-average-2'
        """
        named = "+".join(pool.key for pool in self.pools)
        return "" if named == f"{TOP}-average-1" else named

    def parts(self, backbone: Backbone) -> list[Any]:
        """The output of each pool on the maps of a backbone, Keras tensors (n, values). Raises ModelError for a map
        that it does not have. Of a mirrored backbone, the mean over an image and its mirror image."""
        parts = []
        for pool in self.pools:
            if pool.map not in backbone.maps:
                raise ModelError(unknown(f"feature map of {backbone.name}", pool.map, backbone.maps))
            part = _pooled(backbone.maps[pool.map], pool)
            part = backbone.normalization(part) if pool.normalised_in(backbone) else part
            parts.append(_mean_of_both(part) if backbone.mirrored else part)
        return parts

    def of(self, backbone: Backbone) -> Features:
        """Build the layers of the set on the maps of a backbone. Raises ModelError for a map that it does not have."""
        from keras import layers

        parts = [_root(part) if self.root else part for part in self.parts(backbone)]
        x = parts[0] if len(parts) == 1 else layers.Concatenate(name="features")(parts)
        vector, made = stack(x, self.hidden)
        first = vector if made else parts[0]
        return Features(self, vector, first, dense_of(made), any(pool.normalised_in(backbone) for pool in self.pools))


def union(sets: Iterable[FeatureSet]) -> FeatureSet:
    """All pools of the sets, each once, in order of first use.

    >>> [pool.map for pool in union([FeatureSet((Pool("top"),)), FeatureSet((Pool("top"), Pool("stage_3")))]).pools]
    ['top', 'stage_3']
    """
    return FeatureSet(tuple({pool.key: pool for taken in sets for pool in taken.pools}.values()))


@dataclass(frozen=True, eq=False)
class Features:
    """A FeatureSet that was built. vector: the Keras tensor (n, width). first: its part that the first pool gives; all
    of it if there are hidden layers. dense: the hidden layers after the pools. normalised: whether the backbone's
    normalisation is between the two."""

    declared: FeatureSet
    vector: Any
    first: Any
    dense: tuple[Any, ...]
    normalised: bool

    @property
    def width(self) -> int:
        return int(self.vector.shape[-1])


def root_of(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """What a FeatureSet with `root` makes of the values of its pools.

    >>> root_of(np.array([-4, 0, 9], np.float16)).round(2).tolist()
    [-2.0, 0.0, 3.0]
    """
    wide = widened(values)
    return np.asarray(wide / np.sqrt(np.abs(wide) + np.float32(FLOOR)), np.float32)


def widened(values: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """Float16 or float32 -> float32, a new array, faster than NumPy, which converts one number at a time. What
    is infinite becomes 65,536, the next beyond the largest float16.

    >>> widened(np.array([1.5, -6e-8, -0.0, 65504, np.inf], np.float16)).tolist()
    [1.5, -5.960464477539063e-08, -0.0, 65504.0, 65536.0]
    """
    if values.dtype != np.float16:
        return values.astype(np.float32)
    bits = values.view(np.int16).astype(np.int32)
    bits <<= 13  # the fraction and the exponent, which begins at another number, are where those of a float32 are
    bits &= _NO_COPIES
    found = bits.view(np.float32)
    found *= _EXPONENT
    return found


_NO_COPIES = np.array(0x8FFFE000, np.uint32).view(np.int32)
"""All but the copies of the sign that widening a negative number has left."""
_EXPONENT = np.float32(2.0 ** (127 - 15))


def _mean_of_both(x: Any) -> Any:
    """(2 n, values), of images and then of their mirror images -> (n, values)."""
    from keras import ops

    return ops.mean(ops.reshape(x, (2, -1, x.shape[-1])), axis=0)


def _root(x: Any) -> Any:
    from keras import ops

    return ops.divide(x, ops.sqrt(ops.add(ops.absolute(x), FLOOR)))


def _pooled(x: Any, pool: Pool) -> Any:
    """A map (n, height, width, channels) -> (n, values); a tensor without positions is left as it is."""
    from keras import layers

    if len(x.shape) == 2:
        return x
    if pool.how == "flatten":
        return layers.Flatten(name=pool.name)(x)
    if pool.grid == 1:
        whole = {"average": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
        return whole[pool.how](name=pool.name)(x)
    each = {"average": layers.AveragePooling2D, "max": layers.MaxPooling2D}
    size = tuple(ceil(side / pool.grid) for side in x.shape[1:3])
    return layers.Flatten()(each[pool.how](size, size, "same", name=pool.name)(x))


def stack(x: Any, hidden: Hidden) -> tuple[Any, list[Any]]:
    """The output of the hidden layers for a tensor (n, width), and these layers, in order."""
    from keras import layers

    made: list[Any] = []
    for number, units in enumerate(hidden.dense, start=1):
        made.append(layers.Dense(units, activation="relu", name=f"dense_{number}"))
        x = made[-1](x)
        if hidden.dropout:
            made.append(layers.Dropout(hidden.dropout, name=f"dropout_{number}"))
            x = made[-1](x)
    if hidden.dropout and not hidden.dense:
        made.append(layers.Dropout(hidden.dropout, name="dropout"))
        x = made[-1](x)
    return x, made


def dense_of(made: list[Any]) -> tuple[Any, ...]:
    """The hidden layers with trainable weights."""
    return tuple(layer for layer in made if layer.weights)
