"""Catalog + a configuration to begin from + a budget of time -> TUNE/: trials, kept in tune.json and study.db.

One catalog, one split and one seed for all trials. The first is the start itself; what follows is proposed by Optuna's
tree-structured Parzen estimator from the trials before, and ended early by its median rule. A trial is judged on the
validation images; no test image is looked at. A trial that was killed, or whose time was up, goes on where it was.
Only the runs of the start and of the best trial are kept. Needs the extra `tune`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from tellapart.config import Config, TrainConfig
from tellapart.data.catalog import Catalog
from tellapart.errors import TellapartError
from tellapart.experiments.clock import FEWEST_SECONDS, FINISHING_SECONDS, Clock
from tellapart.experiments.record import FolderOfRuns, Kind
from tellapart.experiments.space import Value, dimensions, first_config, start_values, trial_config
from tellapart.progress import Progress
from tellapart.runs.history import HistoryRow, best_row
from tellapart.runs.record import StopReason
from tellapart.runs.run import RunFolder
from tellapart.training.epochs import Watch

if TYPE_CHECKING:
    import optuna

KIND = Kind("search", "tune")
PRUNED = "pruned: behind the median of the other trials"
WARM_TRIALS, WARM_EPOCHS = 4, 6
"""Before so many trials have ended, and in the first epochs of each, none is pruned."""
RANDOM_TRIALS = 8
"""Drawn at random before the estimator proposes; the start is one of them."""


@dataclass(frozen=True)
class Trial:
    """One point of the search. number: from 1, the start. status: done, pruned, failed, or unfinished.

    value: the monitored one of its best epoch; accuracy: on the validation images in that epoch. None before one.
    """

    number: int
    status: str
    values: dict[str, Value]
    value: float | None
    accuracy: float | None
    epochs: int
    seconds: float
    error: str

    @property
    def name(self) -> str:
        return f"trial-{self.number}"


class Learn(Protocol):
    """Begins the run `out`, or goes on with it, for at most `budget` seconds and up to where training ends; the best
    row of its history. Raises as training does."""

    def __call__(
        self, catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress, watch: Watch
    ) -> HistoryRow: ...


@dataclass
class TuneFolder(FolderOfRuns):
    """TUNE/ on disk. record: tune.json: data, start, budget_seconds, spent_seconds, trials (at most; None: no bound),
    command."""

    @property
    def page_file(self) -> Path:
        return self.place("tune.html")

    @property
    def best_file(self) -> Path:
        return self.place("best.toml")

    @property
    def start(self) -> Config:
        """The configuration that the search begins from, with everything decided."""
        return Config.from_dict(self.record["start"])

    def trial(self, number: int) -> RunFolder:
        return self.run(f"trial-{number}")

    @property
    def catalog(self) -> Catalog | None:
        """That of the start, which all trials share; None before it was begun."""
        return self.trial(1).catalog if self.trial(1).run_file.exists() else None

    def write(self) -> None:
        KIND.write(self, self.record)

    def study(self) -> optuna.Study:
        """What was tried, in Optuna's SQLite storage; made where it is not there yet."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # As a URI, for Optuna and SQLite read braces, question marks and percent signs of a plain path.
        files = [self.place(f"study.db{what}") for what in ("", "-journal", "-wal", "-shm")]  # SQLite follows links
        place = quote(os.fsencode(files[0].absolute()))
        return optuna.create_study(
            storage=f"sqlite:///file:{place}?uri=true",
            study_name="tune",
            direction="minimize" if self.start.train.monitor.endswith("loss") else "maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=WARM_TRIALS, n_warmup_steps=WARM_EPOCHS),
            load_if_exists=True,
        )


def create_tune(path: Path, start: Config, **record: Any) -> TuneFolder:
    """A new search. Raises RunError where something is in the place already."""
    made = TuneFolder(path, {"spent_seconds": 0.0, **record, "start": start.to_dict()})
    KIND.create(made, made.write)
    return made


def open_tune(path: Path) -> TuneFolder:
    """A search that is there. Raises RunError for a missing, foreign or damaged folder."""
    with KIND.reading(path) as record:
        found = TuneFolder(path, record)
        _ = found.start, found.record["spent_seconds"], found.record["budget_seconds"]
        return found


def trials_of(study: optuna.Study) -> list[Trial]:
    """Every trial that counts, by number: what a killed session left behind stands for itself once it goes on."""
    from optuna.trial import TrialState

    words = {TrialState.COMPLETE: "done", TrialState.PRUNED: "pruned", TrialState.FAIL: "failed"}
    found = {}
    for each in study.get_trials(deepcopy=False):
        told = each.user_attrs
        if "number" not in told or (each.state == TrialState.FAIL and "error" not in told):
            continue
        found[told["number"]] = Trial(
            told["number"],
            words.get(each.state, "unfinished"),
            dict(each.params),
            told.get("value"),
            told.get("accuracy"),
            told.get("epochs", 0),
            told.get("seconds", 0.0),
            told.get("error", ""),
        )
    return [found[number] for number in sorted(found)]


def ranked(trials: Sequence[Trial], monitor: str) -> tuple[Trial, ...]:
    """The finished trials, the best monitored value first, the earlier of equals."""
    sign = 1 if monitor.endswith("loss") else -1
    done = (each for each in trials if each.status == "done")
    return tuple(sorted(done, key=lambda each: (sign * (each.value or 0.0), each.number)))


def search(
    tune: TuneFolder,
    catalog: Catalog,
    *,
    learn: Learn,
    progress: Progress,
    watch: Callable[[TuneFolder, list[Trial]], None],
) -> None:
    """Trial after trial while there is time, less what finishing two runs will take. watch: called as trials change.

    Raises what training raises where the start itself fails, and KeyboardInterrupt for Ctrl-C, with everything kept.
    """
    found = _Search(tune, catalog, learn, progress, watch)
    try:
        found.go()
    except KeyboardInterrupt:
        progress.line(f"go on with: tellapart tune --resume {tune.path}")
        raise
    finally:
        found.clock.keep()


class _Search:
    def __init__(
        self,
        tune: TuneFolder,
        catalog: Catalog,
        learn: Learn,
        progress: Progress,
        watch: Callable[[TuneFolder, list[Trial]], None],
    ) -> None:
        self.tune, self.catalog, self.learn = tune, catalog, learn
        self.start = tune.start
        self.dimensions = dimensions(self.start)
        self.study = tune.study()
        self.clock = _Clock(tune, self.study, progress, watch)

    def go(self) -> None:
        self._take_up()
        limit = self.tune.record["trials"]
        while True:
            trials = trials_of(self.study)
            if limit is not None and sum(each.status != "unfinished" for each in trials) >= limit:
                return
            seconds = self._left()
            if seconds < FEWEST_SECONDS:
                return
            self._try(1 + max((each.number for each in trials), default=0), seconds)
            self._sweep()

    def _left(self) -> float:
        budget = self.tune.record["budget_seconds"]
        return float(budget - min(2 * FINISHING_SECONDS, budget / 4) - self.clock.spent())

    def _take_up(self) -> None:
        """The start is the first trial; one that was not finished comes next, with the number and the run it had."""
        from optuna.trial import TrialState

        if not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(start_values(self.start), {"number": 1})
        names = {each.name for each in self.dimensions}
        for stale in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            self.study.tell(stale.number, state=TrialState.FAIL)
            if "number" in stale.user_attrs and names <= set(stale.params):
                self.study.enqueue_trial(stale.params, {"number": stale.user_attrs["number"]})

    def _try(self, number: int, seconds: float) -> None:
        """One trial to its end, or to the end of the time, after which it stays unfinished."""
        import optuna

        # A sampler of its own for each trial: what it proposes follows from the trials before, in whatever session.
        self.study.sampler = optuna.samplers.TPESampler(
            seed=self.start.seed + number, n_startup_trials=RANDOM_TRIALS, constant_liar=False
        )
        trial = self.study.ask()
        number = trial.user_attrs.get("number", number)
        trial.set_user_attr("number", number)
        values = {each.name: each.suggest(trial) for each in self.dimensions}
        run = self.tune.trial(number)
        self.clock.line(f"trial {number}: {_words(values)}")
        try:
            config = first_config(self.start) if number == 1 else trial_config(self.start, values)
            told = _Told(trial, run, config.train)
            if told.behind:  # a kill came between the epoch that decided it and its end
                best, stopped, reason = best_row(run.history, config.train.monitor), PRUNED, StopReason.WATCH
            else:
                best = self.learn(self.catalog, config, run.path, seconds, self.clock, told)
                stopped, reason = run.record.stop.words, run.record.stop.reason
        except TellapartError as error:
            if run.run_file.exists() and run.status == "interrupted":
                return  # no epoch ended in time
            trial.set_user_attr("error", str(error))
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            self.clock.line(f"trial {number} failed: {error}")
            if number == 1:
                raise
            return
        self._end(trial, run.history, best, reason)
        self.clock.line(f"trial {number}: {config.train.monitor} {best.figure(config.train.monitor):.4f}  {stopped}")

    def _end(self, trial: optuna.Trial, history: list[HistoryRow], best: HistoryRow, reason: StopReason) -> None:
        """What the trial reached; where its time was up it stays unfinished."""
        from optuna.trial import TrialState

        value = best.figure(self.start.train.monitor)
        seconds = round(sum(row.seconds for row in history), 1)
        told = {"value": value, "accuracy": best.val_accuracy, "epochs": len(history), "seconds": seconds}
        for name, figure in told.items():
            trial.set_user_attr(name, figure)
        if reason is StopReason.INTERRUPTED:
            raise KeyboardInterrupt
        if reason is StopReason.TIME_UP:
            return
        if reason is StopReason.WATCH:
            self.study.tell(trial, state=TrialState.PRUNED)
        else:
            self.study.tell(trial, value)

    def _sweep(self) -> None:
        """Networks take room: of the trials that ended only the start's and the best one's stay."""
        trials = trials_of(self.study)
        kept = {1, *(each.number for each in ranked(trials, self.start.train.monitor)[:1])}
        for each in trials:
            if each.status != "unfinished" and each.number not in kept:
                self.tune.trial(each.number).discard()


class _Told:
    """A Watch that reports a trial's epochs to Optuna and stops it where the median rule says so. behind: whether it
    says so of the epochs that earlier sessions left."""

    def __init__(self, trial: optuna.Trial, run: RunFolder, train: TrainConfig) -> None:
        self._trial, self._run, self._monitor = trial, run, train.monitor
        self._phase = "fine-tune" if train.fine_tune else "head"
        self._reported = 0
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
        """Those of the phase that decides; fits of a linear head are no epochs."""
        rows = self._run.history
        return [row for row in rows if row.phase in ("", self._phase) and row.regularization is None]

    def _report(self, row: HistoryRow) -> None:
        self._reported += 1
        self._trial.report(row.figure(self._monitor), self._reported)


class _Clock(Clock):
    def __init__(
        self,
        tune: TuneFolder,
        study: optuna.Study,
        progress: Progress,
        watch: Callable[[TuneFolder, list[Trial]], None],
    ) -> None:
        super().__init__(tune.record, progress)
        self._tune, self._study, self._watch = tune, study, watch

    def write(self) -> None:
        self._tune.write()
        self._watch(self._tune, trials_of(self._study))


def _words(values: dict[str, Value]) -> str:
    return "  ".join(f"{name} {value if isinstance(value, str) else f'{value:.3g}'}" for name, value in values.items())
