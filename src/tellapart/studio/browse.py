"""A catalog, what its run said, and its doubts -> an index of images to filter, sort and page through.

In memory, as arrays: a page asks for the rows that it shows, and never for all.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data.catalog import SPLITS, Catalog
from tellapart.data.doubts import KINDS, Doubt
from tellapart.errors import ConfigError, unknown
from tellapart.files import as_cell
from tellapart.runs.predictions import Predictions

MOST = 500
"""Rows of one answer."""

SORTS = ("name", "confidence", "loss", "distance", "size")
VERDICTS = ("sure", "unsure", "unlike")
COLUMNS = (
    "path",
    "label",
    "split",
    "answer",
    "probability",
    "loss",
    "verdict",
    "distance",
    "width",
    "height",
    "doubts",
)


_LASSO = re.compile(r"-?\d{1,5},-?\d{1,5}( -?\d{1,5},-?\d{1,5}){2,}")
_LONGEST = 4000

ON_MAP = np.dtype([("x", "<u2"), ("y", "<u2"), ("truth", "<u2"), ("split", "u1"), ("right", "u1")])
"""An image on the map: its place in 0..65,534, or NOWHERE; the number of its class, 65,535 for none; that of its split,
255 for none; 0 wrong, 1 right, 2 not answered."""
NOWHERE = 65535


@dataclass(frozen=True)
class Query:
    """Which images, and in which order. Empty: all. right: `yes` or `no`. doubt: a kind of doubts.KINDS. text: part of
    a path, in any case. lasso: corners of a polygon on the map, "x,y x,y ..." in thousandths. sort: of SORTS, with a
    `-` before it the largest first; images without a value come last."""

    split: str = ""
    truth: str = ""
    answer: str = ""
    right: str = ""
    verdict: str = ""
    doubt: str = ""
    text: str = ""
    lasso: str = ""
    sort: str = "name"

    @classmethod
    def of(cls, given: Mapping[str, str]) -> Query:
        """From the parameters of an address; others are passed over. Raises ConfigError for an unknown value."""
        made = cls(**{name: given[name] for name in cls.__dataclass_fields__ if given.get(name)})
        known = {"split": SPLITS, "right": ("yes", "no"), "verdict": VERDICTS, "doubt": tuple(KINDS)}
        for name, values in known.items():
            if (value := getattr(made, name)) and value not in values:
                raise ConfigError(unknown(name, value[:100], values))
        if made.sort.removeprefix("-") not in SORTS:
            raise ConfigError(unknown("sort", made.sort[:100], SORTS))
        made.corners()
        return made

    def corners(self) -> NDArray[np.float64]:
        """Of the lasso, (n, 2) in 0..1. Raises ConfigError."""
        if not self.lasso:
            return np.empty((0, 2))
        if not _LASSO.fullmatch(self.lasso) or len(self.lasso) > _LONGEST:
            raise ConfigError('`lasso` must be corners such as "100,100 900,100 500,900".')
        return np.array([pair.split(",") for pair in self.lasso.split()], np.float64) / 1000


class Index:
    """The images of a catalog by their position."""

    def __init__(self, catalog: Catalog, predictions: Predictions | None) -> None:
        self.catalog = catalog
        self.classes = catalog.task.classes
        images = catalog.images
        count = len(images)
        self.places = {image.path: place for place, image in enumerate(images)}
        classes = {name: place for place, name in enumerate(self.classes)}
        self._split = np.array([image.split for image in images])
        self._truth = np.array([classes.get(image.label, -1) for image in images], np.int64)
        self._names = [image.path.lower() for image in images]
        self._values = {
            "size": np.array([image.width * image.height for image in images], np.float64),
            **{name: np.full(count, np.nan) for name in ("confidence", "loss", "distance")},
        }
        self._answer = np.full(count, -1, np.int64)
        self._verdict = np.full(count, "", "U8")
        self._plane: NDArray[np.float64] | None = None
        self.axes = ""
        """What the axes of the map are; empty before it is spread."""
        self._said: NDArray[np.float64] | None = None
        self._row = np.full(count, -1, np.int64)  # of each image in it
        if predictions is not None:
            self._take(predictions)

    def _take(self, said: Predictions) -> None:
        rows = np.array([row for row, path in enumerate(said.paths) if path in self.places], np.int64)
        at = np.array([self.places[said.paths[row]] for row in rows], np.int64)
        if not len(rows):
            return
        self._answer[at], self._values["confidence"][at] = said.named[rows], said.confidence[rows]
        given = said.probabilities[rows, said.truth[rows]]
        self._values["loss"][at] = -np.log(np.maximum(given, 1e-7))
        if said.distances is not None:
            self._values["distance"][at] = said.distances[rows]
        if said.verdicts:
            self._verdict[at] = np.array(said.verdicts)[rows]
        self._said, self._row[at] = said.probabilities, rows

    def spread(self, plane: Mapping[str, tuple[float, float]], axes: str) -> None:
        """Where images lie on the map, 0..1, by path, and what its axes are."""
        found = np.full((len(self._names), 2), np.nan)
        for path, place in plane.items():
            if path in self.places:
                found[self.places[path]] = place
        self._plane, self.axes = found, axes

    def map(self) -> bytes:
        """Each image as ON_MAP has it, in order; empty before it is spread."""
        if self._plane is None:
            return b""
        found = np.zeros(len(self._names), ON_MAP)
        there = ~np.isnan(self._plane[:, 0])
        for side, name in enumerate("xy"):
            found[name] = NOWHERE
            found[name][there] = np.round(self._plane[there, side] * (NOWHERE - 1))
        found["truth"] = np.where(self._truth < 0, NOWHERE, self._truth)
        found["split"] = 255
        for number, split in enumerate(SPLITS):
            found["split"][self._split == split] = number
        found["right"] = np.where(self._answer < 0, 2, self._answer == self._truth)
        return found.tobytes()

    @property
    def answered(self) -> bool:
        """Whether a run said something of any image."""
        return self._said is not None

    def find(self, query: Query, doubts: Iterable[Doubt] = ()) -> NDArray[np.intp]:
        """The positions of the images, in the order that is asked for."""
        kept = np.ones(len(self._names), np.bool_)
        if query.split:
            kept &= self._split == query.split
        for name, column in ((query.truth, self._truth), (query.answer, self._answer)):
            if name:
                kept &= column == (self.classes.index(name) if name in self.classes else -2)
        if query.right:
            kept &= (self._answer >= 0) & ((self._answer == self._truth) == (query.right == "yes"))
        if query.verdict:
            kept &= self._verdict == query.verdict
        if query.doubt:
            doubted = [self.places[path] for each in doubts if each.kind == query.doubt for path in each.paths]
            kept &= np.isin(np.arange(len(kept)), doubted)
        if query.lasso:
            kept &= inside(self._plane, query.corners()) if self._plane is not None else False
        found = np.flatnonzero(kept)
        if text := query.text.lower():
            found = np.array([place for place in found.tolist() if text in self._names[place]], np.intp)
        key = query.sort.removeprefix("-")
        if key == "name":
            return found[::-1] if query.sort.startswith("-") else found
        values = self._values[key][found]
        return found[np.argsort(-values if query.sort.startswith("-") else values, kind="stable")]  # nan comes last

    def named(self, place: int) -> int:
        """The number of the class that the run said, or where it said nothing of the label."""
        return int(self._answer[place] if self._answer[place] >= 0 else self._truth[place])

    def row(self, place: int) -> dict[str, Any]:
        """What a page shows of an image; None where nothing is known."""
        image = self.catalog.images[place]
        answer = int(self._answer[place])
        return {
            "id": place,
            "path": image.path,
            "label": image.label,
            "split": image.split,
            "width": image.width,
            "height": image.height,
            "digest": image.digest[:8],
            "answer": self.classes[answer] if answer >= 0 else None,
            "verdict": str(self._verdict[place]) or None,
            **{name: _number(self._values[name][place]) for name in ("confidence", "loss", "distance")},
        }

    def probabilities(self, place: int, most: int = 9) -> list[tuple[str, float]]:
        """What the run said of an image: classes with their probabilities, the likeliest first; empty where it said
        nothing."""
        if self._said is None or self._row[place] < 0:
            return []
        values = self._said[self._row[place]]
        return [(self.classes[c], float(values[c])) for c in np.argsort(-values, kind="stable")[:most].tolist()]

    def confusion(self, query: Query) -> list[list[int]]:
        """Images of the split of the query, or all, by truth and by answer: (classes, classes)."""
        rows = self.find(Query(split=query.split))
        rows = rows[(self._answer[rows] >= 0) & (self._truth[rows] >= 0)]
        table = np.zeros((len(self.classes), len(self.classes)), np.int64)
        np.add.at(table, (self._truth[rows], self._answer[rows]), 1)
        return [[int(cell) for cell in row] for row in table]

    def confused(self, query: Query, name: str = "", most: int = MOST) -> tuple[int, list[dict[str, Any]]]:
        """Pairs of classes that are taken for each other, the most confused first: how many there are, and the first
        `most`, each with its truth and answer, how many images, and of how many of that truth. Of the split of the
        query, or all. name: part of the name of either class, in any case."""
        rows = self.find(Query(split=query.split))
        rows = rows[(self._answer[rows] >= 0) & (self._truth[rows] >= 0)]
        of_truth = np.bincount(self._truth[rows], minlength=len(self.classes))
        wrong = rows[self._answer[rows] != self._truth[rows]]
        pairs, counts = np.unique(self._truth[wrong] * len(self.classes) + self._answer[wrong], return_counts=True)
        truth, answer = np.divmod(pairs, len(self.classes))
        if name:
            named = np.array([name.lower() in one.lower() for one in self.classes])
            kept = named[truth] | named[answer]
            truth, answer, counts = truth[kept], answer[kept], counts[kept]
        order = np.lexsort((answer, truth, -counts / of_truth[truth], -counts))
        return len(order), [
            {
                "truth": self.classes[truth[place]],
                "answer": self.classes[answer[place]],
                "count": int(counts[place]),
                "of": int(of_truth[truth[place]]),
            }
            for place in order[:most].tolist()
        ]

    def table(self, query: Query, doubts: Iterable[Doubt]) -> str:
        """The images as csv, all of them."""
        doubts = tuple(doubts)
        kinds: dict[str, set[str]] = {}
        for doubt in doubts:
            for path in doubt.paths:
                kinds.setdefault(path, set()).add(doubt.kind)
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(COLUMNS)
        for place in self.find(query, doubts).tolist():
            row = self.row(place)
            row |= {"probability": row["confidence"], "doubts": " ".join(sorted(kinds.get(row["path"], ())))}
            writer.writerow([as_cell("" if row[name] is None else str(row[name])) for name in COLUMNS])
        return text.getvalue()


def inside(points: NDArray[np.float64], corners: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points (n, 2) a polygon (m, 2) holds, by the parity of the edges to the right of each; nan: none.

    >>> inside(np.array([[0.5, 0.5], [2, 0.5], [np.nan, 0.5]]), np.array([[0, 0], [1, 0], [1, 1], [0, 1]]))
    array([ True, False, False])
    """
    x, y = points.T
    found = np.zeros(len(points), np.bool_)
    for (ax, ay), (bx, by) in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        if ay != by:
            crosses = (ay > y) != (by > y)
            found ^= crosses & (x < (bx - ax) * (y - ay) / (by - ay) + ax)
    return found


def _number(value: float) -> float | None:
    return round(float(value), 6) if np.isfinite(value) else None
