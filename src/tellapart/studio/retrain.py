"""Corrections -> a new run by `tellapart train` in a process of its own, compared with the one before it on its test
images.

The new run gets the images of the old one with their splits, so that both are judged by the same; images that visitors
sent are added for training alone.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tellapart as ta
from tellapart.api.additions import with_training_images
from tellapart.config import Config
from tellapart.data.sources.image_paths import locate
from tellapart.errors import ConfigError, TellapartError
from tellapart.files import terminal_safe
from tellapart.runs.run import RunFolder
from tellapart.words import counted, measured

_LINES = 12
_PATIENCE = 20.0


@dataclass
class Retrain:
    """One training. state: running, done, failed or stopped. lines: the last that it said. added: which images were, in
    sentences. result: of `compared`."""

    out: Path
    state: str = "running"
    started: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    lines: deque[str] = field(default_factory=lambda: deque(maxlen=_LINES))
    added: tuple[str, ...] = ()
    result: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For the page."""
        seconds = time.monotonic() - self.started if self.state == "running" else self.seconds
        told = {"state": self.state, "seconds": round(seconds), "lines": list(self.lines), "run": str(self.out)}
        return told | {"result": self.result}


class Trainer:
    """Starts one training at a time, and ends it with the studio."""

    def __init__(self, data: str, options: Sequence[str], run: RunFolder | None, corrections: Path | None) -> None:
        """data, options: of `tellapart train`, where there is no run to begin from. corrections: None for data that is
        trained on as it is."""
        self._data, self._options, self._run, self._corrections = data, list(options), run, corrections
        self.added: Callable[[], tuple[Path, Mapping[str, str]]] = lambda: (Path(), {})
        """Images to train a run on besides: their folder, and the class of each by its path in it."""
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()
        self.last: Retrain | None = None

    def start(self) -> bool:
        """Whether one was started: not while another runs."""
        with self._lock:
            if self.last is not None and self.last.state == "running":
                return False
            self.last = Retrain(_free(self.wanted))
            threading.Thread(target=self._go, args=(self.last,), daemon=True).start()
            return True

    def stop(self) -> None:
        """Ends what runs; the folder that it leaves can be resumed."""
        process = self._process
        if process is not None and process.poll() is None:
            if self.last is not None:
                self.last.state = "stopped"
            process.terminate()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()

    @property
    def wanted(self) -> Path:
        """The folder of the new run; with a number behind it where that is taken."""
        if self._run is None:
            name = re.sub(r"[^\w.-]+", "-", Path(self._data).name.removesuffix(".labels.csv")).strip("-") or "images"
            return Path("runs") / (name if self._corrections is None else f"{name}-corrected")
        return self._run.path.absolute().parent / f"{self._run.path.absolute().name}-corrected"

    def _go(self, told: Retrain) -> None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                there = self._corrections is not None and self._corrections.exists()
                corrected = ["--corrections", str(self._corrections)] if there else []
                command = [*self._command(Path(folder), told), *corrected, "--out", str(told.out)]
                code = self._watch(command, told)
            if told.state == "running":
                if code == 0 and self._run is not None:
                    told.result = compared(self._run, told.out)
                    told.result["notes"] = [*told.added, *told.result["notes"]]
                told.state = "done" if code == 0 else "failed"
        except (TellapartError, OSError) as error:
            told.lines.append(terminal_safe(str(error)))
            told.state = "failed"
        finally:
            told.seconds = time.monotonic() - told.started

    def _command(self, folder: Path, told: Retrain) -> list[str]:
        train = [sys.executable, "-m", "tellapart", "train"]
        if self._run is None:
            return [*train, self._data, *self._options]
        config = self._run.config
        # What the catalog says already is not asked of its table.
        said = {"label_pattern": None, "path_column": None, "label_column": None, "corrections": None, "group_by": None}
        plain = config.model_copy(update={"data": config.data.model_copy(update={**said, "root": None})})
        file = folder / "config.toml"
        file.write_text(Config.to_toml(plain), encoding="utf-8")
        catalog, (place, added) = self._run.catalog, self.added()
        found = catalog.root.is_dir() and locate(catalog.root, catalog.images[0].path)
        if not found and added:
            raise ConfigError(f"The images of {self._run.path} are not files of a folder: none can be added to them.")
        if not found:
            return [*train, str(catalog.root), "--config", str(file)]
        table = self._run.catalog_file
        if added:
            more = with_training_images(self._run, place, added)
            told.added = tuple(f"{text[0].upper()}{text[1:]}." for text in more.told)
            table = folder / table.name
            more.catalog.write(table)
        return [*train, str(table), "--root", str(catalog.root), "--config", str(file)]

    def _watch(self, command: list[str], told: Retrain) -> int:
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "100"}
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
        ) as process:
            self._process = process
            for line in process.stdout or ():
                if line.strip():
                    told.lines.append(terminal_safe(line.rstrip()))
            return process.wait()


def compared(before: RunFolder, after: Path) -> dict[str, Any]:
    """Both runs on the test images that they share, for the page: numbers are in words."""
    try:
        found = ta.compare(before.path, after)
    except TellapartError as error:
        return {"verdict": "", "notes": [str(error)]}
    return {
        "verdict": found.verdict,
        "before": measured(found.accuracies[0]),
        "after": measured(found.accuracies[1]),
        "images": found.n,
        "notes": [
            *found.notes,
            *(f"Left out: {counted(each.images, 'image')}: {each.reason}." for each in found.left_out),
        ],
    }


def _free(wanted: Path) -> Path:
    """The folder, or with a number behind it where that is taken."""
    number, found = 1, wanted
    while found.exists():
        number += 1
        found = wanted.with_name(f"{wanted.name}-{number}")
    return found
