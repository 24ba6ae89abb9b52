"""Fine-tuning from cached activations: the same as on images, what it keeps, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.progress import Progress
from tellapart.training.fitting import Fitted, Fitting
from tellapart.training.interruption import CtrlC

pytest.importorskip("keras")
pytestmark = pytest.mark.usefixtures("shared_cache")

from tellapart.training import fine_tune, frozen  # noqa: E402
from tellapart.training.averaging import Judge, Line  # noqa: E402

# The head reads maps of several depths, two of which lie below the cut; with roots nothing would be left to learn. The
# 39 training images fill their batches.
SETTINGS = (
    "model.name=efficientnet-lite0", "model.features=levels", "model.root=false", "image.height=64", "image.width=64",
    "train.batch_size=13", "train.epochs=2", "train.patience=0", "train.precision=float32", "train.fine_tune=1",
    "train.fine_tune_learning_rate=0.0005", "train.optimizer=adamw", "train.schedule=warmup-cosine",
    "train.fine_tune_layer_decay=0.7",
)  # fmt: skip
CACHED = "train.fine_tune_on=activations"
VIEWS = (CACHED, "augment=medium", "train.views=2")


class Told(Progress):
    """Lines, and Ctrl-C in a stage."""

    def __init__(self, stop: str = "") -> None:
        self.lines: list[str] = []
        self.stop = stop

    def line(self, text: str) -> None:
        self.lines.append(text)

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
        if self.stop and stage.startswith(self.stop) and done >= 2:
            raise KeyboardInterrupt


def train(data: Path, out: Path, *settings: str, progress: Progress | None = None) -> ta.Run:
    return ta.train(data, out=out, config=ta.make_config(settings=[*SETTINGS, *settings]), progress=progress or Told())


def tuned(run: ta.Run) -> list[Any]:
    return [row for row in run.history if row.phase == "fine-tune"]


def test_losses_from_activations_are_those_on_images_and_the_cost_of_an_epoch_is_told_before(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    costs: list[fine_tune.Cost] = []

    def measured(state: Fitting, before: Fitted) -> Fitted:
        costs.append(fine_tune.cost_of(state, before))
        return fine_tune.fine_tune(state, before)

    monkeypatch.setattr(frozen, "fine_tune", measured)
    told = Told()
    cached = train(shapes, tmp_path / "cached", "augment=none", CACHED, progress=told)
    assert "fine-tuning 1 blocks from cached activations" in " ".join(told.lines)
    assert costs[0].cached
    assert 0 < costs[0].epoch < costs[0].once
    monkeypatch.undo()
    plain = train(shapes, tmp_path / "plain", "augment=none")
    assert len(tuned(cached)) == len(tuned(plain)) == 2
    for ours, theirs in zip(tuned(cached), tuned(plain), strict=True):
        assert ours.loss == pytest.approx(theirs.loss, rel=5e-3, abs=1e-8)
        assert ours.val_loss == pytest.approx(theirs.val_loss, rel=5e-3, abs=1e-8)
    assert tuned(cached)[1].loss < tuned(cached)[0].loss, "the case is void where nothing is learned"
    for ours, theirs in zip(cached.model().weights, plain.model().weights, strict=True):
        assert ours.shape == theirs.shape


def test_a_run_that_was_stopped_among_activations_and_epochs_ends_as_one_never_stopped(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, assert_same_run: Callable[[ta.Run, ta.Run], None]
) -> None:
    whole = train(shapes, tmp_path / "whole", *VIEWS)
    assert [row.phase for row in whole.history][-2:] == ["fine-tune", "fine-tune"]
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    stopped = train(shapes, tmp_path / "stopped", *VIEWS, progress=Told("activations, train"))
    assert stopped.status == "interrupted"
    assert stopped.record.stopped == "interrupted before the first epoch of fine-tuning"
    last = f"epoch {len(whole.history)}/"
    assert ta.resume(stopped.path, progress=Told(last)).status == "interrupted"
    resumed = ta.resume(stopped.path)
    assert resumed.status == "done"
    assert_same_run(resumed, whole)


def test_an_average_with_what_was_there_before_is_chosen_once_and_ends_in_the_files(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[Line] = []

    def half(line: Line, usual: int, judge: Judge, ctrl_c: CtrlC) -> tuple[int, float]:  # noqa: ARG001
        lines.append(line)
        assert judge().ndim == 1
        line.go_to(60)
        return 60, 0.1

    monkeypatch.setattr(Line, "best", half)
    settings = ("augment=none", CACHED, "train.fine_tune_average=true", "train.epochs=1")
    run = train(shapes, tmp_path / "run", *settings)
    assert any(note.startswith("weights averaged: 60 % of the way") for note in run.record.decided)
    (line,) = lines
    for weights, before, after in zip(run.model().get_weights(), line.before, line.after, strict=True):
        if weights.shape == before.shape and not np.array_equal(before, after) and weights.ndim == 4:
            np.testing.assert_allclose(weights, before + 0.6 * (after - before), atol=1e-6)
            break
    else:
        pytest.fail("nothing was learned")


@pytest.mark.parametrize(
    ("settings", "limit", "why"),
    [
        (("train.fine_tune=all",), 2**30, "they would be larger than the images"),
        ((), 2**16, "they would not fit within the limit of the cache"),
    ],
)
def test_activations_that_are_too_large_are_not_kept_and_why_is_told(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: tuple[str, ...], limit: int, why: str
) -> None:
    kept: list[str] = []
    monkeypatch.setattr(fine_tune, "keep", lambda *_: kept.append("asked"))

    class Enough(Exception):
        """What comes behind is no business of this test."""

    def learn(*_: object) -> None:
        raise Enough

    monkeypatch.setattr(fine_tune, "compile_model", learn)
    told = Told()
    config = ta.make_config(settings=[*SETTINGS, CACHED, *settings])
    with pytest.raises(Enough):
        ta.train(shapes, out=tmp_path / "run", config=config, progress=told, cache_limit=limit)
    assert f"on images, as activations are not kept: {why}" in " ".join(told.lines)
    assert not kept
