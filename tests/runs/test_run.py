from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tellapart.config import Config, Plan
from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.data.findings import Finding
from tellapart.errors import RunError
from tellapart.runs.new_folder import new_place
from tellapart.runs.run import RunFolder, create_run, list_runs, open_run
from tellapart.task import ImageSpec, Task
from tests.values import history_row, plan

CATALOG = Catalog(
    Path("/images"),
    Task(("a", "ü b")),
    (
        ImageRecord("a/1.jpg", "a", "train", "", "d1", 10, 20, "RGB"),
        ImageRecord('ü b/2, "x".jpg', "ü b", "test", "g", "d2", 10, 20, "L"),
        ImageRecord("ü b/\udcff.jpg", "ü b", "", "", "", 0, 0, "", "truncated"),
    ),
    (Finding("broken", "warning", ("ü b/\udcff.jpg",), "1 image is broken."),),
    "class folders",
)


PLAN = plan(config=Config(seed=3))


def create(path: Path, made_by: Plan = PLAN) -> RunFolder:
    return create_run(path, made_by, CATALOG, command="x")


def test_a_run_gives_back_what_it_was_made_with(tmp_path: Path) -> None:
    run = open_run(create(tmp_path / "run").path)
    assert run.status == "training"
    assert run.catalog == CATALOG
    assert run.config == PLAN.config
    assert (run.task, run.spec) == (CATALOG.task, ImageSpec(8, 8))
    assert run.record.catalog_digest == CATALOG.digest


@pytest.mark.parametrize("change", [{"label": "ü b"}, {"split": "test"}, {"digest": "d9"}, {"path": "a/2.jpg"}])
def test_the_digest_of_a_catalog_tells_labels_splits_and_content_apart(change: dict[str, str]) -> None:
    first, *others = CATALOG.images
    changed = replace(CATALOG, images=(replace(first, **change), *others))
    assert changed.digest != CATALOG.digest
    moved = replace(CATALOG, root=Path("/elsewhere"), images=CATALOG.images[::-1])
    assert moved.digest == CATALOG.digest


def test_a_place_that_holds_something_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        create(tmp_path / "run")
    assert [p.name for p in tmp_path.rglob("*")] == ["run", "thesis.txt"]


def test_a_run_that_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="decided"):
        create(tmp_path / "run", Plan(PLAN.config, (object(),)))  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "is not a run"),
        ("{", "damaged"),
        ("[]", "damaged"),
        ("{}", "damaged"),
        ('{"tellapart_run": 99}', "another version"),
    ],
)
def test_a_foreign_or_damaged_folder_is_told_apart(tmp_path: Path, content: str | None, says: str) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError, match=says):
        open_run(tmp_path)


def test_a_folder_of_runs_is_no_run_and_names_some(tmp_path: Path) -> None:
    create(tmp_path / "one")
    with pytest.raises(RunError, match=rf"is not a run: .*; here are {tmp_path}/one\.$"):
        open_run(tmp_path)


def test_a_missing_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="There is no run"):
        open_run(tmp_path / "nothing")


def test_a_half_written_last_line_of_history_is_not_read(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    rows = [history_row(1, phase="head", regularization=3.0), history_row(2)]
    run.write_history(rows)
    with run.history_file.open("a") as file:
        file.write('{"epoch": 3, "lo')
    assert run.history == rows


def test_a_missing_result_says_how_to_get_it(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    with pytest.raises(RunError, match="--resume"):
        run.require(run.onnx_file, "exported network")


def test_runs_are_listed_oldest_first_and_other_folders_are_passed_over(tmp_path: Path) -> None:
    for name, created in (("second", "2026-02-02"), ("first", "2026-01-01")):
        create(tmp_path / name).update(created=created)
    (tmp_path / "other").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    assert [run.path.name for run in list_runs(tmp_path)] == ["first", "second"]


def test_a_new_place_is_one_that_nobody_else_has_and_goes_again_where_nothing_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with new_place(None, "cnn") as first, new_place(None, "cnn") as second, new_place("mine", "cnn") as named:
        assert (first, second, named) == (Path("runs/cnn-1"), Path("runs/cnn-2"), Path("mine"))
        create(second)
    assert [path.name for path in Path("runs").iterdir()] == ["cnn-2"]
    with new_place(None, "cnn") as third:
        assert third.name == "cnn-1"


def test_a_run_holds_no_pickle(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    assert sorted(p.suffix for p in run.path.iterdir()) == [".csv", ".json", ".toml"]
    json.loads(run.run_file.read_text(errors="surrogateescape"))


def test_a_catalog_from_before_there_were_fingerprints_is_read(tmp_path: Path) -> None:
    run = create(tmp_path / "run")
    lines = run.catalog_file.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    added = ",fingerprint,warning"
    assert lines[0].endswith(added)
    older = [lines[0].removesuffix(added), *(line.removesuffix(",,") for line in lines[1:])]
    run.catalog_file.write_text("\n".join(older), encoding="utf-8", errors="surrogateescape")
    assert run.catalog == CATALOG


def test_corrections_are_kept_in_the_run(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("path,action\na/1.jpg,drop\n")
    config = Config.from_dict({"data": {"corrections": str(tmp_path / "c.csv")}})
    run = create(tmp_path / "run", plan(config=config))
    assert run.corrections_file.read_text() == "path,action\na/1.jpg,drop\n"
