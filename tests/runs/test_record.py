"""run.json: what one version writes, the next reads; what it does not know, it keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from tellapart.errors import RunError
from tellapart.files import from_json, to_json
from tellapart.runs import migrate
from tellapart.runs.record import Stop, StopReason
from tellapart.runs.run import RunFolder, open_run
from tests.runs.test_run import create
from tests.values import history_row


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return create(tmp_path / "run")


def put(run: RunFolder, **values: object) -> None:
    """Into run.json, as somebody else might."""
    run.write_text(run.run_file, to_json(on_disk(run) | values))


def on_disk(run: RunFolder) -> dict[str, object]:
    return dict(from_json(run.read_text(run.run_file)))


def test_what_a_newer_version_wrote_beside_is_kept_through_every_change(run: RunFolder) -> None:
    put(run, weather={"rain": [1, 2]})
    run.update(status="interrupted")
    run.update(error="it rained")
    kept = on_disk(run)
    assert (kept["weather"], kept["status"], kept["error"]) == ({"rain": [1, 2]}, "interrupted", "it rained")


def test_only_what_is_known_is_written(run: RunFolder) -> None:
    assert not {"best_epoch", "stopped", "calibration", "seconds"} & on_disk(run).keys()
    assert (run.record.best_epoch, run.record.calibration, run.record.seconds) == (0, None, 0.0)


@pytest.mark.parametrize("newer", [migrate.FORMAT + 1, 99, "2", None])
def test_a_format_of_another_version_is_refused_with_the_version_to_use(run: RunFolder, newer: object) -> None:
    put(run, tellapart_run=newer, versions={"tellapart": "9.1"})
    with pytest.raises(RunError, match=rf"\(format {newer}, this one reads 1 to 2\)\. Use the version 9\.1"):
        open_run(run.path)


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"status": "unheard of"}, "status"),
        ({"seconds": "long"}, "seconds"),
        ({"findings": [{"kind": "blurred"}]}, "findings.0"),
        ({"task": {"classes": ["one"]}}, "two classes"),
        ({"image": {"height": 8}}, "width"),
        ({"stop_reason": "weather"}, "stop_reason"),
        ({"status": "done"}, "the best epoch"),
    ],
)
def test_a_damaged_record_is_told_with_the_field(run: RunFolder, values: dict[str, object], place: str) -> None:
    put(run, **values)
    with pytest.raises(RunError, match=rf"run\.json is damaged .*{place}"):
        open_run(run.path)


def test_a_row_of_history_keeps_what_a_newer_version_wrote_beside_and_says_what_is_damaged(run: RunFolder) -> None:
    row = history_row(1).to_dict()
    run.write_text(run.history_file, to_json(row | {"weather": "rain"}) + "\n")
    run.write_history([*run.history, history_row(2)])
    first, second = (from_json(line) for line in run.read_text(run.history_file).splitlines())
    assert (first, second["epoch"]) == (row | {"weather": "rain"}, 2)
    run.write_text(run.history_file, to_json(row | {"val_loss": "low"}) + "\n")
    with pytest.raises(RunError, match=r"history\.jsonl is damaged .*val_loss: should be a valid number"):
        _ = run.history


def test_a_field_that_there_is_not_is_no_slip_that_gets_onto_the_disk(run: RunFolder) -> None:
    before = run.run_file.read_bytes()
    with pytest.raises(TypeError, match="best_epcoh"):
        run.update(best_epcoh=3)
    assert run.run_file.read_bytes() == before


def test_why_training_stopped_is_read_as_it_was_written(run: RunFolder) -> None:
    stop = Stop(StopReason.TIME_UP, "interrupted in epoch 4: its time was up")
    run.update(**stop.to_dict())
    assert run.record.stop == stop
    assert run.record.stop.reason.goes_on


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("interrupted in epoch 4", StopReason.INTERRUPTED),
        ("interrupted in epoch 4: its time was up", StopReason.TIME_UP),
        ("no better val_loss for 5 epochs", StopReason.NO_BETTER),
        ("all epochs done", StopReason.EPOCHS_DONE),
        ("regularisation chosen on the validation split from 9 strengths", StopReason.CONVERGED),
        ("The loss became not-a-number in epoch 2, step 1.", StopReason.NOT_A_NUMBER),
        ("pruned: behind the median of the other trials", StopReason.WATCH),
    ],
)
def test_a_run_that_says_in_words_alone_why_it_stopped_gets_the_reason(
    run: RunFolder, words: str, reason: StopReason
) -> None:
    put(run, tellapart_run=1, stopped=words)
    assert run.record.stop == Stop(reason, words)
