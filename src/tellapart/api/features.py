"""Embeddings of images: `features`, and what is done with them: neighbours, similar images, files for other tools."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from tellapart.api.datasets import read
from tellapart.config import DataConfig
from tellapart.data.neighbours import COUNT, Neighbours, directions_of, neighbours
from tellapart.data.sources import open_row
from tellapart.errors import ConfigError, ImageError, SourceError, require_extra
from tellapart.files import replacing
from tellapart.inference.inputs import Held
from tellapart.inference.python_inputs import images_of
from tellapart.progress import BY_HAND, Phase, Progress
from tellapart.training.embedding import WIDTH, embed

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True, eq=False)
class Features:
    """Embeddings of images by the bundled backbone, which was trained on ImageNet and not on them.

    paths, labels, splits: of each image; labels and splits are empty if they are unknown. values: float32 (n, 1280).
    errors: (path, reason) of the images that were left out, since they cannot be read.

    >>> found = ta.features("photos/")
    >>> len(found), found.values.shape[1], found.labels[0]
    (90, 1280, 'Abyssinian')
    """

    paths: tuple[str, ...]
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    values: NDArray[np.float32]
    errors: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        return f"<Features of {len(self):,} images, {self.values.shape[1]} numbers each>"

    def neighbours(self, count: int = 5) -> Neighbours:
        """The most similar other images of each: positions (n, count) and cosines, nearest first; at most 20.

        >>> ta.features("photos/").neighbours(3).places.shape
        (90, 3)
        """
        if not 1 <= count <= COUNT:
            raise ConfigError(f"Neighbours are counted from 1 to {COUNT}; given {count}.")
        found = neighbours(self.values)
        return replace(found, places=found.places[:, :count], similarity=found.similarity[:, :count])

    def similar(self, images: Any, count: int = 5) -> list[list[tuple[str, float]]]:
        """Of each given image (as in `tellapart.predict`), the most similar of these: paths and cosines, nearest first.
        Raises ImageError for one that cannot be read.

        >>> found = ta.features("photos/")
        >>> found.similar(f"photos/{found.paths[0]}")[0][0][0] == found.paths[0]
        True
        """
        asked = required(embed(images_of(images)))
        cosines = directions_of(asked) @ directions_of(self.values).T
        order = np.argsort(-cosines, axis=1, kind="stable")[:, :count]
        return [[(self.paths[at], float(row[at])) for at in places] for row, places in zip(cosines, order, strict=True)]

    def to_frame(self) -> pandas.DataFrame:
        """A row each: path, label, split, and the columns f0, f1 ... Raises MissingExtraError without pandas."""
        from tellapart.dataframes import frame

        rows = zip(self.paths, self.labels, self.splits, self.values.tolist(), strict=True)
        names = [f"f{number}" for number in range(self.values.shape[1])]
        return frame(
            ([path, label, split, *row] for path, label, split, row in rows), ["path", "label", "split", *names]
        )

    def save(self, path: str | os.PathLike[str], *, neighbours: int = 0) -> Path:
        """Write a .npz file (arrays path, label, split, features), or a .parquet file (features as a list column; extra
        `tables`). neighbours: also the positions and cosines of so many neighbours of each.

        >>> ta.features("photos/").save("photos.npz").name
        'photos.npz'
        """
        place = Path(path)
        require_suffix(place)
        columns: dict[str, NDArray[Any]] = {
            "path": np.array(self.paths),
            "label": np.array(self.labels),
            "split": np.array(self.splits),
            "features": self.values,
        }
        if neighbours:
            found = self.neighbours(neighbours)
            columns |= {"neighbours": found.places, "similarity": found.similarity}
        with replacing(place) as draft:
            if place.suffix == ".npz":
                with draft.open("wb") as file:
                    np.savez(file, **cast("dict[str, Any]", columns))
            else:
                _write_parquet(draft, columns)
        return place


def features(
    data: Any,
    *,
    labelled: bool = True,
    config: Any = None,
    progress: Progress = BY_HAND,
    **options: Any,
) -> Features:
    """Embeddings of images: numbers in which similar images are near each other, for search, clustering, plots and
    other classifiers. They need no Keras, and are cached.

    data, options: as in `read`; with labelled=False images of any kind, as in `predict`. Images that cannot be read are
    left out, and stand in `errors`. Raises SourceError if none can be read.

    >>> ta.features("photos/Bengal", labelled=False)
    <Features of 30 images, 1280 numbers each>
    """
    bounds = DataConfig()
    if labelled:
        catalog = read(data, config=config, progress=progress, **options)
        records = [image for image in catalog.images if not image.error]
        known = {image.path: (image.label, image.split) for image in records}
        named: Any = ((image.path, _opened(open_row(catalog.root, image.path))) for image in records)
        broken = [(image.path, image.error) for image in catalog.images if image.error]
        total = len(records)
    else:
        if options or config is not None:
            raise ConfigError("Options of labelled images have no effect with labelled=False.")
        known, broken = {}, []
        named = list(images_of(data))
        total = len(named)
    paths, values = [], []
    for path, found in embed(named, bounds, lambda done: progress.update(Phase.FEATURES, done, total)):
        if isinstance(found, np.ndarray):
            paths.append(path)
            values.append(found)
        else:
            broken.append((path, str(found)))
    if not paths:
        raise SourceError(
            f"None of the {len(broken):,} images can be read. The first: {broken[0][0]} ({broken[0][1]})."
        )
    labels, splits = zip(*(known.get(path, ("", "")) for path in paths), strict=True)
    return Features(tuple(paths), labels, splits, np.stack(values), tuple(broken))


def require_suffix(place: Path) -> None:
    """Raises ConfigError for a file that features are not saved in; MissingExtraError without pyarrow."""
    if place.suffix not in (".npz", ".parquet"):
        raise ConfigError(f"Features are saved as .npz or .parquet; given {place}.")
    if place.suffix == ".parquet":
        require_extra("A parquet file", "tables", "pyarrow")


def _opened(row: Any) -> Held:
    """What `open_row` gives, as pixels are read from it."""
    held: Held = row
    return held


def required(found: Iterable[tuple[str, NDArray[np.float32] | ImageError]]) -> NDArray[np.float32]:
    """What `embed` gives, as one array (n, WIDTH). Raises ImageError for the first image without an embedding."""
    rows = []
    for name, values in found:
        if isinstance(values, ImageError):
            raise ImageError(values.reason, f"{name}: {values.detail}")
        rows.append(values)
    return np.stack(rows) if rows else np.empty((0, WIDTH), np.float32)


def _write_parquet(place: Path, columns: dict[str, NDArray[Any]]) -> None:
    import pyarrow
    import pyarrow.parquet

    arrays = {
        name: pyarrow.array(list(values) if values.ndim > 1 else values.tolist()) for name, values in columns.items()
    }
    pyarrow.parquet.write_table(pyarrow.table(arrays), str(place))
