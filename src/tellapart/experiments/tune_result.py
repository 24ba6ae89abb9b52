"""TuneFolder -> TuneResult: the score of each trial, the importance of settings, and the best compared with the start.

The best trial was selected as the highest of many on the validation images, so its validation score is optimistic. How
optimistic is shown by the gap between validation and test, of the best trial and, for comparison, of the start. The
test images are used once, after the selection.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tellapart.errors import RunError
from tellapart.evaluation.compare import LEVEL
from tellapart.evaluation.intervals import Estimate, independent_difference, proportion
from tellapart.experiments.comparison import RunsComparison, compare_runs
from tellapart.experiments.space import Dimension, Value, dimensions
from tellapart.experiments.study import StudyResult
from tellapart.experiments.tune import Trial, TuneFolder, ranked, trials_of
from tellapart.words import counted

if TYPE_CHECKING:
    import optuna

FEWEST_FOR_IMPORTANCE = 10
"""Fewest finished trials for importances: with fewer, they cannot be told from chance."""


@dataclass(frozen=True)
class Gap:
    """One run: its accuracy on the validation images, in the epoch kept, and on the test images.

    change: test minus validation, with the interval for two proportions of different images.
    """

    name: str
    validation: Estimate
    validation_n: int
    test: Estimate
    test_n: int
    change: Estimate

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class TuneResult(StudyResult):
    """trials: by number, the first is the start. best: the selected trial. gaps: of the start and the best; none
    without a test split. comparison: best against start; None if the start is the best. importance: the share of each
    setting in the variation between trials, 0..1, descending; empty with too few trials."""

    tune: TuneFolder
    trials: tuple[Trial, ...]
    best: Trial
    dimensions: tuple[Dimension, ...]
    gaps: tuple[Gap, ...]
    comparison: RunsComparison | None
    importance: dict[str, float]

    @property
    def start(self) -> Trial:
        return self.trials[0]

    @property
    def monitor(self) -> str:
        return self.tune.start.train.monitor

    @property
    def helped(self) -> bool:
        """Whether the best is not the start, and classifies more of the test images correctly than the start."""
        return self.comparison is not None and self.comparison.pairs[0].comparison.difference.value > 0

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """The finished trials, the best first."""
        return ranked(self.trials, self.monitor)

    @property
    def changed(self) -> dict[str, tuple[Value, Value]]:
        """The settings in which the best differs from the start: (start, best)."""
        before = self.start.values
        return {name: (before[name], value) for name, value in self.best.values.items() if value != before[name]}

    @property
    def study(self) -> TuneFolder:
        return self.tune

    @property
    def advice(self) -> str:
        """Whether the search was worth it, in two or three sentences."""
        if len(self.trials) == 1:
            return (
                f"Only the starting configuration was tried: {self.monitor} {self.start.value:.4f}. "
                "There is no comparison."
            )
        if self.comparison is None:
            return (
                f"Keep the starting configuration: none of {len(self.trials):,} trials reached a better "
                f"{self.monitor} than the start, {self.start.value:.4f}."
            )
        return (
            f"{self.best.name} is the best of {len(self.trials):,} trials, by {self.monitor} {self.best.value:.4f} "
            f"against {self.start.value:.4f} of the start, {self.start.name}. {self.comparison.verdict}"
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What limits the result."""
        statuses = Counter(each.status for each in self.trials)
        notes = []
        if statuses["pruned"]:
            notes.append(f"Ended early, behind the median of the others: {counted(statuses['pruned'], 'trial')}.")
        if statuses["failed"]:
            first = next(each for each in self.trials if each.status == "failed")
            notes.append(f"Failed: {counted(statuses['failed'], 'trial')}; the first, {first.name}: {first.error}")
        if statuses["unfinished"]:
            notes.append(
                f"Out of time: {counted(statuses['unfinished'], 'trial')}; with more they continue: "
                f"{self.tune.resume_command} --budget ..."
            )
        if len(self.trials) < 2:
            notes.append("The start took all the time: a larger --budget has room for other trials.")
        if self.comparison is not None:
            notes.extend(self.comparison.notes)
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        return super().to_dict() | {
            "best": self.best.name,
            "start": self.start.name,
            "monitor": self.monitor,
            "trials": [asdict(each) for each in self.trials],
            "changed": {name: {"start": old, "best": new} for name, (old, new) in self.changed.items()},
            "search_space": {each.name: each.range for each in self.dimensions},
            "importance": self.importance,
            "gaps": [each.to_dict() for each in self.gaps],
            "comparison": self.comparison and self.comparison.to_dict(0),
            "config": str(self.tune.best_file),
        }


def chosen_of(tune: TuneFolder) -> Trial:
    """The best finished trial. Raises RunError if none was finished in time."""
    finished = ranked(trials_of(tune.study()), tune.start.train.monitor)
    if not finished:
        raise RunError(
            f"The time was up before the first trial of {tune.path} was finished. Resume with more time: "
            f"{tune.resume_command} --budget ..."
        )
    return finished[0]


def judge(tune: TuneFolder) -> TuneResult:
    """The result of a search, once the runs of its start and of its best trial are finished; writes best.toml."""
    study, best = tune.study(), chosen_of(tune)
    trials = trials_of(study)
    tune.write_text(tune.best_file, tune.trial(best.number).config.to_toml())
    both = [trials[0]] if best.number == trials[0].number else [trials[0], best]
    return TuneResult(
        tune,
        tuple(trials),
        best,
        dimensions(tune.start),
        tuple(gap for each in both if (gap := _gap(tune, each)) is not None),
        compare_runs([tune.trial(each.number) for each in both]) if len(both) == 2 else None,
        _importance(study, trials),
    )


def _gap(tune: TuneFolder, trial: Trial) -> Gap | None:
    run = tune.trial(trial.number)
    metrics = run.metrics
    if "test" not in metrics:
        return None
    n, accuracy = metrics["test"]["n"], metrics["test"]["accuracy"]
    held = len(run.catalog.split("validation"))
    validation, test = (round((trial.accuracy or 0.0) * held), held), (round(accuracy["value"] * n), n)
    return Gap(
        trial.name,
        proportion(*validation, LEVEL),
        held,
        Estimate.from_dict(accuracy),
        n,
        independent_difference(test, validation, LEVEL),
    )


def _importance(study: optuna.Study, trials: list[Trial]) -> dict[str, float]:
    """By fANOVA: Hutter, Hoos and Leyton-Brown, ICML 2014. Pruned trials count with their score so far: they also show
    which settings are poor, and among the others alone chance dominates."""
    import optuna
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    valued = {each.number: each.value for each in trials if each.status in ("done", "pruned")}
    if len(valued) < FEWEST_FOR_IMPORTANCE or len(set(valued.values())) < 2:
        return {}
    counted = optuna.create_study(direction=study.direction)
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    for each in study.get_trials(deepcopy=False, states=states):
        value = valued.get(each.user_attrs["number"])
        if value is not None:
            made = optuna.trial.create_trial(params=each.params, distributions=each.distributions, value=value)
            counted.add_trial(made)
    found = get_param_importances(counted, evaluator=FanovaImportanceEvaluator(seed=0))
    return {name: round(float(value), 4) for name, value in found.items()}
