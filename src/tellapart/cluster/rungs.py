"""`ladder --cluster`: rungs of a ladder, each trained and judged by a Ray task somewhere in the cluster.

The record in the ladder's folder is the one truth, and this process alone writes it: it says which rung is next and for
how long; a task answers with the state of its rung.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tellapart.cluster.tasks import Needs, Tasks, plain, room_on
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog
from tellapart.data.sources.source import source_of_catalog
from tellapart.errors import TellapartError
from tellapart.experiments.ladder import LadderFolder, Runner, State, Work, settle, trained
from tellapart.experiments.study import Outcome, Session, attempt
from tellapart.models.backend import forget_networks
from tellapart.progress import Phase, Progress
from tellapart.runs.lock import one_writer
from tellapart.runs.run import RunFolder, create_run
from tellapart.training import fit
from tellapart.training.effects import without_effect
from tellapart.training.plan import decide
from tellapart.training.tracker_backends import tracked


@contextmanager
def rungs_on(
    address: str, ladder: LadderFolder, catalog: Catalog, needs: Needs, cache_limit: int
) -> Iterator[Callable[[Session], Runner]]:
    """Makes the runner of a ladder. Raises ConfigError as `room_on` does."""
    with room_on(address, ladder, catalog, needs) as slots:
        place = str(ladder.path.absolute())
        yield lambda session: _RayRunner(slots, Tasks(train_rung, needs, session, place, catalog, cache_limit), session)


class _RayRunner:
    """The Runner of a cluster."""

    def __init__(self, slots: int, tasks: Tasks, session: Session) -> None:
        self.slots, self._tasks, self._session = slots, tasks, session
        self._begun: dict[str, State] = {}

    def start(self, work: Work) -> None:
        self._session.line(f"rung {work.rung.name}: {work.rung.adds}")
        self._begun[work.rung.name] = work.state
        self._tasks.start(work.rung.name, work)

    def next(self) -> tuple[str, State]:
        name, answer = self._tasks.next()
        before = self._begun.pop(name)
        if isinstance(answer, TellapartError):
            return name, replace(before, status="failed", error=str(answer))
        return name, answer


def train_rung(place: str, catalog: Catalog, cache_limit: int, work: Work) -> State:
    """The state of a rung after it was trained, or resumed, and judged, in a process of the cluster."""
    forget_networks()
    ladder, state, clock = LadderFolder.open(Path(place)), replace(work.state), _Clock()
    run = ladder.run(work.rung.name)
    outcome = None
    if not trained(run):
        outcome = attempt(run, lambda: _train(ladder, run, catalog, cache_limit, (work, clock)))
        outcome = outcome if outcome.error is None else Outcome(error=plain(outcome.error))
    settle(run, state, catalog, outcome)
    if state.judged:
        state.finishing_seconds = round(time.monotonic() - clock.learned, 2)
    state.wall_seconds = round(state.wall_seconds + time.monotonic() - clock.started, 2)
    state.processor_seconds = round(state.processor_seconds + sum(os.times()[:4]) - clock.processor, 2)
    return state


def _train(
    ladder: LadderFolder, run: RunFolder, catalog: Catalog, cache_limit: int, given: tuple[Work, _Clock]
) -> None:
    """The run of a rung, from its beginning or from where a killed task was."""
    work, clock = given
    deadline = clock.started + work.seconds
    if not run.run_file.exists():
        config = ladder.rung_config(work.rung)
        plan = decide(config, source_of_catalog(catalog))
        plan = replace(plan, reasons=(*plan.reasons, *without_effect(config, plan.config, None)))
        create_run(run.path, plan, catalog, command=ladder.record["command"], source=catalog.root.name)
    with one_writer(run), PixelCache(run.spec, limit_bytes=cache_limit) as cache, tracked(run, clock) as watch:
        fit.fit(run, cache, deadline=deadline, progress=clock, watch=watch)


class _Clock(Progress):
    """When a task started, and when its network last learned; tells nobody."""

    def __init__(self) -> None:
        self.started = self.learned = time.monotonic()
        self.processor = sum(os.times()[:4])

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
        if Phase.of(stage).learns:
            self.learned = time.monotonic()
