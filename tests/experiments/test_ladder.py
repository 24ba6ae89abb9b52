"""A ladder is climbed in its time, goes on where it was, and tells which rung to take without the test images."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

import tellapart as ta
from tellapart.config import Config
from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.errors import ConfigError, RunError, TrainingError
from tellapart.experiments import ladder as climbing
from tellapart.experiments import study as clock
from tellapart.experiments.ladder import LadderFolder, State, climb, create_ladder
from tellapart.experiments.ladder_result import cheapest, stand
from tellapart.experiments.rungs import RUNGS, chosen
from tellapart.models.registry import resolve
from tellapart.progress import SILENT, Phase, Progress
from tellapart.report.ladder import write_ladder
from tellapart.runs.record import Stop, StopReason
from tellapart.runs.run import create_run
from tellapart.task import ImageSpec, Task
from tests.command import COMMAND
from tests.experiments.killed import kill_once_there
from tests.values import history_row, plan

pytest.importorskip("keras")

CLASSES = ("cat", "dog")
VALIDATION, TEST = 100, 200


def images(count: int, split: str) -> list[ImageRecord]:
    return [
        ImageRecord(f"{split}/{i}.jpg", CLASSES[i % 2], split, "", f"{split} {i}", 8, 8, "RGB") for i in range(count)
    ]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    rows = [*images(4, "train"), *images(VALIDATION, "validation"), *images(TEST, "test")]
    return Catalog(tmp_path / "images", Task(CLASSES), tuple(rows))


def make_ladder(path: Path, names: Sequence[str] = (), budget: float = 1000) -> LadderFolder:
    return create_ladder(
        path, chosen(names), data="images", budget_seconds=budget, config=Config().to_dict(), settings=[],
        image={"height": 8, "width": 8}, command="tellapart ladder images",
    )  # fmt: skip


def other(label: str) -> str:
    return CLASSES[1 - CLASSES.index(label)]


class World:
    """A clock that only training moves, and training that takes and reaches what is wished, without any network."""

    def __init__(self, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
        self.catalog, self.now = catalog, 0.0
        self.budgets: list[tuple[str, float]] = []
        self.wanted: dict[str, float] = {}
        self.fails: dict[str, BaseException] = {}
        for module in (climbing, clock):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now, perf_counter=lambda: 0.0))
        monkeypatch.setattr(climbing, "_judge", self._judge)

    def train(self, catalog: Catalog, config: Config, out: Path, budget: float, progress: Progress) -> None:
        self.budgets.append((out.name, budget))
        if out.name in self.fails:
            raise self.fails[out.name]
        if not out.exists():
            create_run(out, plan(config=config), catalog)
        run, needs = ta.open_run(out), self.wanted.get(out.name, 1.0)
        self.now += min(needs, budget)
        self.wanted[out.name] = needs - min(needs, budget)
        progress.update(Phase.EPOCH.named("epoch 1/1"), 1, 1)
        done = needs <= budget
        stop = Stop(StopReason.EPOCHS_DONE if done else StopReason.TIME_UP, "in words")
        run.update(status="done" if done else "interrupted", best_epoch=1, **stop.to_dict())
        self.now += 5  # to finish

    def _judge(self, run: object, state: State, catalog: Catalog) -> None:  # noqa: ARG002
        state.validation = [p.label for p in catalog.split("validation").images]

    def climb(self, ladder: LadderFolder) -> None:
        climb(ladder, self.catalog, train=self.train, progress=SILENT, watch=lambda _: None)


@pytest.fixture
def world(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(catalog, monkeypatch)


def test_rungs_take_their_turn_and_leave_to_the_next_what_they_do_not_use(world: World, tmp_path: Path) -> None:
    ladder = make_ladder(tmp_path / "ladder")
    world.climb(ladder)
    assert [name for name, _ in world.budgets] == [r.name for r in sorted(RUNGS, key=lambda r: r.turn)]
    assert {state.status for state in ladder.states.values()} == {"done"}
    last, budget = world.budgets[-1]
    assert last == "residual"
    # Six rungs took 6 seconds each; the last is left the rest, but for what finishing it takes.
    assert budget == pytest.approx(1000 - 6 * 6 - 5)
    assert ladder.states["dense"].wall_seconds == 6
    assert ladder.states["dense"].finishing_seconds == 5
    assert ladder.record["spent_seconds"] == 7 * 6


def test_a_slow_ladder_keeps_to_its_budget_and_every_rung_has_its_share(world: World, tmp_path: Path) -> None:
    world.wanted = dict.fromkeys((r.name for r in RUNGS), 10_000)
    ladder = make_ladder(tmp_path / "ladder", budget=480)
    world.climb(ladder)
    assert {state.status for state in ladder.states.values()} == {"time up"}
    assert 400 < world.now <= 480
    given = dict(world.budgets)
    assert given["dense"] > 10
    assert given["residual"] > given["conv"]


def test_what_is_left_at_the_end_goes_to_the_rungs_whose_time_was_up(world: World, tmp_path: Path) -> None:
    world.wanted = {"dense": 300}
    ladder = make_ladder(tmp_path / "ladder", ("dense", "conv", "residual"), budget=600)
    world.climb(ladder)
    assert [name for name, _ in world.budgets] == ["dense", "conv", "residual", "dense"]
    assert ladder.states["dense"].status == "done"
    assert ladder.states["dense"].wall_seconds == pytest.approx(300 + 2 * 5)


def test_a_rung_that_fails_stops_no_other_and_says_why(world: World, tmp_path: Path) -> None:
    world.fails = {"conv": TrainingError("no weights to be had")}
    ladder = make_ladder(tmp_path / "ladder", ("dense", "conv", "deeper"))
    world.climb(ladder)
    assert [state.status for state in ladder.states.values()] == ["done", "failed", "done"]
    assert ladder.states["conv"].error == "no weights to be had"
    assert [name for name, _ in world.budgets].count("conv") == 1


def test_without_time_a_rung_is_not_begun_and_with_more_it_is(world: World, tmp_path: Path) -> None:
    ladder = make_ladder(tmp_path / "ladder", ("dense", "conv"), budget=30)
    world.wanted = {"dense": 40.0}
    world.climb(ladder)
    assert ladder.states["conv"].status == "not reached" or ladder.states["dense"].status == "time up"
    again = LadderFolder.open(tmp_path / "ladder")
    again.record["budget_seconds"] = 500
    world.climb(again)
    assert {state.status for state in again.states.values()} == {"done"}


def test_ctrl_c_ends_the_ladder_and_keeps_what_is_done(world: World, tmp_path: Path) -> None:
    world.fails = {"conv": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        world.climb(make_ladder(tmp_path / "ladder", ("dense", "conv", "deeper")))
    found = LadderFolder.open(tmp_path / "ladder")
    assert [state.status for state in found.states.values()] == ["done", "waiting", "waiting"]
    world.fails, world.budgets = {}, []
    world.climb(found)
    assert [name for name, _ in world.budgets] == ["conv", "deeper"]


MakeRung = Callable[..., None]


@pytest.fixture
def make_rung(catalog: Catalog) -> MakeRung:
    def make(
        ladder: LadderFolder, name: str, validation_wrong: range, test_wrong: range, ms: float, processor: float = 10
    ) -> None:
        """A rung whose answers are right but for the positions that are wrong."""
        config = ladder.rung_config(next(r for r in ladder.rungs if r.name == name))
        run = create_run(ladder.run(name).path, plan(config=config), catalog)
        run.update(status="done", best_epoch=1, stop_reason="epochs-done", parameters=1000)
        run.write_history([history_row(1, seconds=2.0)])
        with run.predictions_file.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "probability"])
            for i, p in enumerate(catalog.split("test").images):
                writer.writerow([p.path, other(p.label) if i in test_wrong else p.label, 0.9])
        held = catalog.split("validation").images
        said = [other(p.label) if i in validation_wrong else p.label for i, p in enumerate(held)]
        ladder.states[name] = State("done", 20, processor, 5, ms, 10_000, said)

    return make


def test_the_cheapest_rung_not_shown_to_be_worse_on_validation_is_taken(
    make_rung: MakeRung, catalog: Catalog, tmp_path: Path
) -> None:
    ladder = make_ladder(tmp_path / "ladder", ("dense", "conv", "deeper", "pretrained"))
    make_rung(ladder, "dense", range(30), range(60), 1)
    make_rung(ladder, "conv", range(4), range(10), 4)
    make_rung(ladder, "deeper", range(3, 6), range(8), 8)
    make_rung(ladder, "pretrained", range(2), range(4), 12)
    found = stand(ladder, catalog)
    assert found.choice.best == "pretrained"
    assert found.choice.recommended == "conv"
    assert [name for name in found.choice.against if found.choice.worse(name)] == ["dense"]
    assert found.advice.startswith(
        "Take conv: 95.0 % of 200 test images classified correctly, 4 ms per image. pretrained is the best on the "
        "100 validation images, by 2.0 points"
    )


def test_the_test_images_choose_nothing_and_a_note_says_where_they_differ(
    make_rung: MakeRung, catalog: Catalog, tmp_path: Path
) -> None:
    ladder = make_ladder(tmp_path / "ladder", ("dense", "conv"))
    make_rung(ladder, "dense", range(1), range(60), 1)
    make_rung(ladder, "conv", range(0), range(2), 4)
    found = stand(ladder, catalog)
    assert found.choice.recommended == "dense"
    assert found.steps[0].shown
    assert any("test images show dense to be significantly worse than conv" in note for note in found.notes)


def test_a_few_validation_images_are_enough_to_leave_out_a_rung_that_is_far_worse(
    make_rung: MakeRung, catalog: Catalog, tmp_path: Path
) -> None:
    """Five against none of 100: the exact test would not show it, and a rung five points worse would be taken."""
    ladder = make_ladder(tmp_path / "ladder", ("dense", "conv"))
    make_rung(ladder, "dense", range(5), range(10), 1)
    make_rung(ladder, "conv", range(0), range(10), 4)
    found = stand(ladder, catalog)
    assert found.choice.against["dense"].p > 0.05
    assert found.choice.recommended == "conv"
    assert "every other rung is significantly worse" in found.advice


def test_each_step_is_tested_against_the_rung_before_corrected_for_the_steps(
    make_rung: MakeRung, catalog: Catalog, tmp_path: Path
) -> None:
    ladder = make_ladder(tmp_path / "ladder", ("dense", "conv", "deeper", "augmented"))
    make_rung(ladder, "dense", range(30), range(26), 1)
    make_rung(ladder, "conv", range(8), range(20), 4)
    make_rung(ladder, "augmented", range(8), range(14), 4)
    ladder.states["deeper"].status = "not reached"
    found = stand(ladder, catalog)
    # Six images against none: enough for one step, not for one of two.
    assert [(step.first, step.second) for step in found.steps] == [("dense", "conv"), ("conv", "augmented")]
    assert [step.comparison.p for step in found.steps] == pytest.approx([0.03125, 0.03125])
    assert [step.adjusted_p for step in found.steps] == pytest.approx([0.0625, 0.0625])
    assert not any(step.shown for step in found.steps)
    assert found.standing("deeper").accuracy is None
    assert "deeper: not reached, as none of its epochs ended in time." in found.notes
    text = write_ladder(found).read_text().replace("\N{NARROW NO-BREAK SPACE}", " ")
    for words in (
        "dense → conv",
        "conv → augmented",
        "not reached",
        "take this",
        "70.0 %",
        "Holm",
        "default-src 'none'",
    ):
        assert words in text
    assert not re.findall(r'(?:src|href)="(?:/|https?:)', text)


def test_equal_times_are_told_apart_by_what_training_cost() -> None:
    def state(ms: float, processor: float) -> State:
        return State("done", 0, processor, 0, ms)

    assert cheapest({"fine-tuned": state(10.0, 300), "pretrained": state(11.0, 20)}) == "pretrained"
    assert cheapest({"conv": state(4.0, 300), "pretrained": state(11.0, 20)}) == "conv"


def test_no_rung_with_a_network_is_an_error_that_says_what_to_do(catalog: Catalog, tmp_path: Path) -> None:
    ladder = make_ladder(tmp_path / "ladder", ("dense", "conv"))
    with pytest.raises(RunError, match="Resume with more: tellapart ladder --resume"):
        stand(ladder, catalog)


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_every_rung_has_a_configuration_whose_network_builds_at_28_pixels(rung: object) -> None:
    from tellapart.models.classifier import Classifier

    config = rung.config(Config(seed=3), {"height": 28, "width": 28, "channels": 1}, ["train.batch_size=8"])  # type: ignore[attr-defined]
    assert (config.seed, config.train.batch_size) == (3, 8)
    row, _ = resolve(config.model)
    if row.pretrained is None:
        assert (config.image.height, config.image.channels) == (28, 1)
        assert Classifier.from_config(Task(CLASSES), ImageSpec(28, 28, 1), config.model).network.count_params() > 0
    else:
        assert config.image.height is None


def test_what_is_wrong_with_a_request_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'dense'"):
        chosen(["dens", "conv"])
    with pytest.raises(ConfigError, match="two rungs or more"):
        chosen(["dense"])
    with pytest.raises(RunError, match=r"no ladder\.json"):
        LadderFolder.open(tmp_path)
    (tmp_path / "ladder.json").write_text("{}")
    with pytest.raises(RunError, match="damaged"):
        LadderFolder.open(tmp_path)
    with pytest.raises(RunError, match="not empty"):
        make_ladder(tmp_path)


def test_the_live_table_shows_how_far_each_rung_is(make_rung: MakeRung, tmp_path: Path) -> None:
    from rich.console import Console

    from tellapart.cli.ladder import progress_table

    ladder = make_ladder(tmp_path / "ladder", ("dense", "conv"))
    make_rung(ladder, "dense", range(5), range(10), 1)
    console = Console(width=120, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    console.print(progress_table(ladder))
    text = console.export_text()
    console.file.close()
    assert re.search(r"dense\s+done\s+1\s+80\.0 %\s+20 s\s+10 s", text)
    assert re.search(r"conv\s+waiting", text)
    assert "0 s of 16 min 40 s" in text


SETTINGS = ("train.epochs=6", "train.patience=0", "train.batch_size=4")


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, "ladder", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_ladder_that_was_killed_goes_on_and_ends_with_its_page(shapes: Path, tmp_path: Path) -> None:
    place = tmp_path / "ladder"
    options = [part for setting in SETTINGS for part in ("--set", setting)]
    rungs = ["--rung", "dense", "--rung", "conv"]
    killed = start(shapes, "--budget", "10m", "--out", place, *rungs, *options)
    kill_once_there(killed, place / "conv" / "checkpoint" / "state.json")
    assert not (place / "ladder.html").exists()
    trained = (place / "dense" / "model.keras").stat().st_mtime_ns
    spent = json.loads((place / "ladder.json").read_text())["spent_seconds"]
    assert spent > 0

    resumed = start("--resume", place, "--format", "json")
    out, errors = resumed.communicate()
    assert resumed.returncode == 0, errors
    assert "resuming after epoch" in errors
    assert "rung dense" not in errors
    assert (place / "dense" / "model.keras").stat().st_mtime_ns == trained
    found = json.loads(out)
    assert found["spent_seconds"] > spent
    assert [(rung["name"], rung["status"], rung["epochs"]) for rung in found["rungs"]] == [
        ("dense", "done", 6), ("conv", "done", 6),
    ]  # fmt: skip
    for rung in found["rungs"]:
        assert rung["accuracy"]["low"] <= rung["accuracy"]["value"] <= rung["accuracy"]["high"]
        assert min(rung[key] for key in ("milliseconds", "wall_seconds", "processor_seconds", "file_bytes")) > 0
        assert rung["parameters"] > 1000
    assert found["recommended"] in ("dense", "conv")
    page = Path(found["page"]).read_text()
    assert found["recommended"] in page
    assert 'href="conv/report.html"' in page
    runs = [ta.open_run(place / name) for name in ("dense", "conv")]
    assert runs[0].catalog.images == runs[1].catalog.images
    assert (place / "conv" / "report.html").exists()
    assert not [path for path in place.rglob(".*") if path.is_file()]
