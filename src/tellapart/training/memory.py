"""Out of memory during training -> one TrainingError that tells what to reduce."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager

from tellapart.errors import TrainingError
from tellapart.models.backend import ran_out_of_memory
from tellapart.runs.run import RunFolder


@contextmanager
def memory_told(run: RunFolder) -> Iterator[None]:
    """Raises TrainingError if the code inside runs out of memory; the run has then failed."""
    try:
        yield
    except Exception as error:
        if not ran_out_of_memory(error):
            raise
        config, spec = run.config, run.spec
        message = (
            f"Memory ran out while {config.model.name} was trained. Lower train.batch_size (now "
            f"{config.train.batch_size}) or the size of the images, image.height and image.width (now {spec.height}x"
            f"{spec.width}), choose a smaller model, or stop other programs that use memory. To resume unchanged: "
            f"tellapart train --resume {shlex.quote(str(run.path))}"
        )
        run.update(status="failed", error=message)
        raise TrainingError(message) from error
