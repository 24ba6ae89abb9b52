"""Catalog -> findings of the deep checks, with the bundled backbone, which needs no Keras.

The features are those that training caches, under the same keys: whichever comes first computes them for both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config, ModelConfig, TrainConfig
from tellapart.data.batches import Images
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog, Split
from tellapart.data.checks import in_order_of_gravity
from tellapart.data.corrections import Correction
from tellapart.data.deep_checks import Checked, DeepEvidence, look_deeper
from tellapart.data.quality import measure_quality
from tellapart.data.sources import open_row
from tellapart.data.sources.source import Source
from tellapart.progress import Phase, Progress
from tellapart.task import ImageSpec
from tellapart.training.features import BACKBONE, bundled_features, every_feature, extract
from tellapart.training.plan import decide

_AT_ONCE = 64


def inspection_spec(config: Config, source: Source) -> ImageSpec:
    """The image that the backbone takes when training this source with default settings: so findings depend on the
    files, not on the image size of a training."""
    plain = TrainConfig(precision="float32")  # looking for a GPU would start TensorFlow
    return decide(Config(model=ModelConfig(name=BACKBONE), data=config.data, train=plain), source).spec


def look_into(
    catalog: Catalog,
    config: Config,
    cache: PixelCache,
    *,
    drawn: frozenset[Split],
    corrected: Sequence[Correction],
    progress: Progress,
) -> Checked:
    """The catalog with the findings of deep checks in addition to its own. cache: of its pixels, by `inspection_spec`.

    drawn: the splits that were drawn (splits.drawn_splits). corrected: corrections already applied to the catalog.
    Raises ImageError for an image that was changed or removed.
    """
    rows = tuple(image for image in catalog.images if not image.error)
    images = Images(catalog.root, rows, cache.spec, open_row=open_row, cache=cache, bounds=config.data)
    features, quality = _inspect(images, cache, progress)
    progress.update(Phase.COMPARING, 0, 1)
    decided = frozenset(row.path for row in corrected if row.action in ("relabel", "keep"))
    found = look_deeper(DeepEvidence(rows, features, quality, drawn, decided), catalog.task.classes, config.seed)
    progress.update(Phase.COMPARING, 1, 1)
    # Reported again, including copies that only features detect.
    shallow = [finding for finding in catalog.findings if not finding.kind.startswith("near-")]
    whole = replace(catalog, findings=in_order_of_gravity([*shallow, *found.findings]))
    return Checked(whole, found, tuple(corrected), drawn)


def _inspect(images: Images, cache: PixelCache, progress: Progress) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
    """Features (n, width) and quality (n, 3) of the images of these rows. cache: of the pixels, for its limit."""
    with bundled_features(cache.spec, every_feature(cache.spec), cache.limit_bytes) as (engine, features):
        # The first are the averages of the top map; the others are cached for training.
        tell, averages = partial(progress.update, Phase.FEATURES), engine.widths[0]
        found = extract(engine, images, features, tell=tell, first=averages)
    quality = []
    for start in range(0, len(images), _AT_ONCE):
        some = np.arange(start, min(start + _AT_ONCE, len(images)))
        quality.append(measure_quality(images.take(some)))
        progress.update(Phase.INSPECTING, int(some[-1]) + 1, len(images))
    return found, np.concatenate(quality)
