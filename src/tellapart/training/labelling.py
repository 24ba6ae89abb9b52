"""Images without labels -> the labels that a person gives, one after the other, while a head learns from them.

In: a Pool, whose images come meanwhile, and Decisions, the file to which each label is appended. Out: what to label
next, what is obvious, and how accurate the head is. All of it follows from the two, so that a studio that was killed
goes on where it was.
"""

from __future__ import annotations

import threading
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tellapart.data.corrections import Correction
from tellapart.data.decisions import Decision, Decisions
from tellapart.data.neighbours import nearest
from tellapart.errors import ConfigError, unknown
from tellapart.training.learner import Assessment, Head, assess, audited, fit_head
from tellapart.training.suggest import TYPICAL, obvious, typical, uncertain
from tellapart.training.unlabelled import Pool, Seen

HOW = ("random", "typical", "uncertain", "obvious", "chosen")
"""Why an image was labelled: it was drawn at random, is typical of many, the head was unsure, or sure, of it, or a
person chose it."""

BATCH = 5
"""Images that are chosen together."""

SURE = 0.95
"""Probability from which an image counts as obvious."""

LONGEST = 100
"""Characters of a class name."""

_ENOUGH = 5  # labels of each class, before images are called obvious
_MOST = 9


@dataclass(frozen=True)
class Suggestion:
    """An image to label. how: of HOW. likely: classes with probabilities, the likeliest first; empty as long as fewer
    than two classes have a label."""

    path: str
    how: str
    likely: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Obvious:
    """Images that look like one class, for a person to accept or cross out."""

    label: str
    paths: tuple[str, ...]


@dataclass(frozen=True)
class _State:
    """What follows from the labels and images of one moment. rows: what was decided, in order, by path; places: of the
    images with a label and coordinates, in order of their labels; labels: numbers of their classes. open: (n,) whether
    an image has coordinates and was not decided; said: (n, classes) probabilities, None before two classes have a
    label."""

    version: int
    seen: Seen
    classes: tuple[str, ...]
    rows: Mapping[str, Correction]
    places: NDArray[np.intp]
    labels: NDArray[np.int64]
    open: NDArray[np.bool_]
    head: Head | None
    said: NDArray[np.float32] | None


class Labels(Mapping[str, str]):
    """Path -> label, of the images that have one. Any thread may call its methods; those that write raise OutdatedError
    where `version` is given and is not the newest of `decisions`.

    >>> labels = ta.labels("photos/", file="mine.csv")
    >>> labels.give({labels.suggest()[0].path: "cat"})
    >>> len(labels), labels.classes
    (1, ('cat',))
    """

    def __init__(self, pool: Pool, decisions: Decisions, classes: Sequence[str] = ()) -> None:
        self.pool, self.decisions = pool, decisions
        self._named = tuple(dict.fromkeys(map(class_name, classes)))
        self._lock = threading.RLock()
        self._last: _State | None = None
        self._asked: list[tuple[int, str]] = []
        self._decided: tuple[tuple[Decision, ...], dict[str, Correction]] = ((), {})

    def __getitem__(self, path: str) -> str:
        row = self.decided[path]
        if row.action != "relabel":
            raise KeyError(path)
        return row.label

    def __iter__(self) -> Iterator[str]:
        return (path for path, row in self.decided.items() if row.action == "relabel")

    def __len__(self) -> int:
        return sum(row.action == "relabel" for row in self.decided.values())

    @property
    def decided(self) -> Mapping[str, Correction]:
        """The last word on each image of the folder: relabel, or drop for one that was skipped; in order."""
        made = self.decisions.made
        before, rows = self._decided
        if before != made:
            rows = {}
            for row in (row for decision in made for row in decision.rows):
                if row.path in self.pool.places and row.action in ("relabel", "drop"):
                    rows.pop(row.path, None)
                    rows[row.path] = row
            self._decided = (made, rows)
        return rows

    @property
    def classes(self) -> tuple[str, ...]:
        """Those that were named, then those that came with a label."""
        labels = (row.label for row in self.decided.values() if row.action == "relabel")
        return tuple(dict.fromkeys([*self._named, *labels]))

    def give(self, labels: Mapping[str, str], how: str = "chosen", version: int | None = None) -> None:
        """Write labels down, path -> class, undone together; they are on the disk when this returns. how: of HOW. A
        class that is new is added. Raises ConfigError for an unknown image or no name of a class."""
        if how not in HOW:
            raise ConfigError(unknown("reason", how, HOW))
        named = {self._known(path): class_name(label) for path, label in labels.items()}
        self._write([Correction(path, "relabel", label, reason=how) for path, label in named.items()], version)

    def skip(self, paths: Sequence[str], how: str = "chosen", version: int | None = None) -> None:
        """Write down that these get no label, and are not suggested again."""
        self._write([Correction(self._known(path), "drop", reason=f"skipped, {how}") for path in paths], version)

    def undo(self, version: int | None = None) -> tuple[str, ...]:
        """Take back what was written last, of what stands, and suggest it again; the images that it was about."""
        undone = self.decisions.undo(self.decisions.version if version is None else version)
        rows = [row for decision in undone for row in decision.rows if row.path in self.pool.places]
        with self._lock:
            again = [(self.pool.places[row.path], row.reason.removeprefix("skipped, ")) for row in rows]
            self._asked = [each for each in again if each[1] != "obvious"] + self._asked
        return tuple(row.path for row in rows)

    def ask(self, paths: Sequence[str]) -> None:
        """Suggest these first."""
        with self._lock:
            self._asked = [*((self.pool.places[self._known(path)], "chosen") for path in paths), *self._asked]

    def suggest(self, count: int = BATCH) -> tuple[Suggestion, ...]:
        """What to label next, of the images that have come so far; fewer where no more are left."""
        with self._lock:
            state = self._state()
            self._asked = [each for each in dict(self._asked).items() if self.pool.paths[each[0]] not in state.rows]
            while len(self._asked) < count and (found := self._more(state)):
                self._asked += found
            wanted = self._asked[:count]
        return tuple(Suggestion(self.pool.paths[place], how, self._likely(state, place)) for place, how in wanted)

    def _more(self, state: _State) -> list[tuple[int, str]]:
        """A batch of images that are neither decided nor asked for."""
        free = np.setdiff1d(np.flatnonzero(state.open), [place for place, _ in self._asked])
        if not len(free):
            return []
        keyed = _keyed(state.rows) + len(self._asked)
        drawn = [int(place) for place in free if place < audited(keyed)][:1]
        free = np.setdiff1d(free, drawn)
        wanted, values, seed = BATCH - len(drawn), state.seen.coordinates, keyed
        known = np.array([place for place, _ in self._asked] + state.places.tolist(), np.intp)
        if state.said is None or len(state.places) < TYPICAL * len(state.classes):
            found = [(place, "typical") for place in typical(values, known, free, wanted, seed)] if len(free) else []
        else:
            found = [(place, "uncertain") for place in uncertain(values, state.said, free, wanted, seed)]
        return [*((place, "random") for place in drawn), *found]

    def obvious(self, count: int = 24) -> Obvious | None:
        """Up to `count` images that the head is sure of, of one class; None where there are none, or while a class has
        fewer than five labels."""
        state = self._state()
        if state.said is None or np.bincount(state.labels, minlength=len(state.classes)).min() < _ENOUGH:
            return None
        # Those that stand for all are drawn, not accepted.
        first = audited(_keyed(state.rows) + BATCH)
        free = first + np.flatnonzero(state.open[first:])
        label, found = obvious(state.said, free, SURE, count) if len(free) else (0, [])
        return Obvious(state.classes[label], tuple(self.pool.paths[place] for place in found)) if found else None

    def assess(self) -> Assessment:
        """How accurate the head is on the images of the folder, and whether more labels pay: it takes some seconds for
        thousands of labels."""
        state = self._state()
        drawn = state.places < self._drawn(state)
        sample = state.seen.coordinates[np.flatnonzero(state.seen.ready)[:2000]]
        return assess(state.seen.coordinates[state.places], state.labels, drawn, sample)

    def _drawn(self, state: _State) -> int:
        """How many of the first images stand for all: those that were asked for at random, or decided before it came to
        that. One that cannot be read is passed over."""
        first = audited(_keyed(state.rows) - 1)
        for place in range(min(first, len(self.pool))):
            broken = place in self.pool.records and not state.seen.ready[place]
            if not broken and self.pool.paths[place] not in state.rows:
                return place
        return first

    def likely(self, path: str) -> tuple[tuple[str, float], ...]:
        """Classes with probabilities, the likeliest first."""
        return self._likely(self._state(), self.pool.places[self._known(path)])

    def neighbours(self, path: str, count: int = 5) -> list[tuple[str, float]]:
        """The labelled images most like one: paths with the cosine of their coordinates, the nearest first."""
        state = self._state()
        found = nearest(state.seen.coordinates, self.pool.places[self._known(path)], state.places, count)
        return [(self.pool.paths[place], similarity) for place, similarity in found]

    def _likely(self, state: _State, place: int) -> tuple[tuple[str, float], ...]:
        if state.said is None or not state.seen.ready[place]:
            return ()
        order = np.argsort(-state.said[place], kind="stable")[:_MOST].tolist()
        return tuple((state.classes[c], float(state.said[place, c])) for c in order)

    def _state(self) -> _State:
        with self._lock:
            last, version, seen = self._last, self.decisions.version, self.pool.seen()
            if last is not None and last.version == version and last.seen.count == seen.count:
                return last
            rows, classes = self.decided, self.classes
            number = {name: place for place, name in enumerate(classes)}
            pairs = [(self.pool.places[p], number[row.label]) for p, row in rows.items() if row.action == "relabel"]
            pairs = [pair for pair in pairs if seen.ready[pair[0]]]
            places, labels = (np.array([pair[side] for pair in pairs], np.int64) for side in (0, 1))
            warm = last is not None and last.seen.generation == seen.generation and last.classes == classes
            head = fit_head(seen.coordinates[places], labels, last.head if last is not None and warm else None)
            said = None if head is None else head.probabilities(seen.coordinates, len(classes))
            open_ = seen.ready.copy()
            open_[[self.pool.places[path] for path in rows]] = False
            self._last = _State(version, seen, classes, rows, places.astype(np.intp), labels, open_, head, said)
            return self._last

    def _write(self, rows: Sequence[Correction], version: int | None) -> None:
        self.decisions.append([("", rows)] if rows else [], self.decisions.version if version is None else version)

    def _known(self, path: str) -> str:
        if path not in self.pool.places:
            raise ConfigError(f"{path} is not an image of {self.pool.root}.")
        return path


def _keyed(rows: Mapping[str, Correction]) -> int:
    """How many were decided one by one."""
    return sum(row.reason != "obvious" for row in rows.values())


def class_name(text: str) -> str:
    """A name as it is kept. Raises ConfigError for none, and for one that no class can have.

    >>> class_name(" sick ")
    'sick'
    """
    name = unicodedata.normalize("NFC", text.strip())
    if not name or len(name) > LONGEST or not name.isprintable():
        raise ConfigError(f"{text[:40]!r} cannot be the name of a class: give 1 to {LONGEST} characters of one line.")
    return name
