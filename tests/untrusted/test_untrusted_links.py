"""A folder from a stranger in which something is a link to what is yours, or a name that leads out of it; and what is
yours inside a run. Nothing of it is read, written or deleted."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.errors import RunError, TellapartError
from tellapart.files import _FORGOTTEN, machine
from tellapart.progress import Progress
from tellapart.runs.run import FIGURES
from tellapart.runs.safe_folder import Inside
from tests.untrusted.conftest import SETTINGS

pytest.importorskip("keras")

FOLDERS = ("checkpoint", "checkpoint/head", "checkpoint/fine-tune", "tensorboard", "figures", "exports", "explain")
FILES = (
    "run.json", "config.toml", "catalog.csv", "corrections.csv", "history.jsonl", "model.keras", "model.onnx",
    "class_means.npy", "validation_traits.npy", "metrics.json", "predictions.csv", "report.html", "README.md",
    ".tellapart.lock",
)  # fmt: skip
DEEPER = (
    "figures/confusion.svg", "exports/model.onnx", "exports/model.onnx.json", "exports/model-saved-model",
    "explain/a.png", "explain/a.png/heat.svg", "checkpoint/state.json", "checkpoint/weights-1.safetensors",
    "checkpoint/optimizer-1.safetensors",
)  # fmt: skip
MINE = ("weights-9.safetensors", "state.json", "letter.txt", ".profile", "events.out.tfevents.1.mine", "heat.svg")


@pytest.fixture(scope="session")
def interrupted_run(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stopped after its first epoch, so that its checkpoint is there; only to be read."""

    class Stopped(Progress):
        def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
            if stage.startswith("epoch 2/"):
                raise KeyboardInterrupt

    out = tmp_path_factory.mktemp("runs") / "interrupted"
    config = ta.make_config(settings=[*SETTINGS, "train.patience=0", "train.epochs=3"], track=["tensorboard"])
    return ta.train(two_shapes, out=out, config=config, progress=Stopped()).path


@pytest.fixture
def run(interrupted_run: Path, tmp_path: Path) -> ta.Run:
    return ta.Run(shutil.copytree(interrupted_run, tmp_path / "run"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Files of the user, some called as tellapart calls its own."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in MINE:
        (folder / name).write_text("mine")
    return folder


def uses(run: Path) -> list[Callable[[], object]]:
    image = next((run.parent / "home").parent.glob("a.png"))
    return [
        lambda: ta.resume(run),
        lambda: ta.write_report(run),
        lambda: ta.export(run),
        lambda: ta.export(run, "saved-model"),
        lambda: ta.open_run(run).explain(image),
        lambda: ta.evaluate(run),
    ]


def harm(run: Path, name: str, target: Path) -> list[str]:
    """Make the name a link, do all that is done with a run, and tell what refused."""
    place = run / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_dir():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.symlink_to(target)
    shutil.copyfile(next(run.parent.glob("image.png")), run.parent / "a.png")
    refused = []
    for use in uses(run):
        try:
            use()
        except TellapartError as error:
            refused.append(str(error))
    assert place.is_symlink()
    return refused


@pytest.fixture(autouse=True)
def a_image(two_shapes: Path, tmp_path: Path) -> None:
    shutil.copyfile(next(two_shapes.rglob("*.png")), tmp_path / "image.png")


@pytest.mark.parametrize("name", [*FOLDERS, *DEEPER, *FILES])
def test_nothing_goes_through_a_link_in_a_run(name: str, run: ta.Run, home: Path) -> None:
    target = home if name in FOLDERS or name in ("exports/model-saved-model", "explain/a.png") else home / "letter.txt"
    refused = harm(run.path, name, target)
    assert f"{run.path / name} is a link" in "\n".join(refused)
    if name in FOLDERS or name in FILES:
        assert len(refused) == 6  # whatever is done with such a run, before anything is done
    assert {(path.name, path.read_text()) for path in home.iterdir()} == {(name, "mine") for name in MINE}


def test_a_link_deep_in_a_run_that_is_resumed_ends_with_exit_code_2(
    run: ta.Run, home: Path, tellapart: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (run.path / "checkpoint" / "fine-tune").symlink_to(home)
    done = tellapart("train", "--resume", run.path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tellapart: ")
    assert "fine-tune is a link" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in home.iterdir()) == sorted(MINE)


def test_what_is_yours_inside_a_run_stays_whatever_is_done_with_it(run: ta.Run) -> None:
    yours = [
        ".gitignore", ".env", "notes.txt", ".model-backup.keras", "checkpoint/.keep", "checkpoint/weights-best.h5",
        "checkpoint/head/weights-1.txt", "figures/mine.svg", "exports/.export-mine/x",
        "tensorboard/events.out.tfevents.1.me", "explain/.gitignore", ".tellapart", ".tellapart-mine",
    ]  # fmt: skip
    for name in yours:
        (run.path / name).parent.mkdir(parents=True, exist_ok=True)
        (run.path / name).write_text("mine")
    ta.resume(run.path)
    ta.export(run.path)
    ta.write_report(run.path)
    assert run.status == "done"
    assert [(name, (run.path / name).read_text()) for name in yours] == [(name, "mine") for name in yours]
    run.discard()
    assert [(name, (run.path / name).read_text()) for name in yours] == [(name, "mine") for name in yours]
    assert not [name for name in FILES if (run.path / name).exists()]


def test_a_finished_run_leaves_no_checkpoint_and_a_discarded_one_nothing(run: ta.Run) -> None:
    left = run.path / "checkpoint" / f".tellapart-{machine()}-999999999-00000000-weights-1.safetensors"
    left.write_text("half")
    ta.resume(run.path)
    assert not run.checkpoint.exists()
    assert {path.name for path in run.figures.iterdir()} == {f"{name}.svg" for name in FIGURES}
    shutil.rmtree(run.tensorboard)
    run.discard()
    assert not run.path.exists()


def test_an_export_removes_no_folder_that_holds_more_than_it_writes_itself(run: ta.Run, home: Path) -> None:
    ta.resume(run.path)
    with pytest.raises(TellapartError, match=r"home is a folder with \.profile, .* in it that no export created"):
        ta.export(run.path, "saved-model", out=home)
    folder = home.parent / "taken.onnx"
    folder.mkdir()
    with pytest.raises(TellapartError, match="is a folder that no export created"):
        ta.export(run.path, out=folder)
    assert sorted(path.name for path in home.iterdir()) == sorted(MINE)
    for _ in range(2):
        made = ta.export(run.path, "saved-model", out=home.parent / "made")
    assert (made.path / "saved_model.pb").is_file()
    (made.path / "notes.txt").write_text("mine")
    with pytest.raises(TellapartError, match=r"made is a folder with notes\.txt in it"):
        ta.export(run.path, "saved-model", out=made.path)
    assert (made.path / "notes.txt").read_text() == "mine"


@pytest.fixture(scope="session")
def ladder(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ladders") / "ladder"
    ta.ladder(two_shapes, out=out, rungs=["dense", "conv"], settings=["train.epochs=1"], budget=300)
    return out


@pytest.fixture(scope="session")
def search(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("optuna")
    out = tmp_path_factory.mktemp("searches") / "tune"
    ta.tune(two_shapes, out=out, trials=1, budget=300, config=ta.make_config(settings=SETTINGS))
    return out


@pytest.mark.parametrize("name", ["ladder.json", "ladder.html", "dense", ".tellapart.lock"])
def test_nothing_goes_through_a_link_in_a_ladder(name: str, plain_run: ta.Run, home: Path, ladder: Path) -> None:
    place = shutil.copytree(ladder, home.parent / "ladder")
    target = shutil.copytree(plain_run.path, home.parent / "my run") if name == "dense" else home / "letter.txt"
    before = {path: path.stat().st_mtime_ns for path in target.rglob("*")}
    if name == "ladder.json":
        shutil.copyfile(place / name, target)
    shutil.rmtree(place / name) if name == "dense" else (place / name).unlink(missing_ok=True)
    (place / name).symlink_to(target)
    text = (home / "letter.txt").read_text()
    with pytest.raises(RunError, match=f"{name} is a link"):
        ta.resume_ladder(place, budget=600)
    assert (home / "letter.txt").read_text() == text
    assert {path: path.stat().st_mtime_ns for path in target.rglob("*")} == before


@pytest.mark.parametrize("name", ["tune.json", "tune.html", "best.toml", "study.db", "study.db-journal", "trial-1"])
def test_nothing_goes_through_a_link_in_a_search(name: str, home: Path, search: Path) -> None:
    place = shutil.copytree(search, home.parent / "tune")
    target = home / "letter.txt"
    if name == "trial-1":
        target = shutil.copytree(place / name, home.parent / "my run")
        shutil.rmtree(place / name)
    elif (place / name).exists():
        shutil.copyfile(place / name, target)
        (place / name).unlink()
    (place / name).symlink_to(target)
    read = {path: path.read_bytes() for path in (*home.iterdir(), *home.parent.glob("my run/*")) if path.is_file()}
    with pytest.raises(RunError, match=f"{name} is a link"):
        ta.resume_tune(place, trials=2, budget=600)
    assert {path: path.read_bytes() for path in read} == read


NAMES = ["..", ".", "", "a/b", "../x", "/etc/passwd", "a\0b"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_out_of_a_folder_is_refused(name: str, tmp_path: Path) -> None:
    folder = Inside()
    folder.path = tmp_path
    with pytest.raises(RunError, match="damaged or not from tellapart"):
        folder.place(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["run.json", "config.toml", "metrics.json", "model.onnx", ".tellapart.lock"])
def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(name: str, run: ta.Run) -> None:
    (run.path / name).unlink(missing_ok=True)
    os.mkfifo(run.path / name)
    with pytest.raises(RunError, match="is neither a regular file nor a folder"):
        ta.resume(run.path)


@pytest.mark.parametrize("handles", [True, False], ids=["by handles", "level by level"])
def test_what_is_written_read_and_removed_below_a_folder_stays_below_it(
    handles: bool, tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tellapart.runs.safe_folder.HANDLES", handles and os.open in os.supports_dir_fd)
    folder = Inside()
    folder.path = tmp_path / "new"
    path = folder.place("a", "b", "x.txt")
    folder.write_text(path, "one")
    folder.write_text(path, "two")
    assert folder.read_text(path) == "two"
    assert [found.name for found in path.parent.iterdir()] == ["x.txt"]
    long = folder.place("a", "b", "x" * 300)
    for fails in (folder.read_text, lambda it: folder.write_text(it, "too long a name")):
        with pytest.raises(OSError, match="File name too long") as error:
            fails(long)
        assert str(tmp_path) in str(error.value)
    (tmp_path / "new" / "link").symlink_to(home)
    (path.parent / "letter.txt").symlink_to(home / "letter.txt")
    for beyond in (tmp_path / "new" / "link" / "letter.txt", path.parent / "letter.txt"):
        for use in (folder.read_text, lambda it: folder.write_text(it, "harm"), lambda it: folder.remove([it])):
            with pytest.raises(RunError, match="is a link"):
                use(beyond)
    assert (home / "letter.txt").read_text() == "mine"
    folder.remove([path, path])
    folder.remove_folder(path.parent)
    assert path.parent.is_dir()  # the link is not ours
    (path.parent / "letter.txt").unlink()
    folder.remove_folder(path.parent)
    assert not path.parent.exists()


@pytest.mark.skipif(os.open not in os.supports_dir_fd, reason="this system opens by paths alone")
def test_a_folder_that_becomes_a_link_while_it_is_written_does_not_lead_the_file_elsewhere(
    tmp_path: Path, home: Path
) -> None:
    folder = Inside()
    folder.path = tmp_path / "run"
    with folder.replacing(folder.path / "inner" / "letter.txt") as neighbour:
        neighbour.write_text("ours")
        (folder.path / "inner").rename(folder.path / "moved")
        (folder.path / "inner").symlink_to(home)
    assert (folder.path / "moved" / "letter.txt").read_text() == "ours"
    assert (home / "letter.txt").read_text() == "mine"


def test_a_draft_that_is_a_link_is_taken_away_and_what_it_leads_to_stays(tmp_path: Path, home: Path) -> None:
    from tellapart.files import clear_drafts

    dead = f".tellapart-{machine()}-999999999-00000000-x"
    (tmp_path / dead).symlink_to(home)
    folder = tmp_path / f"{dead}-folder"
    folder.mkdir()
    (folder / "inner").symlink_to(home)
    foreign = tmp_path / ".tellapart-00000000-1-00000000-x"  # of another machine, which may be at it still
    foreign.write_text("theirs")
    clear_drafts(tmp_path)
    assert {path.name for path in tmp_path.glob(".tellapart-*")} == {foreign.name}
    assert sorted(path.name for path in home.iterdir()) == sorted(MINE)
    then = foreign.stat().st_mtime - _FORGOTTEN - 60
    os.utime(foreign, (then, then))
    clear_drafts(tmp_path)
    assert not foreign.exists()
