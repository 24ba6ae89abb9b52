"""RunFolder: the folder with a run's result. Every file name of a run is defined here and nowhere else.

Written by training and report. A folder is a run if it contains a run.json written by tellapart; its status tells how
far the run is. JSON, TOML, CSV, safetensors, Keras and ONNX files; no pickle.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.config import Config, Plan
from tellapart.data.catalog import Catalog, read_images
from tellapart.errors import ConfigError, RunError, some
from tellapart.files import clear_drafts, drafting, from_json, to_json
from tellapart.runs import migrate
from tellapart.runs.history import HistoryRow
from tellapart.runs.lock import LOCK
from tellapart.runs.new_folder import require_free, writing_into
from tellapart.runs.record import RunRecord, Status, now, record_from_json
from tellapart.runs.required_plugins import plugins_of
from tellapart.runs.safe_folder import Inside
from tellapart.runs.versions import versions
from tellapart.task import ImageSpec, Task

CLEAN_PART = "_without_leaks"
"""Suffix of a split's name in metrics.json: its images without a copy among those that were used in training."""
PHASES = ("", "head", "fine-tune")
"""Phases of training, each with its own checkpoint: from scratch; or, on a backbone, of the head and of fine-tuning."""
TIME_FILE = "time.json"
"""The record of a run with a time budget: the steps tried. See experiments.timed."""
FIGURES = ("accuracy", "loss", "confusion", "reliability", "coverage")
_FILES = (
    "run.json", "config.toml", "catalog.csv", "corrections.csv", "history.jsonl", "model.keras", "model.onnx",
    "model-fast.onnx", "class_means.npy", "validation_traits.npy", "metrics.json", "predictions.csv", "report.html",
    "README.md", TIME_FILE,
)  # fmt: skip
_TRAINED = ("config.toml", "catalog.csv", "corrections.csv", "history.jsonl")
_FOLDERS = ("checkpoint", "figures", "exports", "explain", "tensorboard")
_CHECKPOINT = re.compile(r"(weights|optimizer)-[0-9]+\.safetensors|state\.json")

_DAMAGE = (
    OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, RecursionError, MemoryError, ConfigError,
    SyntaxError, TokenError,
)  # fmt: skip
"""Errors of reading a file whose content is not what was written; the last two: NumPy's headers."""


@dataclass(frozen=True)
class RunFolder(Inside):
    """A run on disk. Properties read the files every time; nothing is cached, so two processes see the same. Paths are
    checked: RunError for one that is a link."""

    path: Path

    def __fspath__(self) -> str:
        """So that a run can be used as a path."""
        return os.fspath(self.path)

    @property
    def run_file(self) -> Path:
        return self.place("run.json")

    @property
    def config_file(self) -> Path:
        return self.place("config.toml")

    @property
    def catalog_file(self) -> Path:
        return self.place("catalog.csv")

    @property
    def corrections_file(self) -> Path:
        """The corrections that were applied to the images, if any; the catalog holds the result."""
        return self.place("corrections.csv")

    @property
    def history_file(self) -> Path:
        return self.place("history.jsonl")

    @property
    def model_file(self) -> Path:
        return self.place("model.keras")

    @property
    def onnx_file(self) -> Path:
        return self.place("model.onnx")

    @property
    def fast_file(self) -> Path:
        """The network in the arithmetic that inference.optimize chose, if it is not float32."""
        return self.place("model-fast.onnx")

    @property
    def means_file(self) -> Path:
        """Class means of the features, needed for further exports."""
        return self.place("class_means.npy")

    @property
    def traits_file(self) -> Path:
        """What the validation images look like, which new images are compared with."""
        return self.place("validation_traits.npy")

    @property
    def metrics_file(self) -> Path:
        return self.place("metrics.json")

    @property
    def predictions_file(self) -> Path:
        return self.place("predictions.csv")

    @property
    def exports(self) -> Path:
        return self.place("exports")

    @property
    def figures(self) -> Path:
        return self.place("figures")

    @property
    def report_file(self) -> Path:
        return self.place("report.html")

    @property
    def card_file(self) -> Path:
        """The model card, in Markdown."""
        return self.place("README.md")

    @property
    def checkpoint(self) -> Path:
        return self.place("checkpoint")

    def checkpoint_of(self, phase: str, *names: str) -> Path:
        """The checkpoint of a training phase, one of PHASES, or a file in it."""
        return self.place("checkpoint", *([phase] if phase else []), *names)

    @property
    def tensorboard(self) -> Path:
        return self.place("tensorboard")

    @property
    def record(self) -> RunRecord:
        """run.json. Raises RunError if the folder is not a run, or has an unknown format."""
        if not self.path.is_dir():
            raise RunError(f"There is no run {self.path}. `tellapart runs` lists the runs of a folder.")
        try:
            return record_from_json(self.read_text(self.run_file), self.path)
        except FileNotFoundError:
            if self.place(TIME_FILE).exists():
                command = f"tellapart train --resume {shlex.quote(str(self.path))}"
                raise RunError(f"{self.path} was stopped while its time was spent. Go on with it: {command}") from None
            inside = sorted(str(file.parent) for file in self.path.glob("*/run.json"))
            raise RunError(
                f"{self.path} is not a run: it has no run.json. A run is a folder that `tellapart train` wrote"
                + (f"; here are {some(inside, 3)}." if inside else ".")
            ) from None
        except _DAMAGE as error:
            raise _damaged(self.run_file, error) from None

    @property
    def status(self) -> Status:
        return self.record.status

    @property
    def task(self) -> Task:
        return self.record.task

    @property
    def spec(self) -> ImageSpec:
        return self.record.image

    @property
    def config(self) -> Config:
        return Config.read(self.config_file)

    @property
    def catalog(self) -> Catalog:
        record = self.record
        images, task = read_images(self.require(self.catalog_file, "catalog")), record.task
        foreign = {name for image in images if image.split for name in task.labels(image.label)} - set(task.classes)
        if foreign:
            raise _damaged(self.catalog_file, ValueError(f"it names {min(foreign)!r}, a class that run.json does not"))
        return Catalog(self._root(record.data), task, images, record.findings, record.layout)

    def _root(self, data: str) -> Path:
        """The location of the images. Runs before 0.2 stored it as typed, relative to a folder above the run."""
        given = Path(data)
        places = (
            [given] if given.is_absolute() else [above / given for above in (Path.cwd(), *self.path.absolute().parents)]
        )
        return next((place for place in places if place.exists()), places[0])

    @property
    def history(self) -> list[HistoryRow]:
        """One row per epoch, in order; an incomplete last line, left by a crash, is skipped."""
        if not self.history_file.exists():
            return []
        rows = []
        for line in self.read_text(self.history_file).splitlines():
            try:
                row = from_json(line)
            except (ValueError, RecursionError):
                break
            with self._reading(self.history_file):
                rows.append(HistoryRow.from_dict(row))
        return rows

    @property
    def metrics(self) -> dict[str, Any]:
        """metrics.json, by split. Empty before the first evaluation."""
        if not self.metrics_file.exists():
            return {}
        with self._reading(self.metrics_file):
            found = from_json(self.read_text(self.metrics_file))
            if not isinstance(found, dict) or not all(isinstance(values, dict) for values in found.values()):
                raise TypeError("it does not hold an object for each split")
            return {split: migrate.metrics(values) for split, values in found.items()}

    def write_array(self, file: Path, values: NDArray[np.float32]) -> None:
        """file: means_file, (classes, width of the features), or traits_file, (images, traits)."""
        with self.replacing(file) as neighbour, neighbour.open("wb") as opened:
            np.save(opened, values, allow_pickle=False)

    @property
    def means(self) -> NDArray[np.float32] | None:
        """The class means, or None. Raises RunError for a file that is not an array."""
        return self._array(self.means_file)

    @property
    def traits(self) -> NDArray[np.float32] | None:
        """The traits of validation images, or None. Raises RunError for a file that is not an array."""
        return self._array(self.traits_file)

    def _array(self, file: Path) -> NDArray[np.float32] | None:
        if not file.exists():
            return None
        with self._reading(file):
            # Memory-mapped, so that a header that claims more than the file holds fails before memory is allocated.
            return np.array(np.load(file, mmap_mode="r", allow_pickle=False), np.float32)

    @contextmanager
    def _reading(self, file: Path) -> Iterator[None]:
        """Report a damaged file of the run as a RunError."""
        try:
            yield
        except _DAMAGE as error:
            raise _damaged(file, error) from None

    def update(self, **values: Any) -> None:
        """Change fields of run.json atomically."""
        self.write_text(self.run_file, self.record.changed(**values, updated=now()).to_json())

    def write_config(self, config: Config) -> None:
        """Replace the configuration, once training has decided the open settings."""
        self.write_text(self.config_file, config.to_toml())
        self.update(config_digest=config.digest)

    def write_history(self, rows: Iterable[HistoryRow]) -> None:
        self.write_text(self.history_file, "".join(to_json(row.to_dict(), ascii=True) + "\n" for row in rows))

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        self.write_text(self.metrics_file, to_json(metrics, indent=2) + "\n")

    @property
    def missing_report(self) -> str:
        """A message if the run was stopped between its end and its report; a report that was deleted later is not
        missed."""
        if self.record.reported is not False or self.report_file.exists():
            return ""
        command = f"tellapart report {shlex.quote(str(self.path))}"
        return f"{self.path} was stopped before its report was written. Write it with: {command}"

    def clear_checkpoint(self, phase: str, keep: Collection[str] = ()) -> None:
        """Remove the files of a checkpoint except those with these names, and its folder once it is empty."""
        folder = self.checkpoint_of(phase)
        found = list(folder.iterdir()) if folder.is_dir() else []
        self.remove(path for path in found if _CHECKPOINT.fullmatch(path.name) and path.name not in keep)
        if not keep:
            self.remove_folder(folder)

    def clear_checkpoints(self) -> None:
        """Of all phases, once the run is finished."""
        for phase in reversed(PHASES):
            self.clear_checkpoint(phase)

    def take_over(self, other: RunFolder) -> None:
        """Become a copy of another run as far as it was trained; run.json, which makes a run of the folder, comes last.
        A copy that was broken off is made again."""
        self.remove([self.run_file])
        self.clear_checkpoints()
        for file in other.trained_files:
            with self.replacing(self.place(*file.relative_to(other.path).parts)) as neighbour:
                shutil.copyfile(file, neighbour)

    @property
    def trained_files(self) -> list[Path]:
        """What a copy of the run goes on from; run.json, which makes a run of a folder, is the last."""
        files = [self.place(name) for name in _TRAINED]
        files += [file for phase in PHASES for file in sorted(self.checkpoint_of(phase).glob("*"))]
        return [*filter(Path.is_file, files), self.run_file]

    def discard(self) -> None:
        """Remove the run, except files that tellapart did not write, or wrote on request: exports, explanations."""
        self.clear_checkpoints()
        self.remove(self.place("figures", f"{name}.svg") for name in FIGURES)
        self.remove_folder(self.figures)
        self.remove(self.place(name) for name in (*_FILES, LOCK))
        clear_drafts(self.path)
        with suppress(OSError):  # files of the user are left
            self.path.rmdir()

    def require(self, file: Path, what: str) -> Path:
        """The file; RunError with the reason if it does not exist yet."""
        if not file.exists():
            finish = f" Its status is {self.status!r}; finish it with: tellapart train --resume {self.path}"
            raise RunError(f"{self.path} has no {what} ({file.name}).{'' if self.status == 'done' else finish}")
        return file


def open_run(path: str | os.PathLike[str]) -> RunFolder:
    """An existing run. Raises RunError for a missing, foreign or damaged folder, or one that contains a link."""
    run = RunFolder(Path(path))
    _ = run.record
    for name in (*_FILES, *_FOLDERS, LOCK):
        run.place(name)
    for phase in PHASES:
        run.checkpoint_of(phase)
    return run


def create_run(path: Path, plan: Plan, catalog: Catalog, *, command: str = "", source: str = "") -> RunFolder:
    """Create a run folder with its configuration, catalog and record, atomically.

    source: the name of what the images were read from. Raises RunError if the place is taken.
    """
    config, path = plan.config, path.absolute()
    require_free(path)
    record = RunRecord(
        tellapart_run=migrate.FORMAT,
        status="training",
        created=now(),
        command=command,
        seed=config.seed,
        task=catalog.task,
        image=plan.spec,
        data=str(catalog.root.absolute()),
        source=source or catalog.root.name,
        layout=catalog.layout,
        config_digest=config.digest,
        catalog_digest=catalog.digest,
        decided=plan.reasons,
        findings=catalog.findings,
        versions=versions(),
        plugins=plugins_of(config),
    )
    with ExitStack() as stack:
        with writing_into(path.parent):
            draft = stack.enter_context(drafting(path.parent, path.name))
        run = RunFolder(draft)
        run.write_text(run.config_file, config.to_toml())
        catalog.write(run.catalog_file)
        if config.data.corrections is not None:
            shutil.copyfile(config.data.corrections, run.corrections_file)
        run.write_text(run.run_file, record.to_json())
        try:
            draft.replace(path)
        except OSError as error:
            require_free(path)  # another process may have been faster
            raise RunError(f"{path} cannot be created: {error.strerror}. Give another --out.") from None
    return RunFolder(path)


def list_runs(folder: Path) -> Iterator[RunFolder]:
    """The readable runs directly inside a folder, oldest first."""
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}.")
    found = []
    for path in folder.iterdir():
        if (path / "run.json").is_file() and not path.name.startswith("."):
            try:
                found.append((RunFolder(path).record.created, path))
            except RunError:
                continue
    for _, path in sorted(found):
        yield RunFolder(path)


def _damaged(file: Path, error: Exception) -> RunError:
    return RunError(f"{file} is damaged or not from tellapart ({str(error) or type(error).__name__}).")
