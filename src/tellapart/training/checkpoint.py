"""Checkpoint: the state after an epoch, from which training resumes exactly.

weights-N and optimizer-N are written once, atomically; state.json, written last, tells which epoch is the newest and
which the best. A kill at any moment leaves the state of the epoch before or after, never a mixture.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.errors import RunError
from tellapart.files import from_json, to_json
from tellapart.runs.run import RunFolder

if TYPE_CHECKING:
    import keras


class Checkpoint:
    """The checkpoint of a phase of training, one of runs.run.PHASES. weights: whether they are stored, or, in a process
    that does not lead, only which epoch was reached."""

    def __init__(self, run: RunFolder, phase: str = "", *, weights: bool = True) -> None:
        self.run, self.phase, self.weights = run, phase, weights

    @property
    def state(self) -> dict[str, int]:
        """{"epoch": newest, "best": best}, counted from 1; both 0 before the first epoch ended. And what `add` added.
        Raises RunError for a file with any other content."""
        path = self._file("state.json")
        if not path.exists():
            return {"epoch": 0, "best": 0}
        try:
            found = from_json(self.run.read_text(path))
            if not all(type(value) is int for value in (found["epoch"], found["best"], *found.values())):
                raise TypeError("epoch and best are whole numbers")
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise RunError(f"The checkpoint {path} cannot be read ({error}). Start the run again.") from None
        return dict(found)

    def save(self, model: keras.Model, optimizer: keras.Optimizer, epoch: int, best: int) -> None:
        if self.weights:
            self._write(f"weights-{epoch}.safetensors", model.variables)
            self._write(f"optimizer-{epoch}.safetensors", optimizer.variables)
        self.run.write_text(self._file("state.json"), to_json({"epoch": epoch, "best": best}))
        needed = (f"weights-{epoch}.safetensors", f"weights-{best}.safetensors", f"optimizer-{epoch}.safetensors")
        self.run.clear_checkpoint(self.phase, keep=(*needed, "state.json"))

    def add(self, **values: int) -> None:
        """What is known once the last epoch has ended, until another one does."""
        self.run.write_text(self._file("state.json"), to_json(self.state | values))

    def restore(self, model: keras.Model, optimizer: keras.Optimizer) -> int:
        """Load the newest epoch into a model, and into its optimizer; returns the epoch, 0 if there is none."""
        epoch = self.state["epoch"]
        if epoch:
            _read(self._file(f"weights-{epoch}.safetensors"), model.variables)
            _read(self._file(f"optimizer-{epoch}.safetensors"), optimizer.variables)
        return epoch

    def restore_best(self, model: keras.Model) -> int:
        """Load the best epoch's weights into the model; returns the epoch."""
        best = self.state["best"]
        _read(self._file(f"weights-{best}.safetensors"), model.variables)
        return best

    def _file(self, name: str) -> Path:
        return self.run.checkpoint_of(self.phase, name)

    def _write(self, name: str, variables: list[Any]) -> None:
        from safetensors.numpy import save

        path = self._file(name)
        # Keras itself would write another file beside it first, which a kill would leave there.
        content = save({f"{i:05d}": np.array(v.numpy()) for i, v in enumerate(variables)})
        with self.run.replacing(path) as neighbour:
            try:
                neighbour.write_bytes(content)
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from None


def _read(path: Path, variables: list[Any]) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            for index, variable in enumerate(variables):
                variable.assign(file.get_tensor(f"{index:05d}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise RunError(f"The checkpoint {path} cannot be read ({error}). Start the run again.") from None
