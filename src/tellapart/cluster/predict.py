"""`predict --cluster`: a network + images anywhere -> parquet files of answers in shared storage.

Ray Data spreads the parts of the plan over the machines and repeats those that a lost machine had; the storage says
which are done, so the same command goes on after any interruption.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from tellapart import __version__
from tellapart.cluster.answers import MODEL, PartPredictor, Work, counts_of
from tellapart.cluster.connection import Node, connected, require_ready
from tellapart.cluster.inputs import Given, Item, find_items
from tellapart.cluster.plan import Plan, answers_file
from tellapart.cluster.storage import Storage
from tellapart.data.address import has_scheme
from tellapart.errors import ConfigError, TellapartError
from tellapart.inference.predictor import Predictor
from tellapart.parallel import in_order
from tellapart.progress import Phase, Progress

if TYPE_CHECKING:
    from tellapart.models.runtime import Device

MANIFEST = "_manifest.json"
PART = 2000
"""Images of a part: seconds of work, so that little is repeated when a machine is lost, and 500 files a million."""
MOST_CORES = 4
"""Of a predictor. One of more cores needs fewer copies of the network, one of fewer is spread more evenly."""
_BLOCKS = 10_000  # that Ray Data schedules; beyond, several parts are one


@dataclass(frozen=True)
class Answers:
    """What is in the storage: parts, rows, and rows that are errors. predicted: rows of this call."""

    address: str
    parts: int
    rows: int
    errors: int
    predicted: int


@dataclass(frozen=True)
class Options:
    """part_size: images of a part; an existing plan keeps its own."""

    device: Device = "auto"
    batch_size: int | None = None
    part_size: int = PART


def predict_on(
    address: str,
    predictor: Predictor,
    sources: tuple[Sequence[str], Given],
    out: str,
    options: Options,
    progress: Progress,
) -> Answers:
    """Predict what has no answer yet in `out`, a folder or address that all machines share.

    address: of the cluster, as connection.connected takes it. sources: names as `find_items` takes them. Raises
    ConfigError at once for an address, a machine or storage that cannot be used, or answers of another network.
    """
    storage = Storage(out)
    with connected(address) as nodes:
        storage.require_writable()
        size = _begin(storage, predictor, options.part_size)
        names, given = sources
        progress.update(Phase.READING, 0, 0)
        items, image = _peeked(find_items(names, replace(given, rows=size)))
        require_ready(nodes, storage, image)
        plan = Plan(storage, size)
        plan.extend(items)
        left, done = plan.undone()
        counts = dict(zip(done, _counted(storage, done), strict=True))
        cores, gpus = _shares(nodes, options.device)
        work = Work(storage, _digest(predictor), cores, "cuda" if gpus else "cpu", options.batch_size, predictor.bounds)
        predicted = 0
        for part, rows, errors in _spread(left, work, nodes, gpus) if left else ():
            counts[part] = rows, errors
            predicted += rows
            progress.update(Phase.PREDICTING, len(counts), len(left) + len(done), f"{predicted:,} images")
    rows, errors = (sum(column) for column in zip(*counts.values(), strict=True)) if counts else (0, 0)
    _finish(storage, counts)
    return Answers(storage.address, len(counts), rows, errors, predicted)


def _begin(storage: Storage, predictor: Predictor, size: int) -> int:
    """Store the network, or require that it is the one whose answers are there; returns the size of a part."""
    record = {"model": _digest(predictor), "classes": list(predictor.task.classes)}
    found = storage.read_json(MANIFEST)
    if found is None:
        if storage.names():
            raise ConfigError(
                f"{storage.address} holds other files, and no {MANIFEST} of answers that could be continued. "
                "Name an empty folder with --out."
            )
        storage.put(predictor.path, MODEL)
        storage.write_json(MANIFEST, {**record, "tellapart": __version__, "part_size": size, "complete": False})
        return size
    if not isinstance(found, dict) or {key: found.get(key) for key in record} != record:
        raise ConfigError(
            f"The answers in {storage.address} are from another network than this run's, according to {MANIFEST}. "
            "Name the run that gave them, or another --out."
        )
    kept: Any = found.get("part_size")
    if not isinstance(kept, int) or kept < 1:
        raise ConfigError(f"{MANIFEST} in {storage.address} is damaged. Name another --out.")
    return kept


def _finish(storage: Storage, counts: dict[int, tuple[int, int]]) -> None:
    rows, errors = (sum(found[place] for found in counts.values()) for place in (0, 1))
    parts = [{"file": answers_file(part), "rows": r, "errors": e} for part, (r, e) in sorted(counts.items())]
    record = storage.read_json(MANIFEST)
    storage.write_json(MANIFEST, {**record, "complete": True, "rows": rows, "errors": errors, "parts": parts})


def _digest(predictor: Predictor) -> str:
    return sha256(predictor.path.read_bytes()).hexdigest()


def _peeked(items: Iterator[Item]) -> tuple[Iterator[Item], str]:
    """The same, and the first local path that exists here, which every machine must see too; empty if none is near."""
    held: list[Item] = []
    for item in islice(items, PART):
        held.append(item)
        if item.kind != "error" and not has_scheme(item.place) and os.path.exists(item.place):  # noqa: PTH110 - many
            return chain(held, items), item.place
    return chain(held, items), ""


def _counted(storage: Storage, parts: list[int]) -> list[tuple[int, int]]:
    return list(in_order(lambda part: counts_of(storage, part), parts))


def _shares(nodes: list[Node], device: Device) -> tuple[int, int]:
    """Cores and GPUs of a predictor. Raises ConfigError for the device `cuda` where no machine has one."""
    with_gpu = [node for node in nodes if node.gpus]
    if device == "cuda" and not with_gpu:
        raise ConfigError("No machine of the cluster has a GPU that Ray knows of (ray start --num-gpus).")
    if with_gpu and device != "cpu":
        return min(max(1, node.cpus // node.gpus) for node in with_gpu), 1
    return min(MOST_CORES, *(node.cpus for node in nodes)), 0


def _spread(parts: list[int], work: Work, nodes: list[Node], gpus: int) -> Iterator[tuple[int, int, int]]:
    """(part, rows, errors) as each is done."""
    import ray.data
    from ray.exceptions import RayError, RayTaskError

    # The progress is told here.
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    actors = sum(min(node.cpus // work.threads, node.gpus if gpus else node.cpus) for node in nodes)
    data = ray.data.from_items([{"part": part} for part in parts], override_num_blocks=min(len(parts), _BLOCKS))
    answered = data.map_batches(
        PartPredictor,
        fn_constructor_args=(work,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=max(1, min(actors, len(parts)))),
        num_cpus=work.threads,
        num_gpus=gpus,
    )
    try:
        for batch in answered.iter_batches(batch_size=None, prefetch_batches=0):
            yield from zip(*(batch[name].tolist() for name in ("part", "rows", "errors")), strict=True)
    except RayTaskError as error:
        cause = error.cause
        if isinstance(cause, TellapartError):
            raise cause from None
        raise
    except RayError as error:
        raise ConfigError(
            f"The cluster broke off: {str(error).strip().splitlines()[0]} The same command goes on from here."
        ) from None
