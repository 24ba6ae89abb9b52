"""Catalog + rungs + a time budget -> LADDER/: a run folder for each rung, and ladder.json with the progress.

All rungs share one catalog, one split and one seed. They are trained in the order of their turn, not of the table: the
most reliable and cheapest first. Each gets a share of the remaining time; what it does not use goes to the next rungs.
A rung that runs out of time keeps its best epoch. A killed ladder continues where it was.

Where a rung is trained is up to a Runner: here, one after another, or on the machines of a cluster (cluster.rungs).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Protocol, Self

from tellapart.config import Config
from tellapart.data.catalog import Catalog
from tellapart.data.sources import open_row
from tellapart.errors import MissingExtraError
from tellapart.experiments.rungs import Rung, chosen
from tellapart.experiments.study import FEWEST_SECONDS, FINISHING_SECONDS, Outcome, Session, Study, Train
from tellapart.inference.evaluate_split import measure
from tellapart.inference.predictor import Predictor
from tellapart.models.backend import forget_networks
from tellapart.models.keras_needs import require_what_trains
from tellapart.progress import Progress
from tellapart.runs.history import HistoryRow, best_row
from tellapart.runs.run import RunFolder

MOST_VALIDATED = 2000
TIMED, WARMED = 20, 3


@dataclass
class State:
    """The state of one rung; ladder.json stores it by name.

    status: waiting, training, done, time up (its best epoch is kept), not reached (no epoch ended in time), failed.
    wall_seconds, processor_seconds: of all its sessions, user and system, including child processes. finishing_seconds:
    the wall time after training. milliseconds: from one image file to its prediction, median. file_bytes: of
    model.onnx. validation: the predicted class of each of the validation images that `validated` returns.
    """

    status: str = "waiting"
    wall_seconds: float = 0.0
    processor_seconds: float = 0.0
    finishing_seconds: float = 0.0
    milliseconds: float | None = None
    file_bytes: int | None = None
    validation: list[str] | None = None
    error: str = ""

    @property
    def judged(self) -> bool:
        """Whether there is a network with all its metrics."""
        return self.validation is not None


@dataclass
class LadderFolder(Study):
    """LADDER/ on disk. record: ladder.json without the rungs."""

    noun, by, file = "ladder", "ladder", "ladder.json"
    rungs: tuple[Rung, ...]
    states: dict[str, State]

    @classmethod
    def of(cls, path: Path, record: dict[str, Any]) -> Self:
        states = {name: State(**state) for name, state in record.pop("rungs").items()}
        return cls(path, record, chosen(states), states)

    def to_dict(self) -> dict[str, Any]:
        return {**self.record, "rungs": {name: asdict(state) for name, state in self.states.items()}}

    @property
    def trial_names(self) -> list[str]:
        return [rung.name for rung in self.rungs]

    @property
    def config(self) -> Config:
        """Seed, data and all other settings shared by the rungs."""
        return Config.from_dict(self.record["config"])

    def rung_config(self, rung: Rung) -> Config:
        return rung.config(self.config, self.record["image"], self.record["settings"])


def create_ladder(path: Path, rungs: Sequence[Rung], **record: Any) -> LadderFolder:
    """A new ladder. Raises RunError if the path exists already."""
    states = {rung.name: State() for rung in rungs}
    return LadderFolder(path, {"spent_seconds": 0.0, **record}, tuple(rungs), states).create()


@dataclass(frozen=True)
class Work:
    """A rung to train, and the most seconds of that. state: of the rung before."""

    rung: Rung
    seconds: float
    state: State


class Runner(Protocol):
    """Trains rungs. slots: how many at a time."""

    slots: int

    def start(self, work: Work) -> None: ...

    def next(self) -> tuple[str, State]:
        """The name of a rung that ended, once one has, and its state then."""


def climb(
    ladder: LadderFolder,
    catalog: Catalog,
    *,
    train: Train,
    progress: Progress,
    watch: Callable[[LadderFolder], None],
    runner: Callable[[Session], Runner] | None = None,
) -> None:
    """Train every unfinished rung in turn while there is time; the time left then goes to those that ran out of it.
    watch: called whenever a state changes. runner: None trains here.

    A rung that fails records the reason and does not stop the others.
    Raises KeyboardInterrupt for Ctrl-C, with everything kept.
    """
    with Session(ladder, progress, lambda: watch(ladder)) as session:
        chosen = _Here(ladder, catalog, train, session) if runner is None else runner(session)
        for finished in (("done",), ("done", "failed")):
            waiting = [rung for rung in ladder.rungs if ladder.states[rung.name].status not in finished]
            _take(ladder, sorted(waiting, key=lambda rung: rung.turn), chosen, session)
        if runner is not None:
            # Each was timed on another machine, beside others.
            for name, state in ladder.states.items():
                if state.judged:
                    state.milliseconds = _milliseconds(ladder.run(name), catalog)


def _take(ladder: LadderFolder, waiting: list[Rung], runner: Runner, session: Session) -> None:
    """Train these, as many at a time as there is room for."""
    flying: set[str] = set()
    try:
        while waiting or flying:
            while waiting and len(flying) < runner.slots:
                share = min(1.0, runner.slots * waiting[0].share / sum(rung.share for rung in waiting))
                if runner.slots >= len(waiting) + len(flying):
                    share = 1.0
                rung, seconds = waiting.pop(0), share * session.left - _finishing(ladder)
                if _begin(ladder, rung, seconds):
                    flying.add(rung.name)
                    runner.start(Work(rung, seconds, ladder.states[rung.name]))
            if flying:
                name, ladder.states[name] = runner.next()
                flying.remove(name)
                session.keep()
    except KeyboardInterrupt:
        for name in flying:
            ladder.states[name].status = "waiting"
        raise


def _begin(ladder: LadderFolder, rung: Rung, seconds: float) -> bool:
    """Whether there is something to do for a rung, and time for it."""
    state = ladder.states[rung.name]
    if not trained(ladder.run(rung.name)):
        try:
            require_what_trains(ladder.rung_config(rung))
        except MissingExtraError as error:  # more time would not help
            state.status, state.error = "failed", str(error)
            return False
        if seconds < FEWEST_SECONDS:
            state.status = "time up" if state.judged else "not reached"
            return False
    state.status = "training"
    return True


def _finishing(ladder: LadderFolder) -> float:
    """Seconds to reserve for finishing a run after training: what the slowest rung so far took."""
    known = [state.finishing_seconds for state in ladder.states.values() if state.finishing_seconds]
    return max(known, default=FINISHING_SECONDS)


class _Here:
    """The Runner of one process."""

    slots = 1

    def __init__(self, ladder: LadderFolder, catalog: Catalog, train: Train, session: Session) -> None:
        self._ladder, self._catalog, self._train, self._session = ladder, catalog, train, session
        self._works: list[Work] = []

    def start(self, work: Work) -> None:
        self._works.append(work)

    def next(self) -> tuple[str, State]:
        work, session = self._works.pop(), self._session
        name, state, run = work.rung.name, work.state, self._ladder.run(work.rung.name)
        with session.counting(state):
            session.line(f"rung {name}: {work.rung.adds}")
            outcome = None
            if not trained(run):
                forget_networks()  # networks of earlier rungs are in their files
                config, seconds = self._ladder.rung_config(work.rung), work.seconds
                outcome = session.attempt(name, lambda: self._train(self._catalog, config, run.path, seconds, session))
            settle(run, state, self._catalog, outcome)
            if state.judged:
                state.finishing_seconds = round(time.monotonic() - session.learned, 2)
        return name, state


def trained(run: RunFolder) -> bool:
    return run.run_file.exists() and run.status == "done"


def settle(run: RunFolder, state: State, catalog: Catalog, outcome: Outcome | None) -> None:
    """Record what became of a rung, and judge its network if it has one. outcome: None if it was trained before."""
    if outcome is not None and outcome.reason is None:
        state.status, state.error = ("failed", str(outcome.error)) if outcome.error else ("not reached", "")
        return
    _judge(run, state, catalog)
    state.status, state.error = ("done" if run.status == "done" else "time up"), ""


def validated(catalog: Catalog) -> Catalog:
    """The validation images that rungs are compared on: all, or MOST_VALIDATED spread evenly over the split."""
    held = catalog.split("validation")
    step = -(-len(held) // MOST_VALIDATED)
    return Catalog(held.root, held.task, held.images[::step])


def _judge(run: RunFolder, state: State, catalog: Catalog) -> None:
    """The predictions of the finished network on the validation images, its size, and its time per image."""
    held, predictor = validated(catalog), Predictor(run.onnx_file, bounds=run.config.data)
    _, predictions = measure(predictor, held, "validation")
    state.validation = [found.label for found in predictions]
    state.file_bytes = run.onnx_file.stat().st_size
    state.milliseconds = _milliseconds(run, catalog)


def _milliseconds(run: RunFolder, catalog: Catalog) -> float:
    """From one image file to its prediction, median."""
    held, predictor = validated(catalog), Predictor(run.onnx_file, bounds=run.config.data)
    seconds = []
    for place in range(WARMED + TIMED):
        path = held.images[place % len(held)].path
        source = open_row(held.root, path)
        started = time.perf_counter()
        list(predictor.predict_named([(path, source)]))
        seconds.append(time.perf_counter() - started)
    return round(1000 * median(seconds[WARMED:]), 2)


def best_so_far(run: RunFolder) -> HistoryRow | None:
    """The best row of the history of a run, or None before its first epoch."""
    history = run.history
    return best_row(history, run.config.train.monitor) if history else None
