"""A search with real networks keeps to the validation images, survives a kill, and says if it was worth it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.config import Config
from tellapart.data.batches import Images
from tellapart.experiments.space import (
    start_values,
)
from tellapart.progress import Progress
from tests.command import COMMAND
from tests.experiments.killed import kill_once_there

pytest.importorskip("keras")

pytest.importorskip("optuna")

SETTINGS = ("model.name=cnn", "image.height=32", "image.width=32", "model.filters=[8]", "model.dense=[8]",
            "train.epochs=2", "train.batch_size=8")  # fmt: skip


class Looks(Progress):
    """Which splits' images were looked at while trials were trained, and whether runs were finished after that."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.splits: set[str] = set()
        self.finishing = False
        take = Images.take

        def noting(images: Images, rows: np.ndarray) -> np.ndarray:
            if not self.finishing:
                self.splits.update(images._images[int(row)].split for row in rows)
            return take(images, rows)

        monkeypatch.setattr(Images, "take", noting)

    def line(self, text: str) -> None:
        self.finishing |= text.startswith("finishing")


@pytest.mark.slow
def test_no_test_image_is_looked_at_before_the_end_and_best_toml_trains_the_best_run_again(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch)
    config = ta.make_config(settings=SETTINGS)
    found = ta.tune(shapes, budget=3600, trials=3, out=tmp_path / "tune", config=config, progress=looks)
    assert looks.splits == {"train", "validation"}
    assert looks.finishing
    best = ta.open_run(tmp_path / "tune" / found.best.name)
    again = ta.train(shapes, config=Config.read(tmp_path / "tune" / "best.toml"), out=tmp_path / "again")
    for ours, theirs in zip(best.model().get_weights(), again.model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert best.metrics == again.metrics
    assert {gap.name for gap in found.gaps} == {"trial-1", found.best.name}
    for gap in found.gaps:
        assert (gap.validation_n, gap.test_n) == (9, 12)
        assert gap.change.value == pytest.approx(gap.test.value - gap.validation.value)
        assert gap.change.low <= gap.change.value <= gap.change.high
    page = found.tune.page_file.read_text()
    for words in (
        "default-src 'none'",
        'href="trial-1/report.html"',
        "the starting configuration",
        "cannot be distinguished from chance",
    ):
        assert words in page
    # With more trials it goes on, and what was finished stays.
    more = ta.resume_tune(tmp_path / "tune", trials=4)
    assert more.trials[:3] == found.trials
    assert len(more.trials) == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        pytest.param((), id="frozen"),
        pytest.param(
            ("train.fine_tune=1", "train.epochs=2", "train.batch_size=13"), id="fine-tuned", marks=pytest.mark.soak
        ),
    ],
)
def test_a_pretrained_backbone_is_searched_too_without_a_look_at_the_test_images(
    shapes: Path, tmp_path: Path, settings: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Looks(monkeypatch)
    config = ta.make_config(model="efficientnet-lite0", image_size=32, settings=settings)
    found = ta.tune(shapes, budget=3600, trials=2, out=tmp_path / "tune", config=config, progress=looks)
    assert looks.splits == {"train", "validation"}
    assert looks.finishing
    assert [each.status for each in found.trials] == ["done"] * 2
    assert found.start.values == start_values(found.tune.start)
    for name in {"trial-1", found.best.name}:
        assert ta.open_run(tmp_path / "tune" / name).status == "done"


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_and_ends_with_its_page(two_shapes: Path, tmp_path: Path) -> None:
    place = tmp_path / "tune"
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    start: Callable[..., subprocess.Popen[str]] = lambda *given: subprocess.Popen(  # noqa: E731
        [*COMMAND, "tune", *map(str, given)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    killed = start(two_shapes, "--budget", "30m", "--trials", "4", "--out", place, *options)
    kill_once_there(killed, place / "trial-2" / "checkpoint" / "state.json")
    assert not (place / "tune.html").exists()

    resumed = start("--resume", place, "--format", "json")
    out, errors = resumed.communicate()
    assert resumed.returncode == 0, errors
    assert "trial 1:" not in errors
    assert "resuming after epoch" in errors.partition("trial 3:")[0]
    found = json.loads(out)
    assert [each["number"] for each in found["trials"]] == [1, 2, 3, 4]
    assert Path(found["config"]).exists()
    assert found["best"] in Path(found["page"]).read_text()
    assert not [path for path in place.rglob(".*") if path.is_file()]
