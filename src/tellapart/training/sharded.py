"""Features of a split in shards, which are somewhere else and read as often as they are needed, a few at a time.

Who computes and keeps them (cluster.features) is a FeatureSource; where there is one, `frozen` asks it instead of
computing. Few features are held as ever; of many, the head reads the shards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from tellapart.data.batches import Images
from tellapart.models.features import FeatureSet
from tellapart.parallel import cores, in_order
from tellapart.training.feature_rows import let_go, room
from tellapart.training.features import Views

Output = TypeVar("Output")


class Shard(Protocol):
    """rows: (n,), of the split, that it has the features of."""

    @property
    def rows(self) -> NDArray[np.intp]: ...

    def read(self, parts: Sequence[int]) -> NDArray[np.float16]:
        """(n, their widths together), in the order of `rows`. parts: numbers of the features' parts. Thread-safe."""


@dataclass(frozen=True)
class Sharded:
    """The features of a split: each of its rows is in one shard. widths: of the parts that features consist of."""

    shards: Sequence[Shard]
    widths: tuple[int, ...]

    def __len__(self) -> int:
        return sum(len(shard.rows) for shard in self.shards)

    @property
    def bytes(self) -> int:
        """That all of them would take."""
        return len(self) * sum(self.widths) * np.dtype(np.float16).itemsize

    def map(
        self, work: Callable[[NDArray[np.intp], NDArray[np.float16]], Output], columns: Sequence[slice] | None = None
    ) -> Iterator[Output]:
        """work(rows, their features) of each shard, in order, a core each. columns: whole parts; None: all of them."""
        parts = range(len(self.widths)) if columns is None else self._numbers(columns)
        given = in_order(
            lambda shard: work(shard.rows, shard.read(parts)), self.shards, workers=cores(), ahead=cores() + 1
        )
        yield from given

    def held(self) -> NDArray[np.float16]:
        """(n, width), as `feature_rows.room` holds them."""
        return self.of(np.arange(len(self)))

    def of(self, rows: NDArray[np.intp]) -> NDArray[np.float16]:
        """(n, width), of some rows, which are in rising order."""
        out = room(len(rows), sum(self.widths))

        def fill(there: NDArray[np.intp], features: NDArray[np.float16]) -> None:
            places = np.searchsorted(rows, there).clip(max=len(rows) - 1)
            wanted = rows[places] == there
            out[places[wanted]] = features[wanted]

        for _ in self.map(fill):
            let_go(out)
        return out

    def _numbers(self, columns: Sequence[slice]) -> list[int]:
        ends = np.cumsum(self.widths).tolist()
        known = {(end - width, end): number for number, (width, end) in enumerate(zip(self.widths, ends, strict=True))}
        return [known[place.start, place.stop] for place in columns]


@dataclass(frozen=True)
class Asked:
    """What computes features. key: of these features in any cache. backbone: its name; graph: the ONNX file of one that
    is not in the package. taken: its features; widths: of their parts."""

    key: str
    backbone: str
    taken: FeatureSet
    widths: tuple[int, ...]
    graph: Path | None = None


class FeatureSource(Protocol):
    """Gives the features of images, all plain views first, then the second ones ... tell: called now and then with how
    many of those that were missing are done, of how many, and the pace; what it raises ends the work."""

    def __call__(
        self, asked: Asked, images: Images, views: Views, tell: Callable[[int, int, str], None]
    ) -> Sharded: ...
