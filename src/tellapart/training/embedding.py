"""Images -> embeddings: the averages of the bundled backbone's last map, which need no Keras, cached by their pixels.

In: images of any kind. Out: float32 (n, WIDTH), in order. Similar images have a small angle between them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tellapart.config import DataConfig
from tellapart.data import pixels
from tellapart.data.cache import ArrayCache
from tellapart.errors import ImageError
from tellapart.inference.inputs import Held, read_held
from tellapart.models.feature_engine import FeatureEngine
from tellapart.models.features import TOP, FeatureSet, Pool
from tellapart.models.pretrained import PRETRAINED
from tellapart.parallel import in_order
from tellapart.task import ImageSpec
from tellapart.training.features import BACKBONE, bundled_features

SPEC = ImageSpec(PRETRAINED[BACKBONE].side, PRETRAINED[BACKBONE].side, fit="crop")
"""As the backbone was trained."""
WIDTH = 1280

_TAKEN = FeatureSet((Pool(TOP),))
_AT_ONCE = 128


def embed(
    images: Iterable[tuple[str, Held]],
    bounds: DataConfig | None = None,
    tell: Callable[[int], None] = lambda _: None,
) -> Iterator[tuple[str, NDArray[np.float32] | ImageError]]:
    """(name, image) -> (name, its embedding, (WIDTH,), or why it has none), in order, with a few images in memory.

    bounds: limits of an image's pixels and bytes. tell: called with the number of images done.
    """
    limits = bounds or DataConfig()
    coming, done = iter(images), 0
    with bundled_features(SPEC, _TAKEN, found_by="-pixels") as (engine, cache):
        while chunk := list(islice(coming, _AT_ONCE)):
            taken = list(in_order(lambda held: _pixels(held, limits), [held for _, held in chunk]))
            good = [found for found in taken if not isinstance(found, ImageError)]
            computed = iter(_computed(engine, cache, np.stack(good)) if good else ())
            for (name, _), found in zip(chunk, taken, strict=True):
                yield name, found if isinstance(found, ImageError) else next(computed)
            done += len(chunk)
            tell(done)


def _pixels(image: Held, limits: DataConfig) -> NDArray[np.uint8] | ImageError:
    return read_held(
        image,
        limits.max_bytes,
        lambda source: pixels.read(source, SPEC, max_pixels=limits.max_pixels, max_bytes=limits.max_bytes),
    )


def _computed(engine: FeatureEngine, cache: ArrayCache, batch: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(n, h, w, c) -> (n, WIDTH), float32 with the precision of the cache, so that all calls give the same."""
    keys = [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in batch]
    out = np.empty((len(batch), engine.width), np.float16)
    absent = cache.store(keys).take(np.arange(len(batch)), out)
    parts = [absent[start : start + engine.batch] for start in range(0, len(absent), engine.batch)]
    for places, rows in zip(parts, in_order(lambda part: engine.compute(batch[part]), parts), strict=True):
        out[places] = rows.astype(np.float16)
        for place in places:
            cache.put(keys[place], out[place].copy())
    return out.astype(np.float32)
