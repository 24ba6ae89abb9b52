"""Catalog + a starting configuration + a time budget -> TUNE/: trials, recorded in tune.json and study.db.

All trials share one catalog, one split and one seed. The first is the starting configuration; Optuna's tree-structured
Parzen estimator proposes each later one from the trials before, and its median rule ends poor ones early. A trial is
scored on the validation images; no test image is used. A trial that was killed or ran out of time continues where it
was. Only the runs of the start and of the best trial are kept. Needs the extra `tune`.

Where a trial is trained is up to a Runner: here, one after another, or on the machines of a cluster (cluster.trials).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import quote

from tellapart.config import Config, TrainConfig
from tellapart.data.catalog import Catalog
from tellapart.experiments.space import Value, dimensions, figure, first_config, start_values, trial_config
from tellapart.experiments.study import FEWEST_SECONDS, FINISHING_SECONDS, Learn, Outcome, Session, Study, attempt
from tellapart.progress import Progress
from tellapart.runs.history import HistoryRow, best_row
from tellapart.runs.record import Stop, StopReason
from tellapart.runs.run import RunFolder
from tellapart.training.epochs import Watch

if TYPE_CHECKING:
    import optuna

JOURNAL = "journal"
"""A storage in a file of the search's folder, which several machines may write to."""
PRUNED = "pruned: behind the median of the other trials"
WARM_TRIALS, WARM_EPOCHS = 4, 6
"""No trial is pruned before so many have ended, nor in its first epochs."""
RANDOM_TRIALS = 8
"""Trials drawn at random before the estimator proposes; the start is one of them."""


@dataclass(frozen=True)
class Trial:
    """One trial of the search. number: from 1, the start. status: done, pruned, failed, or unfinished.

    value: the monitored metric in its best epoch; accuracy: on the validation images in that epoch. None before the
    first epoch.
    """

    number: int
    status: str
    values: dict[str, Value]
    value: float | None = None
    accuracy: float | None = None
    epochs: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def name(self) -> str:
        return f"trial-{self.number}"


@dataclass
class TuneFolder(Study):
    """TUNE/ on disk. record: also has the start and trials (the maximum; None: unlimited)."""

    noun, by, file = "search", "tune", "tune.json"
    trial_names = ("trial-1",)

    @classmethod
    def of(cls, path: Path, record: dict[str, Any]) -> Self:
        found = cls(path, record)
        _ = found.start, record["spent_seconds"], record["budget_seconds"]
        return found

    @property
    def best_file(self) -> Path:
        return self.place("best.toml")

    @property
    def start(self) -> Config:
        """The starting configuration, with everything decided."""
        return Config.from_dict(self.record["start"])

    def trial(self, number: int) -> RunFolder:
        return self.run(f"trial-{number}")

    def study(self) -> optuna.Study:
        """The trials, in Optuna's storage; created if missing: SQLite in this folder, or what the record names."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        return optuna.create_study(
            storage=self._storage(self.record.get("storage", "")),
            study_name=self.record.get("study_name", "tune"),
            direction="minimize" if self.start.train.monitor.endswith("loss") else "maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_TRIALS, n_warmup_steps=WARM_EPOCHS),
            load_if_exists=True,
        )

    def _storage(self, named: str) -> Any:
        if named == JOURNAL:
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend

            return JournalStorage(JournalFileBackend(os.fspath(self.place("study.journal"))))
        if named:
            return named
        # As a URI: Optuna and SQLite interpret braces, question marks and percent signs in a plain path.
        files = [self.place(f"study.db{what}") for what in ("", "-journal", "-wal", "-shm")]  # SQLite follows links
        place = quote(os.fsencode(files[0].absolute()))
        return f"sqlite:///file:{place}?uri=true"


def create_tune(path: Path, start: Config, **record: Any) -> TuneFolder:
    """A new search. Raises RunError if the path exists already."""
    return TuneFolder(path, {"spent_seconds": 0.0, **record, "start": start.to_dict()}).create()


def trials_of(study: optuna.Study) -> list[Trial]:
    """Every trial that counts, by number: one that a killed session left counts once, after it is resumed."""
    from optuna.trial import TrialState

    words = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    found = {}
    for each in study.get_trials(deepcopy=False):
        told = each.user_attrs
        if "number" not in told or (each.state == TrialState.FAIL and "error" not in told):
            continue
        figures = {name: told[name] for name in ("value", "accuracy", "epochs", "seconds", "error") if name in told}
        status = words.get(each.state, "unfinished")
        found[told["number"]] = Trial(told["number"], status, dict(each.params), **figures)
    return [found[number] for number in sorted(found)]


def ranked(trials: Sequence[Trial], monitor: str) -> tuple[Trial, ...]:
    """The finished trials, the best monitored value first; of equal ones the earlier."""
    sign = 1 if monitor.endswith("loss") else -1
    done = (each for each in trials if each.status == "done")
    return tuple(sorted(done, key=lambda each: (sign * (each.value or 0.0), each.number)))


@dataclass(frozen=True)
class Work:
    """A trial to train: its number here, Optuna's for it, the values of its settings, and its time."""

    number: int
    trial_id: int
    values: dict[str, Value]
    seconds: float


class Runner(Protocol):
    """Trains trials. slots: how many at a time."""

    slots: int

    def start(self, work: Work) -> None: ...

    def next(self) -> tuple[int, Outcome]:
        """The number and the outcome of a trial that ended, once one has."""


def search(
    tune: TuneFolder,
    catalog: Catalog,
    *,
    learn: Learn,
    progress: Progress,
    watch: Callable[[TuneFolder, list[Trial]], None],
    runner: Callable[[Session], Runner] | None = None,
) -> None:
    """Run trials while there is time, minus the time to finish two runs. watch: called as trials change. runner: None
    trains here.

    Raises what training raises if the start itself fails, and KeyboardInterrupt for Ctrl-C, with everything kept.
    """
    study = tune.study()
    with Session(tune, progress, lambda: watch(tune, trials_of(study))) as session:
        chosen = _Here(tune, study, catalog, learn, session) if runner is None else runner(session)
        _Search(tune, study, chosen, session).go()


def learn_trial(
    tune: TuneFolder, trial: optuna.Trial, work: Work, learn: Callable[[Config, RunFolder, Watch], HistoryRow]
) -> Outcome:
    """Train a trial, or resume it, telling Optuna of each epoch."""
    run = tune.trial(work.number)

    def train() -> HistoryRow:
        config = first_config(tune.start) if work.number == 1 else trial_config(tune.start, work.values)
        told = _Told(trial, run, config.train)
        if told.behind:  # killed after the epoch that decided it
            run.update(status="interrupted", **Stop(StopReason.WATCH, PRUNED).to_dict())
            return best_row(run.history, config.train.monitor)
        return learn(config, run, told)

    return attempt(run, train)


class _Here:
    """The Runner of one process."""

    slots = 1

    def __init__(self, tune: TuneFolder, study: optuna.Study, catalog: Catalog, learn: Learn, session: Session) -> None:
        self._tune, self._study, self._catalog, self._learn, self._session = tune, study, catalog, learn, session
        self._works: list[Work] = []

    def start(self, work: Work) -> None:
        self._works.append(work)

    def next(self) -> tuple[int, Outcome]:
        import optuna

        work = self._works.pop()
        trial = optuna.trial.Trial(self._study, work.trial_id)

        def learn(config: Config, run: RunFolder, told: Watch) -> HistoryRow:
            return self._learn(self._catalog, config, run.path, work.seconds, self._session, told)

        return work.number, learn_trial(self._tune, trial, work, learn)


class _Search:
    def __init__(self, tune: TuneFolder, study: optuna.Study, runner: Runner, session: Session) -> None:
        self.tune, self.study, self.runner, self.session = tune, study, runner, session
        self.start = tune.start
        self.dimensions = dimensions(self.start)
        self.flying: dict[int, optuna.Trial] = {}

    def go(self) -> None:
        self._take_up()
        while True:
            while len(self.flying) < self.runner.slots and self._begin():
                pass
            if not self.flying:
                return
            number, outcome = self.runner.next()
            self._close(number, self.flying.pop(number), outcome)
            self._sweep()

    def _take_up(self) -> None:
        """The start is the first trial; unfinished ones come next, with their numbers and their runs."""
        from optuna.trial import TrialState

        if not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(start_values(self.start), {"number": 1})
        names = {each.name for each in self.dimensions}
        for stale in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(stale.number, state=TrialState.FAIL)
            if "number" in stale.user_attrs and names <= set(stale.params):
                self.study.enqueue_trial(stale.params, {"number": stale.user_attrs["number"]})

    def _begin(self) -> bool:
        """Start one trial, if there is time and it is wanted."""
        import optuna

        limit, budget = self.tune.record["trials"], self.tune.record["budget_seconds"]
        trials = trials_of(self.study)
        ended = sum(each.status != "unfinished" for each in trials)
        if limit is not None and ended + len(self.flying) >= limit:
            return False
        seconds = self.session.left - min(2 * FINISHING_SECONDS, budget / 4)
        if seconds < FEWEST_SECONDS:
            return False
        number = 1 + max((each.number for each in trials), default=0)
        # A new sampler for each trial: its proposals depend only on earlier trials, also after resuming. Where several
        # are trained at a time, it keeps away from those that have no value yet.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.start.seed + number, n_startup_trials=RANDOM_TRIALS, constant_liar=self.runner.slots > 1
        )
        trial = self.study.ask()
        number = trial.user_attrs.get("number", number)
        trial.set_user_attr("number", number)
        values = {each.name: each.suggest(trial) for each in self.dimensions}
        self.session.line(f"trial {number}: " + "  ".join(f"{name} {figure(value)}" for name, value in values.items()))
        self.flying[number] = trial
        self.runner.start(Work(number, trial._trial_id, values, seconds))
        return True

    def _close(self, number: int, trial: optuna.Trial, outcome: Outcome) -> None:
        """Record how a trial ended; one whose time was up stays unfinished."""
        import optuna

        run, monitor = self.tune.trial(number), self.start.train.monitor
        if outcome.error:
            trial.set_user_attr("error", str(outcome.error))
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            self.session.line(f"trial {number} failed: {outcome.error}")
            if number == 1:
                raise outcome.error
        elif outcome.reason:
            self._end(trial, run.history, outcome.answer, outcome.reason)
            self.session.line(
                f"trial {number}: {monitor} {outcome.answer.figure(monitor):.4f}  {run.record.stop.words}"
            )

    def _end(self, trial: optuna.Trial, history: list[HistoryRow], best: HistoryRow, reason: StopReason) -> None:
        """Record the score of the trial; if its time was up, it stays unfinished."""
        import optuna

        value = best.figure(self.start.train.monitor)
        seconds = round(sum(row.seconds for row in history), 1)
        told = {"value": value, "accuracy": best.val_accuracy, "epochs": len(history), "seconds": seconds}
        for name, reached in told.items():
            trial.set_user_attr(name, reached)
        if reason is StopReason.WATCH:
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        elif reason is not StopReason.TIME_UP:
            self.study.tell(trial, value)

    def _sweep(self) -> None:
        """Networks take disk space: of the ended trials, only the runs of the start and of the best are kept."""
        trials = trials_of(self.study)
        kept = {1, *(each.number for each in ranked(trials, self.start.train.monitor)[:1])}
        for each in trials:
            if each.status != "unfinished" and each.number not in kept:
                self.tune.trial(each.number).discard()


class _Told:
    """A Watch that reports a trial's epochs to Optuna and stops it by the median rule. behind: whether the rule applies
    already to the epochs of earlier sessions."""

    def __init__(self, trial: optuna.Trial, run: RunFolder, train: TrainConfig) -> None:
        self._trial, self._run, self._monitor = trial, run, train.monitor
        self._phase = "fine-tune" if train.fine_tune else "head"
        self._reported = 0
        # Where a worker of a cluster was killed, the same trial goes on, and Optuna knows its epochs already.
        self._known = trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        for row in self._rows() if run.run_file.exists() else ():
            self._report(row)
        self.behind = bool(self._reported) and trial.should_prune()

    def __call__(self, row: HistoryRow) -> str:
        rows = self._rows()
        if len(rows) <= self._reported:
            return ""
        self._report(row)
        return PRUNED if self._trial.should_prune() else ""

    def _rows(self) -> list[HistoryRow]:
        """The epochs of the phase that decides; fits of a linear head are not epochs."""
        rows = self._run.history
        return [row for row in rows if row.phase in ("", self._phase) and row.regularization is None]

    def _report(self, row: HistoryRow) -> None:
        self._reported += 1
        if self._reported not in self._known:
            self._trial.report(row.figure(self._monitor), self._reported)
