"""Labelled images + a starting configuration + a time budget -> TUNE/, with the runs of the start and the best."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.api.datasets import read
from tellapart.api.options import known_options, make_config
from tellapart.api.runs import write_report
from tellapart.api.training import resume
from tellapart.config import AUTO, Config
from tellapart.data.cache import DEFAULT_LIMIT, PixelCache
from tellapart.data.catalog import Catalog
from tellapart.errors import require_extra
from tellapart.models.pretrained_weights import require_weights
from tellapart.models.registry import resolve
from tellapart.progress import BY_HAND, Progress
from tellapart.runs.lock import one_writer
from tellapart.runs.place import new_place
from tellapart.runs.run import RunFolder, create_run
from tellapart.task import ImageSpec

if TYPE_CHECKING:
    from tellapart.experiments.tune import Trial, TuneFolder
    from tellapart.experiments.tune_result import TuneResult
    from tellapart.training.epochs import HistoryRow, Watch

Watching = Callable[["TuneFolder", list["Trial"]], None]
DEFAULT_BUDGET = 1200.0


def tune(
    data: Any,
    *,
    budget: float = DEFAULT_BUDGET,
    trials: int | None = None,
    out: str | os.PathLike[str] | None = None,
    config: Config | None = None,
    command: str = "",
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
    watch: Watching = lambda *_: None,
    **options: Any,
) -> TuneResult:
    """Search for a better configuration in `budget` seconds, on the validation images; then look at the test ones.

    data: as in `read`. trials: at most so many. out: the search's folder (default: runs/tune-N). config: the one to
    begin from, the first trial; options: those of `make_config` instead. What is searched follows from its model:
    docs/tune.md. watch: called with the folder and its trials as they change. Raises MissingExtraError without the
    extra `tune`, RunError where not even the first trial is finished in time.

    >>> found = ta.tune("photos/", model="dense", epochs=1, trials=2, out="runs/tune")
    >>> found.start.name, found.best.name in ("trial-1", "trial-2"), found.tune.best_file.name
    ('trial-1', True, 'best.toml')
    """
    from tellapart.experiments.tune import KIND, create_tune
    from tellapart.training.track import require_trackers

    started = time.monotonic()
    require_extra("Searching for a better configuration", "tune", "optuna")
    config = config or make_config(**known_options(options))
    require_trackers(config)
    if out:
        KIND.require_free(Path(out))
    start, catalog = _start(data, config, cache_limit, progress)
    with new_place(out, "tune") as place:
        made = create_tune(
            place,
            start,
            data=str(data),
            budget_seconds=budget,
            trials=trials,
            command=command,
            spent_seconds=time.monotonic() - started,
        )
    with one_writer(made):
        return _search(made, catalog, cache_limit, progress, watch)


def resume_tune(
    path: str | os.PathLike[str],
    *,
    budget: float | None = None,
    trials: int | None = None,
    cache_limit: int = DEFAULT_LIMIT,
    progress: Progress = BY_HAND,
    watch: Watching = lambda *_: None,
) -> TuneResult:
    """Go on with a search; what was tried counts. budget, trials: in all, with those of before; None: as it was.
    Raises RunError for a folder that is no search, or images that changed.

    >>> ta.resume_tune("runs/tune", budget=2400).advice  # doctest: +SKIP
    """
    from tellapart.experiments.tune import open_tune

    require_extra("Searching for a better configuration", "tune", "optuna")
    with one_writer(open_tune(Path(path))):
        found = open_tune(Path(path))  # as it is once nobody else writes it
        given = {"budget_seconds": budget, "trials": trials}
        found.record |= {name: value for name, value in given.items() if value is not None}
        catalog = found.catalog
        if catalog is None:
            _, catalog = _start(found.record["data"], found.start, cache_limit, progress)
        return _search(found, catalog, cache_limit, progress, watch)


def _start(data: Any, config: Config, cache_limit: int, progress: Progress) -> tuple[Config, Catalog]:
    """The configuration with everything decided, and the images of all trials, decoded for the first on the way."""
    from tellapart.data.sources import read_source
    from tellapart.training.effects import without_effect
    from tellapart.training.fit import require_trainable
    from tellapart.training.plan import decide

    if config.model.name != AUTO:
        resolve(config.model)  # before any image is read
    require_weights(config.model.weights)
    source = read_source(data, config.data)
    decided, spec, _ = decide(config, source)
    for text in without_effect(config, decided, source):
        progress.line(text)
    with PixelCache(spec, limit_bytes=cache_limit) as cache:
        catalog = read(data, config=decided, cache=cache, progress=progress)
    require_trainable(catalog)
    return decided, catalog


def _search(tune: TuneFolder, catalog: Catalog, cache_limit: int, progress: Progress, watch: Watching) -> TuneResult:
    from tellapart.experiments.tune import search
    from tellapart.experiments.tune_result import chosen_of, judge
    from tellapart.report.tune import write_tune

    def learn(
        catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress, watch: Watch
    ) -> HistoryRow:
        from tellapart.models.backend import start_keras
        from tellapart.training import fit

        start_keras().utils.clear_session()  # networks of earlier trials are in their files
        deadline, run = time.monotonic() + budget, RunFolder(out)
        spec = ImageSpec.from_dict(config.image.model_dump())
        if not run.run_file.exists():
            command = tune.record["command"]
            run = create_run(out, config=config, catalog=catalog, spec=spec, command=command, decided=[])
        with one_writer(run), PixelCache(spec, limit_bytes=cache_limit) as cache:
            return fit.learn(run, cache, deadline=deadline, progress=progress, watch=watch)

    search(tune, catalog, learn=learn, progress=progress, watch=watch)
    for number in sorted({1, chosen_of(tune).number}):
        run = tune.trial(number)
        if run.status != "done":
            progress.line(f"finishing {run.path.name}: the test images, once")
            resume(run.path, cache_limit=cache_limit, progress=progress)
        elif not run.report_file.exists():  # a kill came between a run and its report
            write_report(run.path, progress=progress)
    found = judge(tune)
    write_tune(found)
    return found
