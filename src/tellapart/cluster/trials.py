"""`tune --cluster`: trials of a search, each trained by a Ray task somewhere in the cluster.

Optuna's storage is the one truth: this process asks it for the next trial and tells it the outcome, a task tells it the
epochs. A task whose machine or process was killed is run again by Ray, and finds the run that it had begun in the
search's folder, which all machines share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.cluster.connection import Node, connected, require_ready
from tellapart.cluster.storage import Storage
from tellapart.config import Config
from tellapart.data.catalog import Catalog
from tellapart.errors import ConfigError, TellapartError, TrainingError
from tellapart.experiments.learner import learner
from tellapart.experiments.study import Outcome, Session
from tellapart.experiments.tune import Runner, TuneFolder, Work, learn_trial
from tellapart.progress import SILENT
from tellapart.runs.history import HistoryRow
from tellapart.runs.run import RunFolder
from tellapart.training.epochs import Watch

RETRIES = 3
"""Of a trial whose worker was killed; one that a machine's lack of memory kills each time fails."""
_SECONDS = 2.0  # between looks at the clock and at the tasks


@dataclass(frozen=True)
class Needs:
    """What a trial gets: processor cores, and GPUs, which may be a part of one. parallel: most trials at a time; None:
    as many as the cluster has room for."""

    cpus: int = 2
    gpus: float = 0.0
    parallel: int | None = None


@contextmanager
def trials_on(
    address: str, tune: TuneFolder, catalog: Catalog, needs: Needs, cache_limit: int
) -> Iterator[Callable[[Session], Runner]]:
    """Makes the runner of a search. Raises ConfigError at once for an address, a machine or a folder that cannot be
    used, or needs that no machine meets."""
    with connected(address) as nodes:
        image = next((catalog.root / p.path for p in catalog.images if not p.error), None)
        require_ready(nodes, Storage(tune.path), "" if image is None or not image.exists() else str(image.absolute()))
        slots = room_for(nodes, needs)
        yield lambda session: _RayRunner(tune, catalog, needs, cache_limit, (slots, session))


def room_for(nodes: list[Node], needs: Needs) -> int:
    """How many trials the machines have room for at a time, at most as many as wanted.

    >>> nodes = [Node("a", "a", 8, 1), Node("b", "b", 4, 0)]
    >>> room_for(nodes, Needs(cpus=3)), room_for(nodes, Needs(cpus=2, gpus=0.5))
    (3, 2)
    """
    room = sum(
        min(node.cpus // needs.cpus, int(node.gpus / needs.gpus) if needs.gpus else node.cpus // needs.cpus)
        for node in nodes
    )
    if not room:
        most = f"{max(node.cpus for node in nodes)} cores and {max(node.gpus for node in nodes)} GPUs"
        raise ConfigError(
            f"No machine of the cluster has {needs.cpus} cores and {needs.gpus:g} GPUs for a trial. The most are "
            f"{most}: lower --trial-cpus or --trial-gpus."
        )
    return min(room, needs.parallel or room)


class _RayRunner:
    """The Runner of a cluster."""

    def __init__(
        self, tune: TuneFolder, catalog: Catalog, needs: Needs, cache_limit: int, given: tuple[int, Session]
    ) -> None:
        import ray

        self.slots, self._session = given
        self._place, self._cache_limit = str(tune.path.absolute()), cache_limit
        self._catalog = ray.put(catalog)
        threads = str(needs.cpus)
        self._task = ray.remote(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_retries=RETRIES,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads}},
        )(train_one)
        self._flying: dict[Any, int] = {}

    def start(self, work: Work) -> None:
        self._flying[self._task.remote(self._place, self._catalog, work, self._cache_limit)] = work.number

    def next(self) -> tuple[int, Outcome]:
        import ray

        ended: list[Any] = []
        try:
            while not ended:
                ended, _ = ray.wait(list(self._flying), timeout=_SECONDS)
                self._session.keep()
            number = self._flying.pop(ended[0])
            return number, _outcome(lambda: ray.get(ended[0]))
        except KeyboardInterrupt:
            for task in self._flying:
                ray.cancel(task, force=True)
            raise


def _outcome(get: Callable[[], Outcome]) -> Outcome:
    from ray.exceptions import RayError

    try:
        return get()
    except RayError as error:
        words = str(error).strip().splitlines()[0]
        return Outcome(error=TrainingError(f"Its worker was lost {RETRIES + 1} times: {words}"))


def train_one(place: str, catalog: Catalog, work: Work, cache_limit: int) -> Outcome:
    """A trial of the search at `place`, in a process of the cluster."""
    import optuna

    tune = TuneFolder.open(Path(place))
    trial = optuna.trial.Trial(tune.study(), work.trial_id)
    learn = learner(tune, cache_limit)

    def told(config: Config, run: RunFolder, watch: Watch) -> HistoryRow:
        return learn(catalog, config, run.path, work.seconds, SILENT, watch).best

    outcome = learn_trial(tune, trial, work, told)
    # Of the errors only the words are sent: not all can be made again from these.
    return outcome if outcome.error is None else Outcome(error=_plain(outcome.error))


def _plain(error: TellapartError) -> TellapartError:
    return TrainingError(str(error))
