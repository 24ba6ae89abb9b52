"""A run in training -> TensorBoard files or an MLflow server: settings, epochs, final metrics, files.

In: a run folder, and rows of history as they come. A failing tracker never stops training: it is reported once, and a
resumed run logs what is missing. Needs the extra `track`.
"""

from __future__ import annotations

import os
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from tellapart.config import Config
from tellapart.errors import ConfigError, TellapartError, require_extra
from tellapart.inference.mlflow_export import save_pyfunc, start_mlflow
from tellapart.progress import Progress
from tellapart.runs.history import HistoryRow
from tellapart.runs.run import RunFolder
from tellapart.training.epochs import Watch
from tellapart.training.trackers import TRACKERS, require_known

ADDRESS = "MLFLOW_TRACKING_URI"
EXPERIMENT = "MLFLOW_EXPERIMENT_NAME"
_OURS = ".tellapart"  # suffix of the event files written for a run, and of no others
_LONGEST = 6000  # most characters of a parameter in MLflow


class Tracker(Protocol):
    """A destination for the metrics of a run. errors: exceptions of its library when it fails."""

    name: str

    @property
    def errors(self) -> tuple[type[Exception], ...]: ...

    def begin(self, run: RunFolder) -> None:
        """Settings, and every row of history so far."""

    def row(self, row: HistoryRow) -> None:
        """Log a row of history; a row is logged only once."""

    def end(self, run: RunFolder, status: str) -> None:
        """Log final metrics and files. status: FINISHED, KILLED or FAILED."""


class TensorBoard:
    """Event files in RUN/tensorboard, rewritten from the history when a run is resumed."""

    name = "TensorBoard"
    errors = (OSError,)

    def begin(self, run: RunFolder) -> None:
        from tensorboard.plugins.hparams.summary_v2 import hparams_pb
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        folder = run.make_folder(run.tensorboard)
        run.remove(folder.glob(f"events.out.tfevents.*{_OURS}"))
        self._writer = EventFileWriter(str(folder), filename_suffix=_OURS)
        self._last = 0
        self._add(hparams_pb(settings_of(run.config)), 0)
        for row in run.history:
            self.row(row)

    def row(self, row: HistoryRow) -> None:
        if row.epoch > self._last:
            self._last = row.epoch
            self._scalars(figures_of(row), row.epoch)

    def end(self, run: RunFolder, status: str) -> None:  # noqa: ARG002 - of the protocol
        self._scalars(final_figures(run), self._last)
        self._writer.close()

    def _scalars(self, figures: Mapping[str, float], step: int) -> None:
        from tensorboard.compat.proto.summary_pb2 import Summary

        self._add(Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in figures.items()]), step)
        self._writer.flush()

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        self._writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))


class Mlflow:
    """A run on the server in MLFLOW_TRACKING_URI; its id is stored in run.json for a resumed run."""

    name = "MLflow"

    def __init__(self) -> None:
        start_mlflow()
        with warnings.catch_warnings():
            # Deprecated names inside the library are for its maintainers to fix.
            warnings.simplefilter("ignore")
            from mlflow.exceptions import MlflowException
        self.errors: tuple[type[Exception], ...] = (MlflowException, OSError)

    def begin(self, run: RunFolder) -> None:
        from mlflow import MlflowClient
        from mlflow.entities import Param

        self._client = MlflowClient(tracking_uri=os.environ[ADDRESS])
        known = run.record.mlflow_run
        if known:
            self._id = known
            self._client.update_run(known, status="RUNNING")
            self._last = max((each.step for each in self._client.get_metric_history(known, "val_loss")), default=0)
        else:
            self._id = self._client.create_run(self._experiment(), run_name=run.path.name).info.run_id
            self._last = 0
            settings = settings_of(run.config).items()
            self._client.log_batch(self._id, params=[Param(name, str(value)[:_LONGEST]) for name, value in settings])
            run.update(mlflow_run=self._id)
        for row in run.history:
            self.row(row)

    def row(self, row: HistoryRow) -> None:
        if row.epoch > self._last:
            self._last = row.epoch
            self._metrics(figures_of(row), row.epoch)

    def end(self, run: RunFolder, status: str) -> None:
        self._metrics(final_figures(run), self._last)
        for file in (run.config_file, run.metrics_file, run.report_file, run.onnx_file):
            if file.exists():
                self._client.log_artifact(self._id, str(file))
        if run.onnx_file.exists() and find_spec("pandas"):
            with tempfile.TemporaryDirectory() as folder:
                save_pyfunc(run.onnx_file, Path(folder) / "model")
                self._client.log_artifacts(self._id, str(Path(folder) / "model"), "model")
        self._client.set_terminated(self._id, status)

    def _experiment(self) -> str:
        name = os.environ.get(EXPERIMENT) or "tellapart"
        found = self._client.get_experiment_by_name(name)
        return str(found.experiment_id if found else self._client.create_experiment(name))

    def _metrics(self, figures: Mapping[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        if figures:
            self._client.log_batch(self._id, [Metric(name, value, now, step) for name, value in figures.items()])


def _require_address() -> None:
    if not os.environ.get(ADDRESS):
        raise ConfigError(
            f"Tracking by mlflow needs the address of its server in {ADDRESS}, such as http://127.0.0.1:5000 "
            "(`mlflow server` starts one)."
        )


def _nothing() -> None:
    """The `require` of a tracker without requirements."""


@dataclass(frozen=True)
class TrackerKind:
    """A row of training.trackers. make: returns a tracker for one run. needs: the module and the extra of tellapart
    that installs it, if any. require: raises ConfigError if it is not configured."""

    name: str
    make: Callable[[], Tracker]
    needs: tuple[str, str] | None = None
    require: Callable[[], None] = _nothing


TENSORBOARD = TrackerKind("tensorboard", TensorBoard, ("tensorboard", "track"))
MLFLOW = TrackerKind("mlflow", Mlflow, ("mlflow", "track"), _require_address)


def require_trackers(config: Config) -> None:
    """Raises ConfigError for an unknown tracker, MissingExtraError for one that is not installed, ConfigError for one
    that is not configured, such as MLflow without an address."""
    require_known(config.train.track)
    kinds = [TRACKERS.find(name) for name in config.train.track]
    for kind in kinds:
        if kind.needs is not None:
            require_extra(f"Tracking by {kind.name}", kind.needs[1], kind.needs[0])
    for kind in kinds:
        kind.require()


@contextmanager
def tracked(run: RunFolder, progress: Progress) -> Iterator[Watch]:
    """Log the run to the trackers in its configuration: at the start, each row that the Watch gets, and at the end,
    when the run has its report."""
    telling = [_Telling(TRACKERS.find(name).make(), run, progress) for name in run.config.train.track]

    def watch(row: HistoryRow) -> str:
        for each in telling:
            each.row(row)
        return ""

    for each in telling:
        each.begin()
    try:
        yield watch
    except (TellapartError, KeyboardInterrupt) as error:
        for each in telling:
            each.end("KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
        raise
    for each in telling:
        each.end("FINISHED" if run.status == "done" else "KILLED")


class _Telling:
    """One tracker, which is disabled after its first error."""

    def __init__(self, tracker: Tracker, run: RunFolder, progress: Progress) -> None:
        self._tracker, self._run, self._progress = tracker, run, progress
        self._lost = False

    def begin(self) -> None:
        with self._told():
            self._tracker.begin(self._run)

    def row(self, row: HistoryRow) -> None:
        if not self._lost:
            with self._told():
                self._tracker.row(row)

    def end(self, status: str) -> None:
        if not self._lost:
            with self._told():
                self._tracker.end(self._run, status)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except self._tracker.errors as error:
            self._lost = True
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            self._progress.line(
                f"{self._tracker.name} cannot log {self._run.path.name}: {reason[:300]} "
                "Training continues; the run folder has everything."
            )


def figures_of(row: HistoryRow) -> dict[str, float]:
    """The metrics of a row of history, by name."""
    return {name: value for name, value in row.to_dict().items() if isinstance(value, float)}


def final_figures(run: RunFolder) -> dict[str, float]:
    """The final metrics, with the limits of each interval: `test/accuracy`, `test/accuracy_low` ..."""
    found = {}
    for split, metrics in run.metrics.items():
        for name, figure in metrics.items():
            if isinstance(figure, dict) and {"value", "low", "high"} <= figure.keys():
                found[f"{split}/{name}"] = float(figure["value"])
                found |= {f"{split}/{name}_{end}": float(figure[end]) for end in ("low", "high")}
    return found


def settings_of(config: Config) -> dict[str, str | float | bool]:
    """Every setting by its `section.key`; lists as text."""
    found: dict[str, str | float | bool] = {}

    def add(prefix: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                add(f"{prefix}{key}.", value)
            else:
                found[prefix + key] = value if isinstance(value, str | int | float) else str(list(value))

    add("", config.to_dict())
    return found
