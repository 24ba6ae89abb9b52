"""RunRecord: the content of run.json: the status of a run, its inputs and versions, and its results."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError, model_validator

from tellapart.config import first_problem
from tellapart.data.findings import Finding
from tellapart.errors import RunError
from tellapart.files import from_json, to_json
from tellapart.runs import migrate
from tellapart.tables import Plugin
from tellapart.task import ImageSpec, Task

Status = Literal["training", "interrupted", "failed", "done"]


class StopReason(StrEnum):
    """Why training stopped, as stored in run.json under `stop_reason`."""

    EPOCHS_DONE = "epochs-done"
    NO_BETTER = "no-better"
    CONVERGED = "converged"
    NOT_A_NUMBER = "not-a-number"
    WATCH = "watch"
    INTERRUPTED = "interrupted"
    TIME_UP = "time-up"

    @property
    def goes_on(self) -> bool:
        """Whether the run is unfinished and can be resumed."""
        return self in (StopReason.INTERRUPTED, StopReason.TIME_UP)


@dataclass(frozen=True)
class Stop:
    """words: the reason for people, with epochs and figures."""

    reason: StopReason
    words: str

    def to_dict(self) -> dict[str, str]:
        """As fields of run.json."""
        return {"stopped": self.words, "stop_reason": self.reason.value}


def _value_of(kind: Any) -> Any:
    """A field that holds a Task or an ImageSpec."""
    return BeforeValidator(lambda given: given if isinstance(given, kind) else kind.from_dict(given))


_PLAIN = PlainSerializer(lambda value: value.to_dict())


class RunRecord(BaseModel):
    """Empty, 0 or None means: not known yet, or not known to the version that wrote it. Fields of a newer version are
    kept.

    data: where the images are; source: the name of what they were read from. decided: what was chosen from the images,
    in words. seconds: total training time; image_seconds: of one image on its way through the network. reported: False
    until the report is written. own_layers: for a custom network, the layers in model.keras that are not built in, each
    "module.Class". fast: what inference.optimize found.
    """

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    tellapart_run: int
    status: Status
    created: str
    updated: str = ""
    command: str
    seed: int
    task: Annotated[Task, _value_of(Task), _PLAIN]
    image: Annotated[ImageSpec, _value_of(ImageSpec), _PLAIN]
    data: str
    source: str = ""
    layout: str = ""
    config_digest: str = ""
    catalog_digest: str = ""
    decided: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()
    versions: dict[str, str] = Field(default_factory=dict)
    plugins: tuple[Plugin, ...] = ()
    precision: str = ""
    class_weights: str = ""
    error: str = ""
    seconds: float = 0.0
    image_seconds: float | None = None
    stopped: str = ""
    stop_reason: StopReason | None = None
    best_epoch: int = 0
    parameters: int = 0
    own_layers: tuple[str, ...] = ()
    network: str = ""
    calibration: dict[str, Any] | None = None
    folds: dict[str, float] | None = None
    onnx_difference: float | None = None
    fast: dict[str, Any] | None = None
    verified_images: int = 0
    reported: bool | None = None
    mlflow_run: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> RunRecord:
        if self.status == "done" and not (self.best_epoch and self.stop_reason):
            raise ValueError("its status is done, but the best epoch or the reason why training stopped is missing")
        return self

    @property
    def stop(self) -> Stop:
        """Why training stopped. Raises LookupError if no epoch has ended."""
        if self.stop_reason is None:
            raise LookupError("no reason why training stopped")
        return Stop(self.stop_reason, self.stopped)

    def changed(self, **values: Any) -> RunRecord:
        """A copy with these fields changed. Raises TypeError for an unknown field, ValueError for a wrong value."""
        if foreign := values.keys() - type(self).model_fields.keys():
            raise TypeError(f"A run has no {', '.join(sorted(foreign))}.")
        return type(self).model_validate({**self.to_dict(), **values})

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: the known fields."""
        return self.model_dump(exclude_none=True, exclude_unset=True)

    def to_json(self) -> str:
        return to_json(self.to_dict(), indent=2) + "\n"


def record_from_json(text: str, run: Path) -> RunRecord:
    """The content of run.json of this run, in any supported format. Raises RunError for another format, and ValueError,
    TypeError, LookupError or AttributeError if it is not a record."""
    found = from_json(text)
    if found["tellapart_run"] not in range(migrate.OLDEST, migrate.FORMAT + 1):
        raise RunError(
            f"{run} was written by another version of tellapart (format {found['tellapart_run']}, this one reads "
            f"{migrate.OLDEST} to {migrate.FORMAT}). Use the version {found.get('versions', {}).get('tellapart')}."
        )
    try:
        return RunRecord.model_validate(migrate.record(found))
    except ValidationError as error:
        raise ValueError(first_problem(error)) from None


def now() -> str:
    """The current time as stored in run.json."""
    return datetime.now(UTC).isoformat(timespec="seconds")
