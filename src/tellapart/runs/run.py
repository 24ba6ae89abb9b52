"""RunFolder: the one folder that holds a run's result. Every file name of a run stands here and nowhere else.

Written by: training, report. Read by: evaluation, inference, report, command line. A folder is a run if it holds a
run.json of ours; the status in it says how far it came. JSON, TOML, CSV, safetensors, Keras and ONNX files; no pickle.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config
from tellapart.data.catalog import Catalog, read_pictures
from tellapart.data.findings import Finding
from tellapart.errors import RunError
from tellapart.files import read_text, replacing, write_text
from tellapart.task import ImageSpec, Task

FORMAT = 1
CLEAN_PART = "_without_leaks"
"""Ends the name of a split in metrics.json: its pictures that have no copy among those that were learned from."""
STATUSES = ("training", "interrupted", "failed", "done")


@dataclass(frozen=True)
class RunFolder:
    """A run on disk. Properties read the files anew; nothing is cached, so two processes see the same."""

    path: Path

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
            record = json.loads(read_text(self.run_file))
            if record["tellapart_run"] != FORMAT:
                raise RunError(
                    f"{self.path} was written by another version of tellapart (format {record['tellapart_run']}, "
                    f"this one reads {FORMAT}). Use the version {record.get('versions', {}).get('tellapart')}."
                )
        except FileNotFoundError:
            raise RunError(
                f"{self.path} is not a run: it has no run.json. A run is a folder that `tellapart train` wrote."
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.run_file} is damaged or not from tellapart ({error!r}).") from None
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
        findings = tuple(Finding(**{**row, "paths": tuple(row["paths"])}) for row in record["findings"])
        return Catalog(
            Path(record["data"]), self.task, read_pictures(self.catalog_file), findings, record.get("layout", "")
        )

    @property
    def history(self) -> list[dict[str, Any]]:
        """A row an epoch, in order; a half-written last line, left by a crash, is not read."""
        if not self.history_file.exists():
            return []
        rows = []
        for line in read_text(self.history_file).splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        return rows

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json: by split. Empty before the first evaluation."""
        if not self.metrics_file.exists():
            return {}
        return dict(json.loads(read_text(self.metrics_file)))

    def write_means(self, means: NDArray[np.float32]) -> None:
        """(classes, width of the features)."""
        with replacing(self.means_file) as neighbour, neighbour.open("wb") as file:
            np.save(file, means, allow_pickle=False)

    @property
    def means(self) -> NDArray[np.float32] | None:
        """What write_means wrote, or None. Raises RunError for a file that is no such array."""
        if not self.means_file.exists():
            return None
        try:
            found = np.load(self.means_file, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise RunError(f"{self.means_file} is damaged or not from tellapart ({error}).") from None
        return np.asarray(found, np.float32)

    def update(self, **values: Any) -> None:
        """Change fields of run.json, whole or not at all."""
        write_text(self.run_file, _json({**self.record, **values, "updated": _now()}))

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        write_text(self.history_file, "".join(json.dumps(row) + "\n" for row in rows))

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
    """A run that is there. Raises RunError for a missing, foreign or damaged folder."""
    run = RunFolder(Path(path))
    _ = run.record
    return run


def create_run(
    path: Path, *, config: Config, catalog: Catalog, spec: ImageSpec, command: str, decided: list[str]
) -> RunFolder:
    """A new run folder with its configuration, catalog and record, there whole or not at all.

    `decided` says in words what was chosen from the pictures. Raises RunError where something is in the place already.
    """
    path = path.absolute()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(
            f"{path} exists and is not empty. Give another --out, remove it, or go on with that run: "
            f"tellapart train --resume {path}"
        )
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


def versions() -> dict[str, str]:
    """What a run was made with: tellapart, Python, the machine and the libraries that decide its numbers."""
    found = {"python": platform.python_version(), "machine": f"{platform.system()} {platform.machine()}"}
    for name in ("tellapart", "tensorflow", "keras", "numpy", "pillow", "opencv-python-headless", "onnxruntime"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def command_line() -> str:
    """The command that repeats this process, as one would type it."""
    import shlex

    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
