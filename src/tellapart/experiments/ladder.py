"""Catalog + rungs + a time budget -> LADDER/: a run folder for each rung, and ladder.json with the progress.

All rungs share one catalog, one split and one seed. They are trained in the order of their turn, not of the table: the
most reliable and cheapest first. Each gets a share of the remaining time; what it does not use goes to the next rungs.
A rung that runs out of time keeps its best epoch. A killed ladder continues where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Self

from tellapart.config import Config
from tellapart.data.catalog import Catalog
from tellapart.data.sources import open_row
from tellapart.experiments.rungs import Rung, chosen
from tellapart.experiments.study import FEWEST_SECONDS, FINISHING_SECONDS, Session, Study, Train
from tellapart.inference.evaluate_split import measure
from tellapart.inference.predictor import Predictor
from tellapart.models.backend import forget_networks
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


def climb(
    ladder: LadderFolder,
    catalog: Catalog,
    *,
    train: Train,
    progress: Progress,
    watch: Callable[[LadderFolder], None],
) -> None:
    """Train every unfinished rung in turn while there is time; the time left then goes to those that ran out of it.
    watch: called whenever a state changes.

    A rung that fails records the reason and does not stop the others.
    Raises KeyboardInterrupt for Ctrl-C, with everything kept.
    """
    with Session(ladder, progress, lambda: watch(ladder)) as session:
        for finished in (("done",), ("done", "failed")):
            waiting = [rung for rung in ladder.rungs if ladder.states[rung.name].status not in finished]
            waiting.sort(key=lambda rung: rung.turn)
            for place, rung in enumerate(waiting):
                share = rung.share / sum(other.share for other in waiting[place:])
                seconds = share * session.left - _finishing(ladder)
                try:
                    _climb_one(ladder, rung, catalog, seconds, train, session)
                except KeyboardInterrupt:
                    ladder.states[rung.name].status = "waiting"
                    raise


def _finishing(ladder: LadderFolder) -> float:
    """Seconds to reserve for finishing a run after training: what the slowest rung so far took."""
    known = [state.finishing_seconds for state in ladder.states.values() if state.finishing_seconds]
    return max(known, default=FINISHING_SECONDS)


def _climb_one(
    ladder: LadderFolder, rung: Rung, catalog: Catalog, seconds: float, train: Train, session: Session
) -> None:
    run, state, config = ladder.run(rung.name), ladder.states[rung.name], ladder.rung_config(rung)
    trained = ladder.begun(rung.name) and run.status == "done"
    if not trained and seconds < FEWEST_SECONDS:
        state.status = "time up" if state.judged else "not reached"
        return
    if not trained:
        forget_networks()  # networks of earlier rungs are in their files
    state.status = "training"
    with session.counting(state):
        session.line(f"rung {rung.name}: {rung.adds}")
        if not trained:
            outcome = session.attempt(rung.name, lambda: train(catalog, config, run.path, seconds, session))
            if outcome.reason is None:
                state.status, state.error = ("failed", str(outcome.error)) if outcome.error else ("not reached", "")
                return
        _judge(run, state, catalog)
        state.finishing_seconds = round(time.monotonic() - session.learned, 2)
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
    seconds = []
    for place in range(WARMED + TIMED):
        path = held.images[place % len(held)].path
        source = open_row(held.root, path)
        started = time.perf_counter()
        list(predictor.predict_named([(path, source)]))
        seconds.append(time.perf_counter() - started)
    state.milliseconds = round(1000 * median(seconds[WARMED:]), 2)


def best_so_far(run: RunFolder) -> HistoryRow | None:
    """The best row of the history of a run, or None before its first epoch."""
    history = run.history
    return best_row(history, run.config.train.monitor) if history else None
