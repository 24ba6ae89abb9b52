"""A trial that only the validation images judge -> its run, trained up to the end of training.

One function for the steps of a time budget and the trials of a search, on this machine or on others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tellapart.config import Config, Plan
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import Catalog
from tellapart.experiments.study import Study
from tellapart.progress import Progress
from tellapart.runs.lock import one_writer
from tellapart.runs.run import RunFolder, create_run

if TYPE_CHECKING:
    from tellapart.training.epochs import Watch
    from tellapart.training.fit import Learned


def learner(study: Study, cache_limit: int, reasons: Sequence[str] = (), source: str = "") -> Callable[..., Learned]:
    """A function that trains the trials that only the validation images judge. reasons, source: of each run."""
    from tellapart.models.backend import forget_networks
    from tellapart.training import fit
    from tellapart.training.epochs import go_on

    def learn(
        catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress, watch: Watch = go_on
    ) -> Learned:
        forget_networks()  # networks of earlier trials are in their files
        deadline, run, plan = time.monotonic() + budget, RunFolder(out), Plan(config, tuple(reasons))
        if not run.run_file.exists():
            run = create_run(out, plan, catalog, command=study.record["command"], source=source)
        with one_writer(run), PixelCache(plan.spec, limit_bytes=cache_limit) as cache:
            return fit.learn(run, cache, deadline=deadline, progress=progress, watch=watch)

    return learn
