"""A folder of images without labels -> their coordinates, as they come: what labelling learns from.

The features are those of the bundled backbone, under the keys under which training caches them, and need no Keras.
Images come in an order that depends on nothing but their paths, so that those that are there are at any time a random
sample of the folder, and so are the first of the order.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config, DataConfig
from tellapart.data.batches import Images
from tellapart.data.cache import DEFAULT_LIMIT, ArrayCache, PixelCache
from tellapart.data.catalog import ImageRecord
from tellapart.data.scan import scan
from tellapart.data.sources import folder_of, open_row
from tellapart.data.sources.listing import list_folder
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.errors import ImageError, SourceError
from tellapart.models.feature_engine import FeatureEngine
from tellapart.models.features import FeatureSet, root_of
from tellapart.models.pretrained import PRETRAINED, offered
from tellapart.progress import SILENT, Phase, Progress
from tellapart.training.deep_check import inspection_spec
from tellapart.training.features import BACKBONE, bundled_features, every_feature, extract

WIDTH = 256
"""Coordinates of an image."""

LANDMARKS = 1024
"""Images whose longest axes are the coordinates; the first of the order, so a random sample."""

READ = "all-filters"
"""What is read of the backbone: averages of its maps at all depths, which tell apart what photographs of ImageNet do
not show, such as signs, faces and surfaces."""

Tell = Callable[[int, int, str], None]

_FIRST, _STEP = 32, 256
_TINY = 1e-5  # of the largest eigenvalue: below it, float32 holds noise


def image_paths(folder: str | os.PathLike[str]) -> tuple[Path, tuple[str, ...]]:
    """The folder (that of an unpacked archive), and the images below it in the order in which they come. Raises
    SourceError where there is none."""
    root = folder_of(folder)
    listing = list_folder(root, str(folder))
    if not listing.images:
        raise SourceError(f"{folder} holds no image. It holds {listing.describe()}. {listing.advice}".rstrip())
    return root, tuple(sorted(listing.images, key=_drawn))


def _drawn(path: str) -> tuple[bytes, str]:
    return hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=8).digest(), path


class Projection:
    """Features (n, width) -> coordinates (n, at most WIDTH): the longest axes of some of them.

    Each part of the features is centred and divided by one number, so that parts of different scale weigh the same; a
    linear head in all features with a quadratic penalty is then one in these coordinates, but for the axes left out.
    """

    def __init__(self, sample: NDArray[np.floating], parts: Sequence[slice]) -> None:
        from scipy.linalg import eigh

        values = root_of(sample)
        self._centre = values.mean(axis=0)
        squares = np.square(values - self._centre).mean(axis=0)
        self._spread = np.empty_like(squares)
        for part in parts:
            self._spread[part] = np.sqrt(squares[part].mean()) or 1.0
        scaled = (values - self._centre) / self._spread
        lengths, vectors = eigh(scaled @ scaled.T, check_finite=False, driver="evd")
        kept = lengths > _TINY * lengths[-1]
        kept[-1] = True  # of images that are all alike too
        lengths, vectors = np.maximum(lengths[kept], _TINY)[-WIDTH:], vectors[:, kept][:, -WIDTH:]
        self._axes = scaled.T @ (vectors / np.sqrt(lengths)).astype(np.float32)

    def of(self, features: NDArray[np.floating]) -> NDArray[np.float32]:
        """Coordinates (n, WIDTH) of features; axes that are lacking are 0."""
        found = ((root_of(features) - self._centre) / self._spread) @ self._axes
        return np.pad(found, ((0, 0), (0, WIDTH - found.shape[1])))


@dataclass(frozen=True, eq=False)
class Seen:
    """What is there at one moment. ready: (n,) whether an image has coordinates, count of them; coordinates: (n,
    WIDTH), of which only those rows have a meaning. generation: grows when all coordinates change."""

    ready: NDArray[np.bool_]
    count: int
    coordinates: NDArray[np.float32]
    generation: int


class Pool:
    """The images of a folder, without labels. `fill` computes what is lacking, in any thread, while others read.

    paths: in the order in which they come, and places: their positions; records: of those that have come.
    """

    def __init__(self, folder: str | os.PathLike[str], config: Config, cache_limit: int = DEFAULT_LIMIT) -> None:
        """Raises SourceError for a folder without an image."""
        self.root, self.paths = image_paths(folder)
        self.places = {path: place for place, path in enumerate(self.paths)}
        self.records: dict[int, ImageRecord] = {}
        self._seen = Seen(np.zeros(len(self.paths), np.bool_), 0, np.zeros((len(self.paths), WIDTH), np.float32), 0)
        self._config, self._limit = config, cache_limit
        self._sample: list[NDArray[np.float16]] = []
        self._sampled: list[int] = []
        self._projection: Projection | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def seen(self) -> Seen:
        """What has come so far; it stays as it is."""
        return self._seen

    def fill(self, progress: Progress = SILENT) -> None:
        """Read every image and compute its coordinates. What `progress` raises ends it, and nothing is lost."""
        whole = Source(self.root, tuple(LabelledPath(path, "") for path in self.paths), "images without labels")
        spec = inspection_spec(self._config, whole)
        sets = offered(PRETRAINED[BACKBONE], spec)
        taken = every_feature(spec)
        with (
            PixelCache(spec, limit_bytes=self._limit) as pixels,
            bundled_features(spec, taken, self._limit) as (engine, kept),
        ):
            columns, parts = _read(taken, sets.get(READ, sets["top"]), engine.widths)
            done = 0
            progress.update(Phase.FEATURES, 0, len(self.paths))
            for places in _groups(len(self.paths)):
                rows = tuple(whole.rows[place] for place in places)
                records = scan(Source(self.root, rows, ""), self._config.data, cache=pixels)
                found = dict(zip(places, records, strict=True))
                tell = partial(_told, progress, done, len(self.paths))
                features = _Features(self.root, engine, pixels, kept, self._config.data)
                usable, computed = features.of({p: r for p, r in found.items() if not r.error}, tell)
                self._take(usable, computed[:, columns], parts, found)
                done += len(places)
                progress.update(Phase.FEATURES, done, len(self.paths))

    def _take(
        self,
        places: list[int],
        features: NDArray[np.float16],
        parts: Sequence[slice],
        records: dict[int, ImageRecord],
    ) -> None:
        """Of the first images the features are kept until LANDMARKS of them tell the axes for good."""
        self.records |= records
        if not places:
            return
        before = self._seen
        coordinates, generation = before.coordinates, before.generation
        if self._projection is None or self._sample:
            self._sample.append(features)
            self._sampled += places
            sample = np.concatenate(self._sample)
            self._projection = Projection(sample[:LANDMARKS], parts)
            coordinates, generation = np.zeros_like(coordinates), generation + 1
            coordinates[self._sampled] = self._projection.of(sample)
            if len(self._sampled) >= LANDMARKS:
                self._sample = []
        else:
            coordinates[places] = self._projection.of(features)  # rows that nobody reads yet
        ready = before.ready.copy()
        ready[places] = True
        self._seen = Seen(ready, before.count + len(places), coordinates, generation)


@dataclass(frozen=True)
class _Features:
    """What computes and keeps features."""

    root: Path
    engine: FeatureEngine
    pixels: PixelCache
    kept: ArrayCache
    bounds: DataConfig

    def of(self, records: dict[int, ImageRecord], tell: Tell) -> tuple[list[int], NDArray[np.float16]]:
        """The places of the images that can be read, and their features."""
        try:
            return list(records), self._extract(list(records.values()), tell)
        except ImageError:
            pass
        found = [np.empty((0, self.engine.width), np.float16)]  # one was changed or removed meanwhile
        places = []
        for place, record in records.items():
            with suppress(ImageError):
                found.append(self._extract([record], tell))
                places.append(place)
        return places, np.concatenate(found)

    def _extract(self, records: Sequence[ImageRecord], tell: Tell) -> NDArray[np.float16]:
        images = Images(self.root, records, self.pixels.spec, open_row=open_row, cache=self.pixels, bounds=self.bounds)
        return extract(self.engine, images, self.kept, tell=tell)


def _groups(count: int) -> Iterator[range]:
    """A few images first, so that the first are there at once."""
    start, step = 0, _FIRST
    while start < count:
        yield range(start, min(start + step, count))
        start, step = start + step, min(_STEP, 2 * step)


def _read(taken: FeatureSet, wanted: FeatureSet, widths: Sequence[int]) -> tuple[NDArray[np.intp], list[slice]]:
    """The columns of `wanted` among all that are computed, and its parts among those columns."""
    ends = np.cumsum(widths)
    by_key = {pool.key: np.arange(end - width, end) for pool, end, width in zip(taken.pools, ends, widths, strict=True)}
    columns = [by_key[pool.key] for pool in wanted.pools]
    edges = np.cumsum([0, *map(len, columns)]).tolist()
    return np.concatenate(columns), [slice(start, end) for start, end in itertools.pairwise(edges)]


def _told(progress: Progress, before: int, total: int, done: int, _of: int, pace: str) -> None:
    progress.update(Phase.FEATURES, before + done, total, pace)
