"""Catalog + ImageSpec -> batches of uint8 images and labels, from the cache or decoded in worker threads.

Images gives the pixels of any rows; Batches orders, augments and labels them. Which images a batch contains and how
each is augmented depends only on (seed, epoch, position), so any number of workers gives the same batches, and a
resumed run continues with the same ones. Never imports Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tellapart.config import AugmentConfig, DataConfig
from tellapart.data import augment as augmenting
from tellapart.data import pixels as road
from tellapart.data.cache import PixelCache, content_digest
from tellapart.data.catalog import ImageRecord
from tellapart.data.image_file import MAX_BYTES, read_file, within
from tellapart.errors import ConfigError, ImageError, TellapartError
from tellapart.parallel import in_order
from tellapart.task import ImageSpec, Task

OpenRow = Callable[[Path, str], Path | bytes | NDArray[np.uint8]]
"""(root, path of a row) -> the image's file, or the content of a member of a container: data.sources.open_row."""

_ORDER = int.from_bytes(b"order")


def catalogued(
    root: Path, image: ImageRecord, open_row: OpenRow, max_bytes: int = MAX_BYTES
) -> bytes | NDArray[np.uint8]:
    """What data.pixels.read takes for an image of a catalog, verified to be the catalogued image.

    All code that opens images named by a run uses this: the catalog may be a stranger's, and name any file of this
    machine. Raises ImageError if the content does not match the digest, or cannot be opened or is not a file,
    SourceError for a damaged container.
    """
    opened = open_row(root, image.path)
    content = read_file(opened, max_bytes)[0] if isinstance(opened, Path) else within(opened, max_bytes)
    if image.digest and content_digest(content) != image.digest:
        raise ImageError("unreadable", "it changed since the catalog was made; read the images again")
    return content


class Images:
    """The pixels of a catalog's images, by row: from the cache if present, otherwise decoded.

    An image whose digest is known is verified when it is decoded, so a changed file is never taken for the catalogued
    one. bounds: limits on its bytes and pixels; None: the defaults of DataConfig.
    """

    def __init__(
        self,
        root: Path,
        images: Sequence[ImageRecord],
        spec: ImageSpec,
        *,
        open_row: OpenRow,
        cache: PixelCache | None = None,
        bounds: DataConfig | None = None,
    ) -> None:
        if cache is not None and cache.spec != spec:
            raise ConfigError(f"Given a cache of {cache.spec.key} images for {spec.key}; expected one of the same.")
        self.spec = spec
        self._root = root
        self._images = tuple(images)
        self._open_row = open_row
        self._bounds = bounds or DataConfig()
        self._cache = cache
        self._store = None if cache is None else cache.store(self.digests)

    def __len__(self) -> int:
        return len(self._images)

    @property
    def digests(self) -> list[str]:
        """Digests of the files, in the order of the rows."""
        return [image.digest for image in self._images]

    def some(self, rows: NDArray[np.intp]) -> Images:
        """These rows, without the cache, as another process takes them."""
        images = [ImageRecord(self._images[row].path, "", digest=self._images[row].digest) for row in rows.tolist()]
        return Images(self._root.absolute(), images, self.spec, open_row=self._open_row, bounds=self._bounds)

    def first_file(self) -> str:
        """The absolute path of the first image, or of what contains it; empty without images."""
        path = (self._root / self._images[0].path).absolute() if self._images else Path()
        while path.name and not path.exists():
            path = path.parent
        return str(path) if path.name else ""

    def take(self, rows: NDArray[np.intp]) -> NDArray[np.uint8]:
        """Pixels of these rows, (n, height, width, channels). Raises ImageError with the path."""
        out = np.empty((len(rows), *self.spec.shape), np.uint8)
        absent = np.arange(len(rows)) if self._store is None else self._store.take(rows, out)
        kept = False
        for position in absent:
            row = int(rows[position])
            pixels = self._decode(row)
            out[position] = pixels
            kept |= self._keep(row, pixels)
        if kept and self._cache is not None:
            self._cache.flush()
        return out

    def _decode(self, row: int) -> NDArray[np.uint8]:
        image = self._images[row]
        try:
            content = catalogued(self._root, image, self._open_row, self._bounds.max_bytes)
            return road.read(content, self.spec, max_pixels=self._bounds.max_pixels)
        except ImageError as error:
            raise ImageError(error.reason, f"{image.path}: {error.detail}") from error
        except (OSError, TellapartError) as error:
            raise ImageError("unreadable", f"{image.path}: {error}") from error

    def _keep(self, row: int, pixels: NDArray[np.uint8]) -> bool:
        digest = self._images[row].digest
        return bool(digest) and self._cache is not None and self._cache.put(digest, pixels)


@dataclass(frozen=True)
class Share:
    """What one of several processes makes of a batch: its part of equal ones, in the order of the processes; or, of a
    batch that does not divide by the devices of all, the whole, as each device then computes it.

    >>> Share(rank=1, world=2, devices=4).of(8), Share(rank=1, world=2, devices=4).of(6)
    (slice(4, 8, None), slice(0, 6, None))
    """

    rank: int = 0
    world: int = 1
    devices: int = 1

    def of(self, images: int) -> slice:
        """Of a batch of so many images."""
        if images % self.devices:
            return slice(0, images)
        part = images // self.world
        return slice(self.rank * part, (self.rank + 1) * part)


class Rows(Protocol):
    """What Batches takes rows from: Images, or features computed from them."""

    def __len__(self) -> int: ...

    def take(self, rows: NDArray[np.intp]) -> NDArray[Any]: ...


@dataclass(frozen=True, eq=False)
class Batches:
    """The batches of every epoch, numbered from 0.

    images: uint8 (n, h, w, c) by row, or, without augmentation, any other rows. labels: float32 (n, 1) or (n, k), from
    `labels_of`. steps: batches per epoch; None: each image once, with a short last batch. With steps, epochs are
    segments of an endless sequence of passes over the images, so no image repeats before all others were used, and no
    augmentation repeats. share: the part of each batch that this process makes.
    """

    images: Rows
    labels: NDArray[np.float32]
    batch_size: int
    shuffle: bool = False
    augment: AugmentConfig | None = None
    seed: int = 0
    steps: int | None = None
    share: Share = Share()

    def __post_init__(self) -> None:
        if not len(self.images) or len(self.images) != len(self.labels):
            raise ConfigError(f"Given {len(self.images)} images and {len(self.labels)} labels; expected one each.")
        if self.batch_size < 1 or (self.steps is not None and self.steps < 1):
            raise ConfigError(f"batch_size and steps are at least 1; given {self.batch_size} and {self.steps}.")

    def __len__(self) -> int:
        """Number of batches per epoch."""
        return self.steps or -(-len(self.images) // self.batch_size)

    def batch(self, index: int, epoch: int = 0) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """This process's share: images (n, height, width, channels) and their labels (n, 1) or (n, k). Raises
        IndexError, ImageError."""
        rows, passes = (each[self.share.of(self.size(index))] for each in self.rows(index, epoch))
        pixels = self.images.take(rows)
        if self.augment is not None and self.augment.active:
            drawn = augmenting.draw(self.augment, pixels.shape[1:], self.seed, passes, rows)
            augmenting.apply(pixels, drawn, self.augment)
        return pixels, self.labels[rows]

    def epoch(
        self, epoch: int = 0, *, workers: int = 1, ahead: int = 4, then: Callable[..., Any] = lambda batch, _: batch
    ) -> Generator[Any, None, None]:
        """The batches of an epoch in order, made in threads up to `ahead` before their use. Closing it early stops the
        threads.

        then: a function that the threads apply to each batch, and to the number of images in the shares of all.
        """

        def made(index: int) -> Any:
            return then(self.batch(index, epoch), self.size(index))

        return in_order(made, range(len(self)), workers=workers, ahead=ahead)

    def size(self, index: int) -> int:
        """Images of a batch, in the shares of all processes."""
        if self.steps is not None:
            return self.batch_size
        return min(self.batch_size, len(self.images) - index * self.batch_size)

    def rows(self, index: int, epoch: int = 0) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
        """The images of a batch, (n,), and the pass over all images that each belongs to, (n,)."""
        if not 0 <= index < len(self):
            raise IndexError(f"Given batch {index}; an epoch has {len(self)}.")
        n = len(self.images)
        start = index * self.batch_size
        if self.steps is None:
            places = epoch * n + np.arange(start, min(start + self.batch_size, n))
        else:
            places = epoch * self.steps * self.batch_size + start + np.arange(self.batch_size)
        passes, rows = np.divmod(places, n)
        if self.shuffle:
            for number in np.unique(passes):
                chosen = passes == number
                rows[chosen] = _order(self.seed, int(number), n)[rows[chosen]]
        return rows, passes


def labels_of(task: Task, class_indices: NDArray[np.int64]) -> NDArray[np.float32]:
    """Class positions (n,) as the loss requires them: binary (n, 1) of 0 and 1; multiclass one-hot (n, classes); of
    several labels, (n, classes) of 0 and 1, as they are.

    >>> labels_of(Task(("a", "b", "c")), np.array([2, 0])).tolist()
    [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]
    """
    if task.several:
        return class_indices.astype(np.float32)
    if task.kind == "binary":
        return class_indices.astype(np.float32)[:, None]
    return np.eye(len(task.classes), dtype=np.float32)[class_indices]


@lru_cache(maxsize=8)
def _order(seed: int, number: int, n: int) -> NDArray[np.intp]:
    """The order of pass `number` over n images."""
    order = np.random.default_rng([seed, _ORDER, number]).permutation(n)
    order.flags.writeable = False
    return order
