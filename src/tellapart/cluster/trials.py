"""`tune --cluster`: trials of a search, each trained by a Ray task somewhere in the cluster.

Optuna's storage is the one truth: this process asks it for the next trial and tells it the outcome, a task tells it the
epochs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tellapart.cluster.tasks import Needs, Tasks, plain, room_on
from tellapart.config import Config
from tellapart.data.catalog import Catalog
from tellapart.errors import TellapartError
from tellapart.experiments.learner import learner
from tellapart.experiments.study import Outcome, Session
from tellapart.experiments.tune import Runner, TuneFolder, Work, learn_trial
from tellapart.progress import SILENT
from tellapart.runs.history import HistoryRow
from tellapart.runs.run import RunFolder
from tellapart.training.epochs import Watch


@contextmanager
def trials_on(
    address: str, tune: TuneFolder, catalog: Catalog, needs: Needs, cache_limit: int
) -> Iterator[Callable[[Session], Runner]]:
    """Makes the runner of a search. Raises ConfigError as `room_on` does."""
    with room_on(address, tune, catalog, needs) as slots:
        yield lambda session: _RayRunner(tune, catalog, needs, cache_limit, (slots, session))


class _RayRunner:
    """The Runner of a cluster."""

    def __init__(
        self, tune: TuneFolder, catalog: Catalog, needs: Needs, cache_limit: int, given: tuple[int, Session]
    ) -> None:
        self.slots, session = given
        self._tasks = Tasks(train_one, needs, session, str(tune.path.absolute()), catalog, cache_limit)

    def start(self, work: Work) -> None:
        self._tasks.start(work.number, work)

    def next(self) -> tuple[int, Outcome]:
        number, answer = self._tasks.next()
        return number, Outcome(error=answer) if isinstance(answer, TellapartError) else answer


def train_one(place: str, catalog: Catalog, cache_limit: int, work: Work) -> Outcome:
    """A trial of the search at `place`, in a process of the cluster."""
    import optuna

    tune = TuneFolder.open(Path(place))
    trial = optuna.trial.Trial(tune.study(), work.trial_id)
    learn = learner(tune, cache_limit)

    def told(config: Config, run: RunFolder, watch: Watch) -> HistoryRow:
        return learn(catalog, config, run.path, work.seconds, SILENT, watch).best

    outcome = learn_trial(tune, trial, work, told)
    return outcome if outcome.error is None else Outcome(error=plain(outcome.error))
