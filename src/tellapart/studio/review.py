"""Doubts about images, and the decisions about them: what every page needs that settles one after the other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tellapart.data.corrections import Correction
from tellapart.data.decisions import Decisions
from tellapart.data.doubts import KINDS, Doubt
from tellapart.errors import ConfigError, TellapartError, unknown
from tellapart.files import terminal_safe
from tellapart.progress import Progress
from tellapart.studio.browse import Index
from tellapart.studio.retrain import Trainer

if TYPE_CHECKING:
    from pathlib import Path

    from tellapart.api.doubts import Doubts
    from tellapart.runs.run import RunFolder
    from tellapart.studio.feedback import FeedbackSession

ACTIONS = ("keep", "drop", "relabel", "together", "proposal")


class Review:
    """Doubts, by key, about the images of an index. words: of the kinds of doubts, in their order. file: of the
    corrections that the next training takes."""

    words: Mapping[str, str] = KINDS

    def __init__(self, data: str, decisions: Decisions, trainer: Trainer, run: RunFolder | None) -> None:
        self.data, self.decisions, self.trainer, self.run = data, decisions, trainer, run
        self.index: Index | None = None
        self.found: Doubts | None = None
        self.feedback: FeedbackSession | None = None
        self.looking = Looking()
        self._by_key: dict[str, Doubt] = {}

    def refresh(self) -> None:
        """Take in what came since."""

    def of_map(self) -> dict[str, Any]:
        """What the axes of the map are, empty while there is none; whether another is being made; why there is none."""
        return {"axes": "", "making": False, "problem": ""}

    @property
    def file(self) -> Path:
        return self.decisions.path

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        return tuple(self._by_key.values())

    def doubt(self, key: str) -> Doubt:
        """Raises ConfigError for one that is not, or no longer, there."""
        try:
            return self._by_key[key]
        except KeyError:
            raise ConfigError("This doubt is no longer there. Load the page again.") from None

    def decide(self, keys: Sequence[str], action: str, version: int, label: str = "", paths: Sequence[str] = ()) -> int:
        """Write down one decision for each of these doubts, undone together; how many. label: of a relabel. paths: of
        the images of one doubt, those that it is about; none: those that are proposed. Without a doubt, any images.

        Raises ConfigError for an unknown doubt, action, class or path; OutdatedError.
        """
        if action not in ACTIONS:
            raise ConfigError(unknown("action", action, ACTIONS))
        if action == "relabel" and (self.index is None or label not in self.index.classes):
            raise ConfigError(unknown("class", label, () if self.index is None else self.index.classes))
        if keys:
            doubts = [(doubt.key, doubt) for doubt in map(self.doubt, dict.fromkeys(keys))]
        else:
            doubts = [("", Doubt("", tuple(paths), "Decided while browsing."))] if paths else []
        decided = [(key, self.rows_of(doubt, action, label, paths)) for key, doubt in doubts]
        decided = [(key, rows) for key, rows in decided if rows]
        self.decisions.append(decided, version)
        return len(decided)

    def rows_of(self, doubt: Doubt, action: str, label: str, paths: Sequence[str]) -> list[Correction]:
        """What an action makes of the images of a doubt. Raises ConfigError."""
        if foreign := [path for path in paths if path not in doubt.paths]:
            raise ConfigError(f"{foreign[0]} is not an image of this doubt.")
        if action == "keep":
            return [Correction(path, "keep", reason=doubt.reason) for path in doubt.paths]
        if action == "together":
            group = f"copies-{doubt.key}"
            return [Correction(path, "regroup", group=group, reason=doubt.reason) for path in doubt.paths]
        if action == "proposal":
            return list(doubt.proposed)
        if action == "drop":
            return [Correction(path, "drop", reason=doubt.reason) for path in paths or dropped_first(doubt)]
        return [
            Correction(path, "keep", reason=doubt.reason)
            if self.label_of(path) == label
            else Correction(path, "relabel", label=label, reason=doubt.reason)
            for path in paths or doubt.paths
        ]

    def label_of(self, path: str) -> str:
        assert self.index is not None
        return self.index.catalog.images[self.index.places[path]].label

    def settled(self) -> dict[str, str]:
        """What was decided of each doubt that is settled, in words, by key: by a decision of its own, or by one about
        its images elsewhere."""
        own = {decision.doubt: _said(decision.rows) for decision in self.decisions.made if decision.doubt}
        fates = {row.path: row for row in self.decisions.corrections if row.action in ("relabel", "drop")}
        found = {}
        for doubt in self.doubts:
            if doubt.key in own:
                found[doubt.key] = own[doubt.key]
            elif fates and (words := self._by_fate(doubt, fates)):
                found[doubt.key] = words
        return found

    def _by_fate(self, doubt: Doubt, fates: Mapping[str, Correction]) -> str:
        left = [path for path in doubt.paths if path not in fates or fates[path].action != "drop"]
        if len(left) < min(2, len(doubt.paths)):
            return "dropped"
        if doubt.kind == "suspect" and doubt.paths[0] in fates:
            return f"now {fates[doubt.paths[0]].label}"
        labels = {fates[path].label if path in fates else self.label_of(path) for path in left}
        return "now alike" if doubt.kind == "contradicting" and len(labels) == 1 else ""

    def counts(self) -> dict[str, Any]:
        """Of corrections: in all, by action, and those of test images, by which both runs are judged."""
        rows = [row for row in self.decisions.corrections if row.action != "keep"]
        places = {} if self.index is None else self.index.places
        test = 0
        for row in rows:
            if row.path in places and self.index is not None:
                test += self.index.catalog.images[places[row.path]].split == "test"
        return {"all": len(rows), "test": test, **Counter(row.action for row in rows)}

    def kinds(self, settled: Mapping[str, str]) -> list[dict[str, Any]]:
        """Of each kind that is there its words, how many doubts it has, and how many of them are open."""
        every = Counter(doubt.kind for doubt in self.doubts)
        closed = Counter(doubt.kind for doubt in self.doubts if doubt.key in settled)
        return [
            {"kind": kind, "words": words, "all": every[kind], "open": every[kind] - closed[kind]}
            for kind, words in self.words.items()
            if every[kind]
        ]


class StoppedError(Exception):
    """The studio ends."""


class Looking(Progress):
    """How far the search for doubts is. problem: why it went no further, in words."""

    def __init__(self) -> None:
        self.stage, self.done, self.total, self.over, self.problem = "", 0, 0, False, ""
        self._stopped = False

    def stop(self) -> None:
        """End the search at the next image."""
        self._stopped = True

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002 - Progress
        if self._stopped:
            raise StoppedError
        self.stage, self.done, self.total = str(stage), done, total

    @contextmanager
    def told(self) -> Iterator[None]:
        """Ends the search: when it is through, when it is stopped, or with its problem in words."""
        try:
            yield
        except StoppedError:
            pass
        except (TellapartError, OSError) as error:
            self.problem = terminal_safe(str(error))
        finally:
            self.over = True

    def to_dict(self) -> dict[str, Any]:
        """For the page."""
        words = ("stage", "done", "total", "over", "problem")
        return {name: getattr(self, name) for name in words}


def dropped_first(doubt: Doubt) -> list[str]:
    """The images that go where a person says drop and no more: those that are proposed, else all but the first."""
    proposed = [row.path for row in doubt.proposed if row.action == "drop"]
    return proposed or list(doubt.paths if len(doubt.paths) == 1 else doubt.paths[1:])


def _said(rows: Sequence[Correction]) -> str:
    done = {"keep": "kept", "drop": "dropped", "regroup": "kept together"}
    words = [f"now {row.label}" if row.action == "relabel" else done[row.action] for row in rows]
    counts = Counter(words)
    return ", ".join(
        word if len(rows) == 1 or count == len(rows) else f"{count} {word}" for word, count in counts.items()
    )
