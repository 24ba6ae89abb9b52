"""What `train` says of real runs that strangers were told wrong of, and that every place says the same."""

from __future__ import annotations

import html
import json
import os
import subprocess
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

import tellapart as ta
from tellapart.evaluation.judge import verdict_of
from tests.command import COMMAND

pytest.importorskip("keras")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_cache")]


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "1000"}
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def pets(folder: Path) -> Path:
    """The built-in images, a third of each class in test/, the others in train/."""
    catalog = ta.check("builtin:pets").catalog
    for label in catalog.task.classes:
        for number, image in enumerate(row for row in catalog.images if row.label == label):
            target = folder / ("test" if number % 3 == 0 else "train") / label / Path(image.path).name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((catalog.root / image.path).read_bytes())
    return folder


@pytest.fixture(scope="module")
def unfair(tmp_path_factory: pytest.TempPathFactory) -> tuple[ta.Run, str]:
    """A run whose test images come from another camera, out of focus; and what `train` said at its end."""
    folder = tmp_path_factory.mktemp("unfair")
    for path in (pets(folder / "photos") / "test").rglob("*.jpg"):
        with Image.open(path) as image:
            image.convert("L").filter(ImageFilter.GaussianBlur(4)).convert("RGB").save(path)
    shown = call("train", folder / "photos", "--out", folder / "run")
    assert shown.returncode == 0, shown.stderr
    return ta.open_run(folder / "run"), shown.stdout


def test_a_test_split_of_other_images_is_told_first_and_a_run_that_was_made_ends_with_0(
    unfair: tuple[ta.Run, str],
) -> None:
    run, said = unfair
    verdict = verdict_of(run)
    assert verdict.points[0].title == "The test images differ from those it was trained on"
    assert verdict.use == "with a person"
    assert verdict.next.name == "regroup"
    last = said.splitlines()[-10:]
    assert last[1].startswith(
        "Use it only with a person who reviews every prediction: the test images differ from those"
    )
    assert [line.split()[0] for line in last[-5:-1]] == ["run", "report", "next", "more"]


def test_terminal_report_json_and_list_of_runs_say_the_same(unfair: tuple[ta.Run, str]) -> None:
    run, said = unfair
    stored = run.metrics["test"]["verdict"]
    verdict = verdict_of(run)
    assert stored == verdict.to_dict()
    page = html.unescape(run.report_file.read_text(encoding="utf-8")).replace("\N{NARROW NO-BREAK SPACE}%", " %")
    evaluated = call("evaluate", run.path).stdout
    for line in verdict.lines:
        assert line in said
        assert line in page
        assert line in evaluated
    assert verdict.headline in page
    (row,) = json.loads(call("runs", run.path.parent, "--format", "json").stdout)
    assert (row["use"], row["verdict"]) == ("with a person", verdict.conclusion)
    assert json.loads(call("evaluate", run.path, "--format", "json").stdout)["test"]["verdict"] == stored
    accuracy = run.metrics["test"]["accuracy"]
    figure = f"{100 * accuracy['value']:.1f} % ({100 * accuracy['low']:.1f} to {100 * accuracy['high']:.1f})"
    assert f"accuracy {figure} on " in said
    assert f"accuracy {figure} on " in evaluated
    assert figure in call("runs", run.path.parent).stdout


def test_other_images_of_the_kind_that_was_trained_on_are_no_shift(unfair: tuple[ta.Run, str], tmp_path: Path) -> None:
    run, _ = unfair
    sharp = pets(tmp_path / "sharp")
    found = run.evaluate(sharp / "test")
    assert found.verdict is not None
    assert not any("differ" in point.title for point in found.verdict.points)
    assert run.evaluate(split="train").verdict is None, "of what it learned no verdict is given"
    assert run.evaluate(Path(run.record.data) / "train").verdict is None


def test_one_pair_that_looks_the_same_forbids_nothing_and_only_strict_ends_with_1(tmp_path: Path) -> None:
    photos = pets(tmp_path / "photos")
    copied = sorted((photos / "test" / "Bengal").iterdir())[0]
    with Image.open(copied) as image:
        image.convert("RGB").save(photos / "train" / "Bengal" / "copy.jpg", quality=60)
    shown = call("train", photos, "--out", tmp_path / "run", "--strict")
    assert shown.returncode == 1, shown.stderr
    run = ta.open_run(tmp_path / "run")
    assert any("leaking" in finding.kind for finding in run.catalog.findings)
    assert list(run.metrics) == ["test", "test_without_leaks"]
    verdict = verdict_of(run)
    assert verdict.mark != "stop"
    assert verdict.use == "alone"
    assert "Use it: its sure predictions" in shown.stdout
