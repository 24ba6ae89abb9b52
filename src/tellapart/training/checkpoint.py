"""Checkpoint: the network after an epoch, so that training goes on from there as if nothing had happened.

weights-N and optimizer-N are written once, whole; state.json, written last, says which epoch is the newest and which
the best. A kill at any moment leaves the state of the epoch before or after, never a mixture.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tellapart.errors import RunError
from tellapart.files import from_json, read_text, replacing, to_json, write_text

if TYPE_CHECKING:
    import keras


class Checkpoint:
    """The folder `checkpoint/` of a run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def state(self) -> dict[str, int]:
        """{"epoch": newest, "best": best}, counted from 1; both 0 before the first epoch ended. Raises RunError for a
        file that says something else."""
        path = self.folder / "state.json"
        if not path.exists():
            return {"epoch": 0, "best": 0}
        try:
            found = from_json(read_text(path))
            if not all(type(found[name]) is int for name in ("epoch", "best")):
                raise TypeError("epoch and best are whole numbers")
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise RunError(f"The checkpoint {path} cannot be read ({error}). Start the run again.") from None
        return dict(found)

    def save(self, model: keras.Model, epoch: int, best: int) -> None:
        _write(self.folder / f"weights-{epoch}.safetensors", model.variables)
        _write(self.folder / f"optimizer-{epoch}.safetensors", model.optimizer.variables)
        write_text(self.folder / "state.json", to_json({"epoch": epoch, "best": best}))
        needed = {f"weights-{epoch}.safetensors", f"weights-{best}.safetensors", f"optimizer-{epoch}.safetensors"}
        for path in self.folder.iterdir():
            if path.name not in needed | {"state.json"}:
                path.unlink(missing_ok=True)

    def restore(self, model: keras.Model) -> int:
        """Put the newest epoch into a compiled model, optimizer included; returns the epoch, 0 if there is none."""
        epoch = self.state["epoch"]
        if epoch:
            _read(self.folder / f"weights-{epoch}.safetensors", model.variables)
            _read(self.folder / f"optimizer-{epoch}.safetensors", model.optimizer.variables)
        return epoch

    def restore_best(self, model: keras.Model) -> int:
        """Put the best epoch's weights into the model; returns the epoch."""
        best = self.state["best"]
        _read(self.folder / f"weights-{best}.safetensors", model.variables)
        return best

    def remove(self) -> None:
        """Once the run is finished."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _write(path: Path, variables: list[Any]) -> None:
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with replacing(path) as neighbour:
        try:
            save_file({f"{i:05d}": np.array(v.numpy()) for i, v in enumerate(variables)}, neighbour)
        except SafetensorError as error:
            number = re.search(r"os error (\d+)", str(error))
            if number is None:
                raise
            # As any other file tells it: whoever has the disk can mend it.
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def _read(path: Path, variables: list[Any]) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            for index, variable in enumerate(variables):
                variable.assign(file.get_tensor(f"{index:05d}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise RunError(f"The checkpoint {path} cannot be read ({error}). Start the run again.") from None
