from __future__ import annotations

import pytest

from tellapart.errors import ConfigError
from tellapart.runs.summary import SORTS, RunSummary, select


def row(name: str, accuracy: float | None, time: float, **changes: object) -> RunSummary:
    values: dict[str, object] = {
        "run": f"runs/{name}", "name": name, "status": "done" if accuracy else "training", "created": f"2026-{time}",
        "model": "cnn", "data": "photos", "classes": 2, "epochs": 10, "time": time,
        "split": "test" if accuracy else None, "images": 100 if accuracy else None,
        "accuracy": {"value": accuracy, "low": 0.0, "high": 1.0} if accuracy else None,
    }  # fmt: skip
    return RunSummary(**{**values, **changes})  # type: ignore[arg-type]


RUNS = [
    row("cats-1", 0.8, 30),
    row("cats-2", 0.95, 50),
    row("half", None, 5, epochs=3),
    row("dogs", 0.9, 9, model="dense"),
]


def names(where: list[str], sort: str = "created") -> list[str]:
    return [found.name for found in select(RUNS, where, sort)]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (["status=done"], {"cats-1", "cats-2", "dogs"}),
        (["status!=done"], {"half"}),
        (["name=cats-*"], {"cats-1", "cats-2"}),
        (["name=cats-*", "accuracy > 0.9"], {"cats-2"}),
        (["accuracy<=0.9"], {"cats-1", "dogs"}),
        (["accuracy!=0.9"], {"cats-1", "cats-2"}),
        (["epochs=3"], {"half"}),
        (["epochs>=3", "epochs<10"], {"half"}),
        (["model=den?e"], {"dogs"}),
        (["split=test"], {"cats-1", "cats-2", "dogs"}),
        (["split!=test"], {"half"}),
        (["status>3"], set()),
        (["epochs=many"], set()),
    ],
)
def test_only_runs_that_meet_every_condition_are_kept(where: list[str], expected: set[str]) -> None:
    assert set(names(where)) == expected


def test_sorting_puts_first_what_one_looks_for() -> None:
    assert names([], "accuracy") == ["cats-2", "dogs", "cats-1", "half"]
    assert names([], "time") == ["half", "dogs", "cats-1", "cats-2"]
    assert names([], "name") == ["cats-1", "cats-2", "dogs", "half"]
    for sort in SORTS:
        assert len(names([], sort)) == 4


@pytest.mark.parametrize(
    ("where", "sort", "says"),
    [
        (["done"], "name", "'done' is not a condition; expected one such as status=done"),
        (["acuracy>0.9"], "name", "Did you mean 'accuracy'"),
        (["accuracy>high"], "name", "expected a number after >"),
        ([], "speed", "There is no sort 'speed'"),
    ],
)
def test_a_wrong_condition_or_sort_is_explained(where: list[str], sort: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        select(RUNS, where, sort)
