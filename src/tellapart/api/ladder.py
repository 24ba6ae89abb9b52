"""Labelled images + a time budget -> LADDER/, with a run for each rung and one page."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.api.datasets import read
from tellapart.api.options import make_config
from tellapart.api.runs import Run, write_report
from tellapart.api.training import resume, train
from tellapart.config import Config
from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
from tellapart.data.catalog import Catalog
from tellapart.data.sources import read_source
from tellapart.experiments.rungs import chosen
from tellapart.progress import BY_HAND, Progress
from tellapart.runs.lock import one_writer
from tellapart.runs.place import new_place

if TYPE_CHECKING:
    from tellapart.experiments.ladder import LadderFolder
    from tellapart.experiments.ladder_result import LadderResult

Watch = Callable[["LadderFolder"], None]
DEFAULT_BUDGET = 600.0


def ladder(
    data: Any,
    *,
    budget: float = DEFAULT_BUDGET,
    out: str | os.PathLike[str] | None = None,
    rungs: Sequence[str] = (),
    config: Config | None = None,
    settings: Sequence[str] = (),
    command: str = "",
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
    watch: Watch = lambda _: None,
) -> LadderResult:
    """Train network after network, from dense layers to a fine-tuned backbone, in `budget` seconds; say which to take.

    data: as in `read`. out: the ladder's folder (default: runs/ladder-N), with a run for each rung and ladder.html.
    rungs: names of experiments.rungs; none: all. config: its seed, data, image and train sections hold for all;
    settings: `section.key=value` for every rung, which win over its row. watch: called with the ladder whenever a
    rung's state changes. Raises ConfigError for an unknown rung, RunError where no rung ends an epoch in time.

    >>> found = ta.ladder("photos/", rungs=["dense", "conv"], settings=["train.epochs=1"], out="runs/ladder")
    >>> found.choice.recommended in ("dense", "conv"), found.n
    (True, 18)
    """
    from tellapart.experiments.ladder import KIND, create_ladder

    started = time.monotonic()
    wanted = chosen(rungs)
    if out:
        KIND.require_free(Path(out))
    catalog, image = _shared_catalog(data, config or Config(), settings, cache_limit, progress)
    with new_place(out, "ladder") as place:
        made = create_ladder(
            place,
            wanted,
            data=str(data),
            budget_seconds=budget,
            config=(config or Config()).to_dict(),
            settings=list(settings),
            image=image,
            command=command,
            spent_seconds=time.monotonic() - started,
        )
    with one_writer(made):
        return _climb(made, catalog, cache_limit, progress, watch)


def resume_ladder(
    path: str | os.PathLike[str],
    *,
    budget: float | None = None,
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
    watch: Watch = lambda _: None,
) -> LadderResult:
    """Go on with a ladder; rungs that are done stay as they are. budget: seconds, with those that were spent before;
    None: as it was. Raises RunError for a folder that is no ladder, or images that changed.

    >>> ta.resume_ladder("runs/ladder", budget=1200).advice  # doctest: +SKIP
    """
    from tellapart.experiments.ladder import open_ladder

    with one_writer(open_ladder(Path(path))):
        found = open_ladder(Path(path))  # as it is once nobody else writes it
        if budget is not None:
            found.record["budget_seconds"] = budget
        catalog = found.catalog
        if catalog is None:
            settings = found.record["settings"]
            catalog, _ = _shared_catalog(found.record["data"], found.config, settings, cache_limit, progress)
        return _climb(found, catalog, cache_limit, progress, watch)


def _shared_catalog(
    data: Any, config: Config, settings: Sequence[str], cache_limit: int, progress: Progress
) -> tuple[Catalog, dict[str, Any]]:
    """The images of all rungs, and their size for networks from nothing, for which they are decoded on the way."""
    from tellapart.training.fit import require_trainable
    from tellapart.training.plan import decide

    common = config.with_values(settings)
    _, spec, _ = decide(make_config(config=common, model="cnn"), read_source(data, common.data))
    with PixelCache(spec, limit_bytes=cache_limit) as cache:
        catalog = read(data, config=common, cache=cache, progress=progress)
    require_trainable(catalog)
    return catalog, spec.to_dict()


def _climb(ladder: LadderFolder, catalog: Catalog, cache_limit: int, progress: Progress, watch: Watch) -> LadderResult:
    from tellapart.experiments.ladder import climb
    from tellapart.experiments.ladder_result import stand
    from tellapart.report.ladder import write_ladder

    def learn(catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress) -> Run:
        if (out / "run.json").exists():
            return resume(out, cache_limit=cache_limit, budget=budget, progress=progress)
        return train(
            catalog,
            config=config,
            out=out,
            command=ladder.record["command"],
            cache_limit=cache_limit,
            budget=budget,
            progress=progress,
        )

    climb(ladder, catalog, train=learn, progress=progress, watch=watch)
    for rung in ladder.rungs:
        run = ladder.run(rung.name)
        # A kill came between a run and its report.
        if ladder.begun(rung.name) and run.metrics and not run.report_file.exists():
            write_report(run.path, progress=progress)
    found = stand(ladder, catalog)
    write_ladder(found)
    return found
