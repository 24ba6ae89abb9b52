"""Run folders -> one row each, filtered and sorted, for `tellapart runs` and the index page.

Reads run.json, config.toml, history and metrics of each run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Any

from tellapart.errors import ConfigError, RunError, TellapartError, unknown
from tellapart.runs.record import RunRecord
from tellapart.runs.run import RunFolder

_CONDITION = re.compile(r"([\w-]+)\s*(>=|<=|!=|=|>|<)\s*(.*)")
_COMPARED: dict[str, Callable[[float, float], bool]] = {
    "=": lambda a, b: a == b,
    "!=": lambda a, b: a != b,
    ">": lambda a, b: a > b,
    "<": lambda a, b: a < b,
    ">=": lambda a, b: a >= b,
    "<=": lambda a, b: a <= b,
}


@dataclass(frozen=True)
class RunSummary:
    """run: path of the folder; name: its last part. created: ISO 8601, UTC. data: where the images were; source: the
    name of the folder, archive or table that they were read from.

    time: total seconds of training; for runs before 0.2, of the epochs alone. split, images, accuracy: what the run was
    evaluated on, and its result; accuracy has value, low and high, in 0..1. use: the verdict: alone, with a person, or
    not yet; verdict: the same as a sentence. None if the run is not that far. error: what is damaged in the run; most
    of the other fields are then unknown.
    """

    run: str
    name: str
    status: str
    created: str
    model: str
    data: str
    classes: int
    epochs: int
    time: float
    split: str | None
    images: int | None
    accuracy: dict[str, float] | None
    use: str | None = None
    verdict: str | None = None
    source: str = ""
    error: str = ""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


FIELDS = tuple(RunSummary.__annotations__)
# The most useful order first: best accuracy, shortest time, newest; then alphabetical.
SORTS: dict[str, Callable[[RunSummary], Any]] = {
    "created": lambda row: row.created,
    "name": lambda row: row.name,
    "accuracy": lambda row: -row.accuracy["value"] if row.accuracy else 1.0,
    "time": lambda row: row.time,
    "epochs": lambda row: row.epochs,
    "model": lambda row: row.model,
    "status": lambda row: row.status,
}


def summarize(run: RunFolder) -> RunSummary:
    """The row of one run, finished or not. Raises RunError for values that are not numbers."""
    record, history = run.record, run.history
    split, values = next(iter(run.metrics.items()), (None, None))
    try:
        verdict = (values and values.get("verdict")) or {}
        return RunSummary(
            run=str(run.path),
            name=run.path.resolve().name,
            status=record.status,
            created=record.created,
            model=run.config.model.name,
            data=record.data,
            classes=len(record.task.classes),
            epochs=len(history),
            time=round(float(record.seconds or sum(row.seconds for row in history)), 1),
            split=split,
            images=int(values["n"]) if values else None,
            accuracy=_accuracy(values["accuracy"]) if values else None,
            use=str(verdict["use"]) if verdict else None,
            verdict=str(verdict["conclusion"]) if verdict else None,
            source=_source(record),
        )
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"The figures of {run.path} are damaged or not from tellapart ({error!r}).") from None


def summaries(folder: Path) -> list[RunSummary]:
    """A row for each run directly inside a folder; for a damaged run, with its `error` and what run.json still tells.
    Raises RunError if the folder does not exist."""
    if not folder.is_dir():
        raise RunError(f"There is no folder {folder}.")
    inside = [path for path in folder.iterdir() if not path.name.startswith(".") and (path / "run.json").is_file()]
    return [_told(RunFolder(path)) for path in sorted(inside)]


def _told(run: RunFolder) -> RunSummary:
    try:
        return summarize(run)
    except TellapartError as error:
        nothing = RunSummary(
            str(run.path), run.path.resolve().name, "damaged", "", "", "", 0, 0, 0.0, None, None, None, error=str(error)
        )
        with suppress(TellapartError):
            record = run.record
            classes, source = len(record.task.classes), _source(record)
            return replace(nothing, created=record.created, data=record.data, classes=classes, source=source)
        return nothing


def _source(record: RunRecord) -> str:
    """Runs before 0.2 only know where the images were."""
    return record.source or PurePath(record.data).name or record.data


def _accuracy(values: Mapping[str, Any]) -> dict[str, float]:
    """The value with its interval, and its other fields."""
    return {**values, **{name: float(values[name]) for name in ("value", "low", "high")}}


def select(rows: Iterable[RunSummary], where: Sequence[str] = (), sort: str = "created") -> list[RunSummary]:
    """The rows that meet every condition, sorted.

    where: FIELD=PATTERN with * and ?, FIELD!=PATTERN, or FIELD>NUMBER, <, >=, <= for epochs, time, images, classes and
    accuracy (0..1). sort: a key of SORTS; accuracy puts the highest first. Raises ConfigError for an unknown field,
    condition or sort.
    """
    if sort not in SORTS:
        raise ConfigError(unknown("sort", sort, SORTS))
    conditions = [_condition(text) for text in where]
    return sorted((row for row in rows if all(holds(row) for holds in conditions)), key=SORTS[sort])


def _condition(text: str) -> Callable[[RunSummary], bool]:
    found = _CONDITION.fullmatch(text.strip())
    if found is None:
        raise ConfigError(
            f"{text!r} is not a condition; expected one such as status=done, name=cats-*, accuracy>0.9. "
            f"Fields: {', '.join(FIELDS)}."
        )
    field, sign, wanted = found.groups()
    if field not in FIELDS:
        raise ConfigError(unknown("field of a run", field, FIELDS))
    number = _number(wanted)
    if sign not in ("=", "!=") and number is None:
        raise ConfigError(f"{text!r} compares with {wanted!r}; expected a number after {sign}.")

    def holds(row: RunSummary) -> bool:
        value = getattr(row, field)
        if isinstance(value, dict):
            value = value["value"]
        if value is None:  # not known yet: nothing to compare
            return sign == "!=" and number is None
        if isinstance(value, int | float):
            return number is not None and _COMPARED[sign](value, number)
        if sign in ("=", "!="):
            return fnmatchcase(value, wanted) == (sign == "=")
        return False

    return holds


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
