"""Images -> features of a frozen backbone, computed once, cached on disk as float16, and shared by all runs.

In: the images of a split and the backbone. Out: float16 (images * views, width). A view is an image as augmentation
shows it; the first is the image itself. What was computed is found by the digest of the image, the backbone's weights,
the ImageSpec and the view, so a changed file, backbone or augmentation is a miss. Extraction that was killed goes on
where it stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.config import AUGMENTATIONS, AugmentConfig
from tellapart.data import augment as augmenting
from tellapart.data import pixels as road
from tellapart.data.batches import Batches, Images
from tellapart.data.cache import DEFAULT_LIMIT, ArrayCache, Store
from tellapart.files import cache_root, to_json
from tellapart.models.feature_engine import FeatureEngine, bundled_engine
from tellapart.models.features import FeatureSet, union
from tellapart.models.pretrained import PRETRAINED, offered
from tellapart.models.pretrained_weights import BUNDLED_DIGESTS
from tellapart.parallel import cores, in_order
from tellapart.task import ImageSpec
from tellapart.training.feature_rows import blocks, let_go, room

BACKBONE = "efficientnet-lite0"
"""The backbone in the package, which ships as a graph too."""
_KEPT_SECONDS = 2.0
_LET_GO = 256
"""Batches after which memory of a file is given back."""


def backbone_key(name: str, weights_digest: str, spec: ImageSpec, taken: FeatureSet) -> str:
    """Equal where a backbone gives equal features of equal images. taken: which of its maps."""
    # Names of files are bounded, and the key of many pools is long.
    which = f"-{hashlib.blake2b(taken.key.encode(), digest_size=8).hexdigest()}" if taken.key else ""
    return f"{name}{which}-{weights_digest}-{spec.key}-{road.ROAD}"


def feature_cache(key: str, width: int, limit_bytes: int) -> ArrayCache:
    """The features of one backbone for images of one ImageSpec."""
    return ArrayCache(
        key, (width,), np.float16, root=cache_root() / "features", what="features", limit_bytes=limit_bytes
    )


def every_feature(spec: ImageSpec) -> FeatureSet:
    """What training may choose from of BACKBONE: computed and cached together, so that all who look share one pass."""
    return union(offered(PRETRAINED[BACKBONE], spec).values())


@contextmanager
def bundled_features(
    spec: ImageSpec, taken: FeatureSet, limit_bytes: int = DEFAULT_LIMIT, *, found_by: str = ""
) -> Iterator[tuple[FeatureEngine, ArrayCache]]:
    """What computes features of BACKBONE without Keras, and where training keeps them. found_by: what the cache is
    asked with, where that is not the digest of a file."""
    engine = bundled_engine(BACKBONE, taken)
    key = backbone_key(BACKBONE, BUNDLED_DIGESTS[BACKBONE], spec, taken) + found_by
    with feature_cache(key, engine.width, limit_bytes) as cache:
        yield engine, cache


@dataclass(frozen=True)
class Views:
    """How often each image passes through the backbone: plain, then count - 1 times augmented."""

    count: int = 1
    augment: AugmentConfig = AUGMENTATIONS["none"]
    seed: int = 0

    def key(self, digest: str, view: int) -> str:
        """The key of an image's features in the cache."""
        if not view:
            return digest
        words = to_json([digest, view, self.seed, self.augment.model_dump()], ascii=True, sort_keys=True)
        return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()

    def show(self, pixels: NDArray[np.uint8], digests: Sequence[str], view: NDArray[np.int64]) -> None:
        """Augment the images (n, h, w, c) in place for their views. An image's view depends on its digest, not on its
        position in a catalog, so that runs on other splits share it."""
        chosen = np.flatnonzero(view)
        if len(chosen):
            numbers = np.array([int(digests[int(place)][:15], 16) for place in chosen])
            changed = pixels[chosen]
            drawn = augmenting.draw(self.augment, changed.shape[1:], self.seed, view[chosen], numbers)
            augmenting.apply(changed, drawn, self.augment)
            pixels[chosen] = changed


@dataclass(frozen=True)
class MirroredViews(Views):
    """The image and its mirror image."""

    count: int = 2

    def key(self, digest: str, view: int) -> str:
        return hashlib.blake2b(f"{digest} mirrored".encode(), digest_size=16).hexdigest() if view else digest

    def show(self, pixels: NDArray[np.uint8], digests: Sequence[str], view: NDArray[np.int64]) -> None:  # noqa: ARG002
        chosen = np.flatnonzero(view)
        pixels[chosen] = pixels[chosen][:, :, ::-1]


def mean_of_both(features: NDArray[np.float16]) -> NDArray[np.float16]:
    """(n, width), of the features (2 n, width) of MirroredViews."""
    count = len(features) // 2
    out = room(count, features.shape[1])
    start = 0
    for part in blocks(out):
        rows = slice(start, start + len(part))
        part[:] = (features[rows].astype(np.float32) + features[count:][rows]) / 2
        start += len(part)
    let_go(features)
    let_go(out)
    return out


def extract(
    engine: FeatureEngine,
    images: Images,
    cache: ArrayCache,
    views: Views = Views(),
    tell: Callable[[int, int, str], None] = lambda *_: None,
    first: int | None = None,
) -> NDArray[np.float16]:
    """The features of every image, (views * images, width): all plain ones first, then the second views ...

    tell: called now and then with how many are done, of how many, and the pace; what it raises ends the extraction, and
    nothing is lost. first: give only so many of the first numbers of each image, though all are kept. Raises ImageError
    for an image that changed or went away.
    """
    digests = images.digests
    keys = [views.key(digest, view) for view in range(views.count) for digest in digests]
    width = engine.width if first is None else first
    out = room(len(keys), width)
    absent = _read(cache.store(keys), out, engine.width)
    # One place a key: the same image may stand in a catalog twice.
    earliest = {keys[place]: int(place) for place in absent[::-1]}
    places = np.array(sorted(earliest.values()), np.int64)

    for number, (chunk, found) in enumerate(_computed(engine, images, cache, views, places, tell)):
        out[chunk] = found[:, :width]
        if number % _LET_GO == 0:
            let_go(out)
    cache.flush()
    for place in absent:
        if place != earliest[keys[place]]:
            out[place] = out[earliest[keys[place]]]
    let_go(out)
    return out


def keep(
    engine: FeatureEngine,
    images: Images,
    cache: ArrayCache,
    views: Views = Views(),
    tell: Callable[[int, int, str], None] = lambda *_: None,
) -> bool:
    """Compute what the cache lacks of the features of every view. Whether the cache had room for all; where not, this
    ends early. tell, and what it raises: as `extract` has it."""
    keys = [views.key(digest, view) for view in range(views.count) for digest in images.digests]
    places = {key: place for place, key in reversed(list(enumerate(keys)))}
    absent = np.array(sorted(places[key] for key in cache.missing(keys)), np.int64)
    for _ in _computed(engine, images, cache, views, absent, tell):
        if cache.problem:
            return False
    cache.flush()
    return not cache.problem


def _computed(
    engine: FeatureEngine,
    images: Images,
    cache: ArrayCache,
    views: Views,
    places: NDArray[np.int64],
    tell: Callable[[int, int, str], None],
) -> Generator[tuple[NDArray[np.int64], NDArray[np.float16]], None, None]:
    """The features of these places among all views, in pieces, each of which the cache was given."""
    digests = images.digests
    started = kept = time.perf_counter()
    done = 0
    view, rows = np.divmod(places, max(1, len(images)))
    for chunk, found in computed(engine, images, views, (rows, view), cores()):
        for place, row in zip(chunk, found, strict=True):
            cache.put(views.key(digests[rows[place]], int(view[place])), row)
        yield places[chunk], found
        done += len(chunk)
        now = time.perf_counter()
        if now - kept > _KEPT_SECONDS:
            cache.flush()
            kept = now
        tell(done, len(places), f"{done / (now - started):.0f} images/s")


def computed(
    engine: FeatureEngine,
    images: Images,
    views: Views,
    wanted: tuple[NDArray[np.int64], NDArray[np.int64]],
    workers: int,
) -> Generator[tuple[NDArray[np.int64], NDArray[np.float16]], None, None]:
    """The features of these rows in these views, with their positions in `wanted`, a few at a time, in order."""
    digests, (rows, view) = images.digests, wanted

    def decode(chunk: NDArray[np.int64]) -> NDArray[np.uint8]:
        pixels = images.take(rows[chunk])
        views.show(pixels, [digests[row] for row in rows[chunk]], view[chunk])
        return pixels

    def compute(chunk: NDArray[np.int64]) -> NDArray[np.float32]:
        return engine.compute(decode(chunk))

    places = np.arange(len(rows))
    chunks = [places[start : start + engine.batch] for start in range(0, len(places), engine.batch)]
    # A core that decodes and computes for itself waits for no other.
    coming: Iterable[NDArray[np.float32]] = (
        in_order(compute, chunks, workers=workers, ahead=workers + 2)
        if engine.many
        else map(engine.compute, in_order(decode, chunks, workers=workers, ahead=workers + 2))
    )
    for chunk, found in zip(chunks, coming, strict=True):
        yield chunk, found.astype(np.float16)


def _read(store: Store, out: NDArray[np.float16], width: int) -> NDArray[np.intp]:
    """Fill `out` with the first features of each row of the store, of width `width`; returns the missing positions."""
    absent, start = [np.empty(0, np.intp)], 0
    for part in blocks(out):
        rows = np.arange(start, start + len(part))
        whole = part if part.shape[1] == width else np.empty((len(rows), width), np.float16)
        absent.append(rows[store.take(rows, whole)])
        if whole is not part:
            part[:] = whole[:, : part.shape[1]]
        start += len(part)
    return np.concatenate(absent)


class CachedFeatures:
    """Features in the form that Batches takes: stored as (n, width) float16, returned as float32."""

    def __init__(self, features: NDArray[np.float16]) -> None:
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        taken = self._features[rows].astype(np.float32)
        let_go(self._features)
        return taken


class CachedViews:
    """What `keep` computed, as rows that Batches takes: row view * images + image, float16 (n, width). What the cache
    has lost meanwhile is computed anew."""

    def __init__(self, engine: FeatureEngine, images: Images, cache: ArrayCache, views: Views) -> None:
        self._engine, self._images, self._views = engine, images, views
        self._store = cache.store([views.key(digest, view) for view in range(views.count) for digest in images.digests])

    def __len__(self) -> int:
        return len(self._images)

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float16]:
        out = np.empty((len(rows), self._engine.width), np.float16)
        absent = self._store.take(rows, out)
        if len(absent):
            view, which = np.divmod(rows[absent], len(self._images))
            pixels = self._images.take(which)
            self._views.show(pixels, [self._images.digests[row] for row in which], view)
            out[absent] = self._engine.compute(pixels)
        return out


@dataclass(frozen=True, eq=False)
class ViewBatches(Batches):
    """Batches of rows that hold several views of each image, one behind the other: each pass shows every image once, in
    the view that is its turn, so that plain and augmented ones are mixed in every batch."""

    views: int = 1

    def batch(self, index: int, epoch: int = 0) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """Rows (n, width) and their labels (n, 1) or (n, k). Raises IndexError, ImageError."""
        rows, passes = (each[self.share.of(self.size(index))] for each in self.rows(index, epoch))
        return self.images.take((passes + rows) % self.views * len(self.images) + rows), self.labels[rows]
