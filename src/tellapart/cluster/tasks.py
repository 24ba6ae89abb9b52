"""Trainings as Ray tasks: of a search's trials or a ladder's rungs, each with its processor cores and GPUs.

Ray decides where and when, and runs a task again whose machine or process was killed; it finds the run that it had
begun in the folder of the study, which all machines share.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tellapart.cluster.connection import Node, connected, require_ready
from tellapart.cluster.storage import Storage
from tellapart.data.catalog import Catalog
from tellapart.errors import ConfigError, TellapartError, TrainingError
from tellapart.experiments.study import Session, Study

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
def room_on(address: str, study: Study, catalog: Catalog, needs: Needs) -> Iterator[int]:
    """The connected cluster: how many trials it has room for at a time. Raises ConfigError at once for an address that
    cannot be used, a machine that does not see the images or cannot write the study, or needs that no machine meets."""
    with connected(address) as nodes:
        image = next((catalog.root / p.path for p in catalog.images if not p.error), None)
        require_ready(nodes, Storage(study.path), "" if image is None or not image.exists() else str(image.absolute()))
        yield room_for(nodes, needs)


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


class Tasks:
    """Those of one session, by any key. work: what a task is; it is given what `shared` holds, then its own."""

    def __init__(self, work: Callable[..., Any], needs: Needs, session: Session, *shared: Any) -> None:
        import ray

        self._session = session
        self._shared = [ray.put(each) for each in shared]
        threads = str(needs.cpus)
        self._task = ray.remote(
            num_cpus=needs.cpus,
            num_gpus=needs.gpus,
            max_retries=RETRIES,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads}},
        )(work)
        self._flying: dict[Any, Any] = {}

    def start(self, key: Any, *own: Any) -> None:
        self._flying[self._task.remote(*self._shared, *own)] = key

    def next(self) -> tuple[Any, Any]:
        """The key of a task that ended, and its answer, or a TrainingError if its workers were lost. Keeps the record
        meanwhile. Ctrl-C ends all tasks."""
        import ray
        from ray.exceptions import RayError

        ended: list[Any] = []
        try:
            while not ended:
                ended, _ = ray.wait(list(self._flying), timeout=_SECONDS)
                self._session.keep()
            key = self._flying.pop(ended[0])
            try:
                return key, ray.get(ended[0])
            except RayError as error:
                words = str(error).strip().splitlines()[0]
                return key, TrainingError(f"Its worker was lost {RETRIES + 1} times: {words}")
        except KeyboardInterrupt:
            for task in self._flying:
                ray.cancel(task, force=True)
            raise


def plain(error: TellapartError) -> TellapartError:
    """Of an error only the words are sent: not all can be made again from these."""
    return TrainingError(str(error))
