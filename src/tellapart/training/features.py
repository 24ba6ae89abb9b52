"""Images -> features of a frozen backbone, computed once, cached on disk as float16, and shared by all runs.

In: the images of a split and the backbone. Out: float16 (images * views, width). A view is an image as augmentation
shows it; the first is the image itself. What was computed is found by the digest of the image, the backbone's weights,
the ImageSpec and the view, so a changed file, backbone or augmentation is a miss. Extraction that was killed goes on
where it stopped.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tellapart.config import AUGMENTATIONS, AugmentConfig
from tellapart.data import augment as augmenting
from tellapart.data import pixels as road
from tellapart.data.batches import Images
from tellapart.data.cache import ArrayCache, Store
from tellapart.errors import ExportError
from tellapart.files import cache_root, replacing, to_json
from tellapart.models.backbone import Backbone
from tellapart.models.backend import has_gpu, start_keras
from tellapart.models.compute import inferring, outputs
from tellapart.models.features import FeatureSet
from tellapart.models.onnx_graph import write_graph
from tellapart.models.pretrained_weights import bundled_graph
from tellapart.models.runtime import open_session
from tellapart.parallel import cores, in_order
from tellapart.progress import Phase, Progress
from tellapart.task import ImageSpec

if TYPE_CHECKING:
    import keras
    import onnxruntime

BOUND = 1e-3
"""Largest difference of a feature from Keras allowed for an engine, relative to the largest feature."""

BATCH = 2  # More images at once leave the cache of a core: EfficientNet-Lite0 was a seventh slower at 4.
GPU_BATCH = 64
_KEPT_SECONDS = 2.0
_READ = 1024

Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]


@dataclass(frozen=True)
class FeatureEngine:
    """The engine that computes features. compute: uint8 (n, height, width, 3) -> (n, width). widths: of the output of
    each pool; the outputs are concatenated.

    many: several threads may compute at the same time, each on its own core. batch: images per call.
    """

    name: str
    compute: Compute
    widths: tuple[int, ...]
    many: bool = False
    batch: int = BATCH

    @property
    def width(self) -> int:
        return sum(self.widths)


def backbone_key(name: str, weights_digest: str, spec: ImageSpec, taken: FeatureSet) -> str:
    """Equal where a backbone gives equal features of equal images. taken: which of its maps."""
    # Names of files are bounded, and the key of many pools is long.
    which = f"-{hashlib.blake2b(taken.key.encode(), digest_size=8).hexdigest()}" if taken.key else ""
    return f"{name}{which}-{weights_digest}-{spec.key}-{road.ROAD}"


def choose_engine(
    backbone: Backbone, taken: FeatureSet, key: str, images: Callable[[], NDArray[np.uint8]], progress: Progress
) -> FeatureEngine:
    """The fastest engine whose features equal those of Keras: ONNX Runtime on CPUs, Keras on a GPU.

    backbone: in float32. images: returns some real images for comparison, when the backbone is converted
    for the first time; if the features differ by BOUND or more, it runs in Keras.
    """
    network = start_keras().Model(backbone.image, taken.parts(backbone))
    names = [pool.key for pool in taken.pools]
    if has_gpu():
        return _in_keras(network)
    file = _kept_file(key)
    kept = _kept_engine(file, names)
    if kept is not None:
        return kept
    import onnx

    progress.update(Phase.PREPARING, 0, 2)
    compared = images()
    try:
        with replacing(file) as neighbour:
            theirs = np.concatenate(outputs(network, compared), axis=1)
            onnx.save(write_graph(network, names), str(neighbour))
            progress.update(Phase.PREPARING, 1, 2)
            engine = _in_onnxruntime(open_session(neighbour, threads=1), names)
            difference = float(np.abs(engine.compute(compared) - theirs).max() / max(float(np.abs(theirs).max()), 1e-9))
            if not difference < BOUND:
                raise ExportError(f"its features differ from Keras' by {difference:.1e} of the largest")
    except (ExportError, OSError) as error:
        progress.line(f"The backbone runs in Keras, which is slower: as an ONNX file it cannot be used ({error}).")
        return _in_keras(network)
    finally:
        progress.update(Phase.PREPARING, 2, 2)
    return engine


def bundled_engine(name: str, taken: FeatureSet) -> FeatureEngine:
    """A bundled backbone, by its graph, which outputs what each of its candidates takes and needs no Keras."""
    return _in_onnxruntime(open_session(bundled_graph(name), threads=1, ours=True), [pool.key for pool in taken.pools])


def _in_keras(network: keras.Model) -> FeatureEngine:
    """Several threads, so that a GPU computes while its previous results are transferred."""
    infer, batch = inferring(network), GPU_BATCH if has_gpu() else BATCH
    widths = tuple(int(tensor.shape[-1]) for tensor in network.outputs)

    def compute(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate(infer(images), axis=1)

    return FeatureEngine("keras", compute, widths, many=has_gpu(), batch=batch)


def _kept_engine(file: Path, names: list[str]) -> FeatureEngine | None:
    """The previously converted backbone, or None."""
    if not file.exists():
        return None
    try:
        return _in_onnxruntime(open_session(file, threads=1), names)
    except ExportError:
        file.unlink(missing_ok=True)
        return None


def _kept_file(key: str) -> Path:
    return cache_root() / "backbones" / f"{key}.onnx"


def feature_cache(key: str, width: int, limit_bytes: int) -> ArrayCache:
    """The features of one backbone for images of one ImageSpec."""
    return ArrayCache(
        key, (width,), np.float16, root=cache_root() / "features", what="features", limit_bytes=limit_bytes
    )


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
    count, digests = len(images), images.digests
    keys = [views.key(digest, view) for view in range(views.count) for digest in digests]
    width = engine.width if first is None else first
    out = np.empty((len(keys), width), np.float16)
    absent = _read(cache.store(keys), out, engine.width)
    # One place a key: the same image may stand in a catalog twice.
    earliest = {keys[place]: int(place) for place in absent[::-1]}
    places = np.array(sorted(earliest.values()), np.int64)

    def decode(chunk: NDArray[np.int64]) -> NDArray[np.uint8]:
        rows = chunk % count
        pixels = images.take(rows)
        views.show(pixels, [digests[row] for row in rows], chunk // count)
        return pixels

    def compute(chunk: NDArray[np.int64]) -> NDArray[np.float32]:
        return engine.compute(decode(chunk))

    chunks = [places[start : start + engine.batch] for start in range(0, len(places), engine.batch)]
    started = kept = time.perf_counter()
    done = 0
    # A core that decodes and computes for itself waits for no other.
    coming: Iterable[NDArray[np.float32]] = (
        in_order(compute, chunks, workers=cores(), ahead=cores() + 2)
        if engine.many
        else map(engine.compute, in_order(decode, chunks, workers=cores(), ahead=cores() + 2))
    )
    for chunk, computed in zip(chunks, coming, strict=True):
        found = computed.astype(np.float16)
        out[chunk] = found[:, :width]
        for place, row in zip(chunk, found, strict=True):
            cache.put(keys[place], row)
        done += len(chunk)
        now = time.perf_counter()
        if now - kept > _KEPT_SECONDS:
            cache.flush()
            kept = now
        tell(done, len(places), f"{done / (now - started):.0f} images/s")
    cache.flush()
    for place in absent:
        out[place] = out[earliest[keys[place]]]
    return out


def _read(store: Store, out: NDArray[np.float16], width: int) -> NDArray[np.intp]:
    """Fill `out` with the first features of each row of the store, of width `width`; returns the missing positions."""
    if out.shape[1] == width:
        return store.take(np.arange(len(out)), out)
    absent = []
    for start in range(0, len(out), _READ):
        rows = np.arange(start, min(start + _READ, len(out)))
        whole = np.empty((len(rows), width), np.float16)
        absent.append(rows[store.take(rows, whole)])
        out[rows] = whole[:, : out.shape[1]]
    return np.concatenate(absent) if absent else np.empty(0, np.intp)


class CachedFeatures:
    """Features in the form that Batches takes: stored as (n, width) float16, returned as float32."""

    def __init__(self, features: NDArray[np.float16]) -> None:
        self._features = features

    def __len__(self) -> int:
        return len(self._features)

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        return self._features[rows].astype(np.float32)


def _in_onnxruntime(session: onnxruntime.InferenceSession, names: list[str]) -> FeatureEngine:
    (taken,) = session.get_inputs()
    widths = {given.name: int(given.shape[-1]) for given in session.get_outputs()}

    def compute(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.concatenate(session.run(names, {taken.name: batch}), axis=1)

    return FeatureEngine("onnxruntime", compute, tuple(widths[name] for name in names), many=True)
