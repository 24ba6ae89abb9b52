"""Labelled images + seconds -> the run of the best step that was tried in that time; and resuming that."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tellapart.api.runs import Run, let_run
from tellapart.config import Plan
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog
from tellapart.errors import RunError
from tellapart.experiments.learner import learner
from tellapart.experiments.steps import as_trained
from tellapart.experiments.timed import TimedFolder, create_timed, spend
from tellapart.progress import Progress
from tellapart.report.write import write_report
from tellapart.runs.lock import one_writer
from tellapart.runs.run import RunFolder
from tellapart.training.fit import fit
from tellapart.training.tracker_backends import tracked
from tellapart.words import counted, duration


def train_timed(
    place: Path, plan: Plan, catalog: Catalog, cache: PixelCache, progress: Progress, **record: object
) -> Run:
    """A new run in `place`. record: budget_seconds, data (what the images were read from is called) and command."""
    folder = create_timed(place, plan.config, reasons=list(plan.reasons), **record)
    with one_writer(folder):
        return _spend(folder, catalog, cache.limit_bytes, progress)


def resume_timed(
    path: str | os.PathLike[str],
    *,
    seconds: float | None,
    cache_limit: int,
    model: Any = None,
    trust_code: bool = False,
    progress: Progress,
) -> Run | None:
    """Go on with the steps. seconds: in all, with those already spent; None: unchanged. model, trust_code: as in
    `resume`. Returns None for a run whose steps are through."""
    with TimedFolder.resumed(path, budget_seconds=seconds) as folder:
        if folder.record.get("over"):
            return None
        begun = [name for name in folder.steps if folder.begun(folder.step_run(name).path.name)]
        if not begun:
            raise RunError(f"{path} was stopped before its first step began. Remove it, and train again.")
        first = folder.step_run(begun[0])
        let_run(first, model=model, trust_code=trust_code)
        return _spend(folder, first.catalog, cache_limit, progress)


def _spend(folder: TimedFolder, catalog: Catalog, cache_limit: int, progress: Progress) -> Run:
    learn = learner(folder, cache_limit, folder.record["reasons"], folder.record["data"])
    over = spend(folder, catalog, learn=learn, progress=progress)
    run = RunFolder(folder.path)
    best = str(folder.best)
    if folder.record.get("finished") != best:
        _finish(folder, best, cache_limit, progress)
    if over:
        folder.record["over"] = True
        folder.write()
        folder.sweep()
    else:
        progress.line(f"resume with: {folder.resume_command}")
    return Run(run.path)


def _finish(folder: TimedFolder, best: str, cache_limit: int, progress: Progress) -> None:
    """Make the run of the best step that of the folder, with all that follows on training."""
    run, started = RunFolder(folder.path), time.monotonic()
    if folder.record.get("taken") != best:
        run.take_over(folder.step_run(best))
        run.write_config(as_trained(run))  # what its time ended is not gone on with
        folder.record["taken"] = best
        folder.write()
    tried = sum(step.status == "tried" for step in folder.steps.values())
    note = f"{best}, the best of {counted(tried, 'step')} tried in {duration(folder.record['spent_seconds'])}"
    run.update(decided=tuple(dict.fromkeys([*run.record.decided, note])))
    if run.status != "done":
        with PixelCache(run.spec, limit_bytes=cache_limit) as cache, tracked(run, progress) as watch:
            fit(run, cache, progress=progress, watch=watch)
    run.update(seconds=round(folder.record["spent_seconds"] + time.monotonic() - started, 1))
    folder.record["finished"] = best
    folder.write()
    write_report(run, progress=progress)
