"""`train --cluster`: features of the frozen backbone, computed by Ray tasks and kept as shards in shared storage.

A task computes one shard and writes it whole. Ray decides where, and runs a task again whose machine was lost; what is
in the storage is there for every later run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.cluster.connection import Node, connected, require_ready
from tellapart.cluster.feature_shards import Index, write_shard
from tellapart.cluster.storage import Storage, local_copy, reason
from tellapart.data.batches import Images
from tellapart.errors import ConfigError, SourceError, TellapartError
from tellapart.models.feature_engine import FeatureEngine, bundled_engine, graph_engine
from tellapart.models.features import FeatureSet
from tellapart.training.features import Views, computed
from tellapart.training.sharded import Asked, FeatureSource, Sharded

SHARD = 2048
"""Images of a shard: a task of ten to twenty seconds, so that little is repeated when a machine is lost, and 500 files
a million."""
FEWEST = 64
"""Of a shard where there are few for each core."""
RETRIES = 3
"""Of a task whose worker was killed."""
_SECONDS = 0.5  # between looks at the tasks


@contextmanager
def features_on(address: str, place: str) -> Iterator[FeatureSource]:
    """What computes features on the machines of a cluster and keeps them at `place`, a folder or address that all of
    them share. Raises ConfigError at once for an address, a machine or storage that cannot be used."""
    store = Storage(place)
    with connected(address) as nodes:
        store.require_writable()
        require_ready(nodes, store)
        yield _Source(store, nodes)


@dataclass(frozen=True)
class Work:
    """What all tasks of a backbone share. graph: of one that is not in the package, its file in the folder and its
    SHA-256."""

    store: Storage
    folder: str
    backbone: str
    taken: FeatureSet
    graph: tuple[str, str] | None


class _Source:
    """The FeatureSource of a cluster."""

    def __init__(self, store: Storage, nodes: list[Node]) -> None:
        self._store, self._nodes = store, nodes
        self._indices: dict[str, Index] = {}
        self._seen = False

    def __call__(self, asked: Asked, images: Images, views: Views, tell: Callable[[int, int, str], None]) -> Sharded:
        keys = [views.key(digest, view) for view in range(views.count) for digest in images.digests]
        if asked.key not in self._indices:
            self._indices[asked.key] = Index(self._store, asked.key)
        index = self._indices[asked.key]
        missing = {key: place for place, key in enumerate(keys) if key not in index}
        if missing:
            self._require_sight(images)
            self._compute(asked, images, views, np.sort(list(missing.values())), tell)
        return index.sharded(keys, asked.widths)

    def _require_sight(self, images: Images) -> None:
        """Every machine sees the first image: a path there, as archives are unpacked on one machine alone."""
        if not self._seen:
            require_ready(self._nodes, self._store, images.first_file())
            self._seen = True

    def _compute(
        self,
        asked: Asked,
        images: Images,
        views: Views,
        places: NDArray[np.intp],
        tell: Callable[[int, int, str], None],
    ) -> None:
        import ray
        from ray.exceptions import RayError, RayTaskError

        task = ray.remote(num_cpus=1, max_retries=RETRIES)(compute_shard)
        work, shared_views = ray.put(self._work(asked)), ray.put(views)
        flying: dict[Any, int] = {}
        room = sum(node.cpus for node in self._nodes)
        size = min(SHARD, max(FEWEST, -(-len(places) // room)))
        for start in range(0, len(places), size):
            chunk = places[start : start + size]
            rows, view = chunk % len(images), chunk // len(images)
            flying[task.remote(work, images.some(rows), shared_views, view)] = len(chunk)
        started, done = time.perf_counter(), 0
        index = self._indices[asked.key]
        try:
            while flying:
                ended, _ = ray.wait(list(flying), timeout=_SECONDS)
                for one in ended:
                    name, keys, problem = ray.get(one)
                    if problem:
                        raise SourceError(problem)
                    index.add(name, keys)
                    done += flying.pop(one)
                tell(done, len(places), f"{done / (time.perf_counter() - started):.0f} images/s")
        except RayTaskError:
            raise
        except RayError as error:
            raise ConfigError(
                f"The cluster broke off: {str(error).strip().splitlines()[0]} What it has computed is in "
                f"{self._store.address}, and is found there by the next run."
            ) from None
        finally:
            for one in flying:
                ray.cancel(one, force=True)

    def _work(self, asked: Asked) -> Work:
        graph = None
        if asked.graph is not None:
            content = asked.graph.read_bytes()
            digest = sha256(content).hexdigest()
            graph = f"{asked.key}/{digest}.onnx", digest
            if not self._store.exists(graph[0]):
                self._store.write(graph[0], content)
        return Work(self._store, asked.key, asked.backbone, asked.taken, graph)


def compute_shard(work: Work, images: Images, views: Views, view: NDArray[np.intp]) -> tuple[str, list[str], str]:
    """The name and the keys of a shard, in a process of the cluster: of each image the view of that number. Or, of an
    error, the words, as not all errors can be made again from these."""
    try:
        engine = _engine(work.store.address, work.backbone, work.taken, work.graph)
        digests = images.digests
        keys = [views.key(digest, number) for digest, number in zip(digests, view.tolist(), strict=True)]
        features = np.empty((len(images), engine.width), np.float16)
        for rows, found in computed(engine, images, views, (np.arange(len(images)), view), workers=1):
            features[rows] = found
        return write_shard(work.store, work.folder, keys, features, engine.widths), keys, ""
    except TellapartError as error:
        return "", [], str(error)
    except OSError as error:
        return "", [], f"Features cannot be kept in {work.store.address}: {reason(error)}."


@lru_cache(maxsize=1)
def _engine(address: str, backbone: str, taken: FeatureSet, graph: tuple[str, str] | None) -> FeatureEngine:
    """Of this process, for all its tasks."""
    if graph is None:
        return bundled_engine(backbone, taken)
    return graph_engine(local_copy(Storage(address), *graph), [pool.key for pool in taken.pools])
