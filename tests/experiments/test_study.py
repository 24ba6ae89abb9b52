"""A study counts its time, tells apart how training ended and goes on where it was, whatever its strategy is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.errors import RunError, TrainingError
from tellapart.experiments import study
from tellapart.experiments.study import Outcome, Session, Study
from tellapart.progress import SILENT, Phase, Progress
from tellapart.runs.record import Stop, StopReason
from tellapart.runs.run import create_run
from tellapart.task import Task
from tests.values import plan


class Steps(Study):
    """Trials one after the other, each for as long as it likes: a third strategy, as small as one can be."""

    noun, by, file = "journey", "steps", "steps.json"
    trial_names = ("first", "second")

    @classmethod
    def of(cls, path: Path, record: dict[str, Any]) -> Self:
        return cls(path, record)

    def walk(self, train: Callable[[str], object], progress: Progress = SILENT) -> dict[str, Outcome]:
        with Session(self, progress, lambda: None) as session:
            return {name: session.attempt(name, lambda: train(name)) for name in self.trial_names}  # noqa: B023


class Told(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def steps(tmp_path: Path) -> Steps:
    return Steps(tmp_path / "my steps", {"budget_seconds": 100.0, "spent_seconds": 0.0}).create()


def trained(steps: Steps, name: str, reason: StopReason | None = None, status: str = "interrupted") -> str:
    """Leaves what training leaves."""
    rows = [ImageRecord(f"{label}.jpg", label, "train", "", label * 8, 8, 8, "RGB") for label in ("cat", "dog")]
    catalog = Catalog(steps.path, Task(("cat", "dog")), tuple(rows))
    run = create_run(steps.run(name).path, plan(), catalog)
    run.update(status=status, **(Stop(reason, "in words").to_dict() if reason else {}))
    return f"answer of {name}"


def test_each_way_in_which_training_ends_is_told_apart(steps: Steps) -> None:
    def train(name: str) -> str:
        trained(steps, name, status="interrupted" if name == "first" else "failed")
        raise TrainingError("no weights to be had")

    first, second = steps.walk(train).values()
    assert first == Outcome()
    assert str(second.error) == "no weights to be had"
    assert second.reason is None


def test_a_trial_whose_time_is_up_is_followed_by_the_next(steps: Steps) -> None:
    reasons = {"first": StopReason.TIME_UP, "second": StopReason.NO_BETTER}
    found = steps.walk(lambda name: trained(steps, name, reasons[name]))
    assert found == {name: Outcome(reason, answer=f"answer of {name}") for name, reason in reasons.items()}
    assert steps.catalog is not None


def test_ctrl_c_in_training_ends_the_study_which_says_how_to_go_on(steps: Steps) -> None:
    told = Told()
    with pytest.raises(KeyboardInterrupt):
        steps.walk(lambda name: trained(steps, name, StopReason.INTERRUPTED), told)
    assert told.lines == [f"resume with: tellapart steps --resume '{steps.path}'"]
    assert not steps.begun("second")


def test_the_seconds_of_every_session_and_of_each_trial_count(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(study, "time", SimpleNamespace(monotonic=lambda: now))
    costs = Costs()
    for expected in (10.0, 20.0):
        with Steps.resumed(steps.path) as found, Session(found, SILENT, lambda: None) as session:
            now += 2
            with session.counting(costs):
                now += 5
                session.update(Phase.EPOCH, 1, 1)
                now += 3
            assert now - session.learned == 3
            assert session.left == 100 - expected
        assert Steps.open(steps.path).record["spent_seconds"] == expected
    assert costs.wall_seconds == 16


@dataclass
class Costs:
    wall_seconds: float = 0.0
    processor_seconds: float = 0.0


def test_a_study_is_killed_at_any_time_and_its_record_is_seconds_old(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(study, "time", SimpleNamespace(monotonic=lambda: now))
    session = Session(steps, SILENT, lambda: None)
    now = 3.0
    session.update(Phase.READING, 1, 60)
    assert Steps.open(steps.path).record["spent_seconds"] == 3


def test_a_record_of_a_version_that_is_not_known_is_refused(steps: Steps) -> None:
    file = steps.path / "steps.json"
    file.write_text(file.read_text("utf-8").replace('"tellapart_steps": 1', '"tellapart_steps": 2'), "utf-8")
    with pytest.raises(RunError, match=r"another version of tellapart\. Start a new journey"):
        Steps.open(steps.path)


def test_what_is_changed_as_it_goes_on_stays_and_none_changes_nothing(steps: Steps) -> None:
    with Steps.resumed(steps.path, budget_seconds=200.0, trials=None) as found:
        found.write()
    assert Steps.open(steps.path).record == {"budget_seconds": 200.0, "spent_seconds": 0.0}
