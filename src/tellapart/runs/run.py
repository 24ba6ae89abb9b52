"""RunFolder: the one folder that holds a run's result. Every file name of a run stands here and nowhere else.

Written by: training, report. Read by: evaluation, inference, report, command line. A folder is a run if it holds a
run.json of ours; the status in it says how far it came. JSON, TOML, CSV, safetensors, Keras and ONNX files; no pickle.
"""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config
from tellapart.data.catalog import Catalog, read_pictures
from tellapart.data.findings import Finding
from tellapart.errors import ConfigError, RunError
from tellapart.files import from_json, read_text, replacing, to_json, write_text
from tellapart.runs.versions import versions
from tellapart.task import ImageSpec, Task

FORMAT = 1
CLEAN_PART = "_without_leaks"
"""Ends the name of a split in metrics.json: its pictures that have no copy among those that were learned from."""
STATUSES = ("training", "interrupted", "failed", "done")


_DAMAGE = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RecursionError, MemoryError, ConfigError,
)  # fmt: skip
"""What reading a file of a run raises where it holds something else than was written."""


@dataclass(frozen=True)
class RunFolder:
    """A run on disk. Properties read the files anew; nothing is cached, so two processes see the same."""

    path: Path

    def __fspath__(self) -> str:
        """So that a run stands wherever its folder does."""
        return os.fspath(self.path)

    @property
    def run_file(self) -> Path:
        return self.path / "run.json"

    @property
    def config_file(self) -> Path:
        return self.path / "config.toml"

    @property
    def catalog_file(self) -> Path:
        return self.path / "catalog.csv"

    @property
    def corrections_file(self) -> Path:
        """What the pictures were corrected by, where they were; the catalog holds the outcome."""
        return self.path / "corrections.csv"

    @property
    def history_file(self) -> Path:
        return self.path / "history.jsonl"

    @property
    def model_file(self) -> Path:
        return self.path / "model.keras"

    @property
    def onnx_file(self) -> Path:
        return self.path / "model.onnx"

    @property
    def means_file(self) -> Path:
        """Class means of the features, which another export needs."""
        return self.path / "class_means.npy"

    @property
    def metrics_file(self) -> Path:
        return self.path / "metrics.json"

    @property
    def predictions_file(self) -> Path:
        return self.path / "predictions.csv"

    @property
    def exports(self) -> Path:
        return self.path / "exports"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    @property
    def report_file(self) -> Path:
        return self.path / "report.html"

    @property
    def explanations(self) -> Path:
        """A folder of figures for each picture that was explained."""
        return self.path / "explain"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def record(self) -> dict[str, Any]:
        """run.json: status, command, versions, seed, digests. Raises RunError where the folder is no run."""
        if not self.path.is_dir():
            raise RunError(f"There is no run {self.path}. `tellapart runs` lists the runs of a folder.")
        try:
            record = from_json(read_text(self.run_file))
            if record["tellapart_run"] != FORMAT:
                raise RunError(
                    f"{self.path} was written by another version of tellapart (format {record['tellapart_run']}, "
                    f"this one reads {FORMAT}). Use the version {record.get('versions', {}).get('tellapart')}."
                )
            if not all(isinstance(record[name], str) for name in ("status", "data", "created")):
                raise TypeError("status, data and created are texts")
            _ = Task.from_dict(record["task"]), ImageSpec.from_dict(record["image"])
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is not a run: it has no run.json. A run is a folder that `tellapart train` wrote."
            ) from None
        except _DAMAGE as error:
            raise _damaged(self.run_file, error) from None
        return dict(record)

    @property
    def status(self) -> str:
        return str(self.record["status"])

    @property
    def task(self) -> Task:
        return Task.from_dict(self.record["task"])

    @property
    def spec(self) -> ImageSpec:
        return ImageSpec.from_dict(self.record["image"])

    @property
    def config(self) -> Config:
        return Config.read(self.config_file)

    @property
    def catalog(self) -> Catalog:
        record = self.record
        with self._reading(self.run_file):
            findings = tuple(Finding(**{**row, "paths": tuple(row["paths"])}) for row in record["findings"])
        pictures, task = read_pictures(self.require(self.catalog_file, "catalog")), self.task
        foreign = {picture.label for picture in pictures if picture.split} - set(task.classes)
        if foreign:
            raise _damaged(self.catalog_file, ValueError(f"it names {min(foreign)!r}, a class that run.json does not"))
        return Catalog(Path(record["data"]), task, pictures, findings, str(record.get("layout", "")))

    @property
    def history(self) -> list[dict[str, Any]]:
        """A row an epoch, in order; a half-written last line, left by a crash, is not read."""
        if not self.history_file.exists():
            return []
        rows = []
        for line in read_text(self.history_file).splitlines():
            try:
                row = from_json(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(row, dict):
                raise _damaged(self.history_file, TypeError("a line that is no object"))
            rows.append(row)
        return rows

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json: by split. Empty before the first evaluation."""
        if not self.metrics_file.exists():
            return {}
        with self._reading(self.metrics_file):
            found = from_json(read_text(self.metrics_file))
            if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
                raise TypeError("it holds no object a split")
            return found

    def write_means(self, means: NDArray[np.float32]) -> None:
        """(classes, width of the features)."""
        with replacing(self.means_file) as neighbour, neighbour.open("wb") as file:
            np.save(file, means, allow_pickle=False)

    @property
    def means(self) -> NDArray[np.float32] | None:
        """What write_means wrote, or None. Raises RunError for a file that is no such array."""
        if not self.means_file.exists():
            return None
        with self._reading(self.means_file):
            # Mapped, so that a header that promises more than the file holds is told before memory is taken.
            return np.array(np.load(self.means_file, mmap_mode="r", allow_pickle=False), np.float32)

    @contextmanager
    def _reading(self, file: Path) -> Iterator[None]:
        """What goes wrong with a file of ours is told as such."""
        try:
            yield
        except _DAMAGE as error:
            raise _damaged(file, error) from None

    def update(self, **values: Any) -> None:
        """Change fields of run.json, whole or not at all."""
        write_text(self.run_file, _json({**self.record, **values, "updated": _now()}))

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        write_text(self.history_file, "".join(to_json(row, ascii=True) + "\n" for row in rows))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        write_text(self.metrics_file, _json(metrics))

    def clear_unfinished(self) -> None:
        """Remove what a killed process had begun to write and never put in its place."""
        for path in self.path.rglob(".*"):
            if path.is_file():
                path.unlink(missing_ok=True)

    def require(self, file: Path, what: str) -> Path:
        """The file, or a RunError that says why it is not there yet."""
        if not file.exists():
            status = self.status
            hint = (
                f" Its status is {status!r}; finish it with: tellapart train --resume {self.path}"
                if status != "done"
                else ""
            )
            raise RunError(f"{self.path} has no {what} ({file.name}).{hint}")
        return file


def open_run(path: str | os.PathLike[str]) -> RunFolder:
    """A run that is there. Raises RunError for a missing, foreign or damaged folder, or one that leads elsewhere."""
    run = RunFolder(Path(path))
    _ = run.record
    for folder in (run.checkpoint, run.figures, run.exports, run.explanations):
        if folder.is_symlink():
            raise RunError(
                f"{folder} is a link, and what a run writes or clears there would be written or cleared elsewhere. "
                "Put a folder of its own in its place."
            )
    return run


def create_run(
    path: Path, *, config: Config, catalog: Catalog, spec: ImageSpec, command: str, decided: list[str]
) -> RunFolder:
    """A new run folder with its configuration, catalog and record, there whole or not at all.

    `decided` says in words what was chosen from the pictures. Raises RunError where something is in the place already.
    """
    path = path.absolute()
    require_free(path)
    record = {
        "tellapart_run": FORMAT,
        "status": "training",
        "created": _now(),
        "command": command,
        "seed": config.seed,
        "task": catalog.task.to_dict(),
        "image": spec.to_dict(),
        "data": str(catalog.root),
        "layout": catalog.layout,
        "config_digest": config.digest,
        "catalog_digest": catalog.digest,
        "decided": decided,
        "findings": [finding.to_dict() for finding in catalog.findings],
        "versions": versions(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    except OSError as error:
        raise RunError(f"Cannot write into {path.parent}: {error.strerror}. Give another --out.") from None
    try:
        draft.chmod(0o755)
        run = RunFolder(draft)
        write_text(run.config_file, config.to_toml())
        catalog.write(run.catalog_file)
        if config.data.corrections is not None:
            shutil.copyfile(config.data.corrections, run.corrections_file)
        write_text(run.run_file, _json(record))
        draft.replace(path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return RunFolder(path)


def require_free(path: Path, noun: str = "run", command: str = "train") -> None:
    """Raise RunError where something is in the place of a new run, or of what else `tellapart COMMAND` writes."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(
            f"{path} exists and is not empty. Give another --out, remove it, or, where it is a {noun} that was "
            f"interrupted, go on with it: tellapart {command} --resume {shlex.quote(str(path))}"
        )


def fresh_path(folder: Path, name: str) -> Path:
    """A path in `folder` that nothing has yet: name-1, name-2 ..."""
    number = 1
    while (folder / f"{name}-{number}").exists():
        number += 1
    return folder / f"{name}-{number}"


def list_runs(folder: Path) -> Iterator[RunFolder]:
    """The readable runs directly inside a folder, oldest first."""
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}.")
    found = []
    for path in folder.iterdir():
        if (path / "run.json").is_file() and not path.name.startswith("."):
            try:
                found.append((RunFolder(path).record["created"], path))
            except RunError:
                continue
    for _, path in sorted(found):
        yield RunFolder(path)


def unit_of(history: Sequence[Mapping[str, Any]]) -> str:
    """What a row of history is: an epoch; or a fit, where a head was only fitted with less and less regularisation."""
    return "fit" if history and all("regularization" in row for row in history) else "epoch"


def _damaged(file: Path, error: Exception) -> RunError:
    return RunError(f"{file} is damaged or not from tellapart ({str(error) or type(error).__name__}).")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _json(value: Any) -> str:
    return to_json(value, indent=2) + "\n"
