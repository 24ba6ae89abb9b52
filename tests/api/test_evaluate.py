"""`evaluate` on images that are not the run's own, and runs whose images were moved."""

from __future__ import annotations

import contextlib
import csv
import shutil
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.errors import ConfigError, RunError, SourceError
from tests.command import call
from tests.conftest import draw

SMALL = ["model.filters=[4]", "model.dense=[8]", "train.epochs=1", "image.height=32", "image.width=32"]


def folder_of(place: Path, first: int, count: int, *, flat: bool = False) -> Path:
    """count images of a disc and of a square each, in class folders or, flat, all in one."""
    for kind in ("disc", "square"):
        for number in range(first, first + count):
            file = place / (f"{number}-{kind[0]}.png" if flat else f"{kind}/{number}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            draw(kind, number).save(file)
    return place


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos/ and runs/one, which named its images by a relative path."""
    place = tmp_path_factory.mktemp("begun")
    folder_of(place / "photos", 0, 16)
    with contextlib.chdir(place):
        ta.train("photos", config=ta.make_config(model="cnn", settings=SMALL), out="runs/one")
    return place


def test_a_run_finds_its_images_from_any_working_directory(begun: Path, tmp_path: Path) -> None:
    from_there = call("evaluate", "runs/one", "--format", "json", cwd=begun)
    from_elsewhere = call("evaluate", begun / "runs" / "one", "--format", "json", cwd=tmp_path)
    assert from_elsewhere.returncode == 0, from_elsewhere.stderr
    assert from_elsewhere.stdout == from_there.stdout


def test_a_run_that_named_its_images_by_a_relative_path_finds_them_beside_a_folder_above_it(begun: Path) -> None:
    run = ta.open_run(begun / "runs" / "one")
    whole = run.record.data
    run.update(data="photos")  # as runs of earlier versions did
    try:
        assert ta.evaluate(run).n == len(run.catalog.split("test"))
        assert run.catalog.root == begun / "photos"
    finally:
        run.update(data=whole)


def test_moved_images_are_found_where_one_says_and_others_are_refused(begun: Path, tmp_path: Path) -> None:
    shutil.copytree(begun, tmp_path / "here")
    run = ta.open_run(tmp_path / "here" / "runs" / "one")
    run.update(data=str(tmp_path / "gone"))
    with pytest.raises(SourceError, match=r"--data PLACE"):
        ta.evaluate(run)
    others = folder_of(tmp_path / "others", 100, 16)
    with pytest.raises(RunError, match=r"32 of the 32"):
        ta.open_run(run, data=others)
    assert run.record.data == str(tmp_path / "gone"), "a wrong place is not kept"
    found = call("evaluate", run.path, "--data", begun / "photos")
    assert found.returncode == 0, found.stderr
    assert ta.evaluate(run).n == ta.evaluate(begun / "runs" / "one").n, "the place is kept"
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", begun / "photos")
    assert ta.open_run(run, data=archive).evaluate().n == ta.evaluate(begun / "runs" / "one").n


def test_an_interrupted_run_whose_images_were_moved_says_how_to_go_on_and_goes_on(begun: Path, tmp_path: Path) -> None:
    shutil.copytree(begun, tmp_path / "here")
    run = ta.open_run(tmp_path / "here" / "runs" / "one")
    run.update(status="interrupted", data=str(tmp_path / "gone"))
    refused = call("train", "--resume", run.path)
    assert refused.returncode == 2
    assert "None of the 32 images" in refused.stderr
    assert "--data PLACE" in refused.stderr
    resumed = call("train", "--resume", run.path, "--data", begun / "photos")
    assert resumed.returncode != 2, resumed.stderr
    assert run.status == "done"


FOUND_BY = {"--root": ".", "--label-pattern": "(?P<label>x)", "--path-column": "a", "--label-column": "b"}


@pytest.mark.parametrize(
    ("command", "option"),
    [(command, [name, value]) for command in ("train", "ladder", "tune") for name, value in FOUND_BY.items()],
)
def test_resume_refuses_to_be_told_anew_how_labels_are_found(begun: Path, command: str, option: list[str]) -> None:
    refused = call(command, "--resume", begun / "runs" / "one", *option)
    assert refused.returncode == 2
    assert "own images and settings" in refused.stderr


def test_every_usable_image_of_a_catalog_counts_unless_a_split_is_named(begun: Path, tmp_path: Path) -> None:
    run = begun / "runs" / "one"
    catalog = ta.read(folder_of(tmp_path / "val", 200, 12))
    assert ta.evaluate(run, catalog).n == 24
    some = ta.evaluate(run, catalog, split="test")
    assert some.n == len(catalog.split("test")) < 24
    assert some.notes[0] == f"{some.n} of the 24 images: those of the test split."


def test_a_test_folder_of_other_images_is_what_they_are_judged_on_and_it_is_said(begun: Path, tmp_path: Path) -> None:
    folder_of(tmp_path / "other" / "train", 300, 5)
    folder_of(tmp_path / "other" / "test", 400, 3)
    found = call("evaluate", begun / "runs" / "one", tmp_path / "other")
    assert "6 of the 16 images: those of the test split." in found.stdout


def test_the_verdict_on_other_images_is_not_of_those_that_were_learned(begun: Path, tmp_path: Path) -> None:
    shutil.copytree(begun / "photos", tmp_path / "mixed")
    folder_of(tmp_path / "mixed", 600, 4)
    found = ta.evaluate(begun / "runs" / "one", tmp_path / "mixed")
    own_test = len(ta.open_run(begun / "runs" / "one").catalog.split("test"))
    unseen = 8 + own_test
    assert found.n == 40
    assert f"{40 - unseen} of the 40 images have a copy among those" in found.notes[-1]
    assert found.notes[-1].endswith("and the verdict is based on these.")
    assert found.verdict is not None
    assert f"Of {unseen} images" in found.verdict.headline


def test_labels_of_other_images_are_found_as_one_says(begun: Path, tmp_path: Path) -> None:
    photos = folder_of(tmp_path / "flat", 500, 4, flat=True)
    with (tmp_path / "tables.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["where", "species"])
        rows.writerows([path.name, {"d": "disc", "s": "square"}[path.stem[-1]]] for path in sorted(photos.iterdir()))
    run = begun / "runs" / "one"
    by_table = ("--path-column", "where", "--label-column", "species", "--root", photos)
    found = call("evaluate", run, tmp_path / "tables.csv", *by_table)
    assert found.returncode == 0, found.stderr
    assert "8 images" in found.stdout
    renamed = tmp_path / "named"
    renamed.mkdir()
    for path in photos.iterdir():
        shutil.copyfile(path, renamed / f"x_{ ({'d': 'disc', 's': 'square'}[path.stem[-1]]) }_{path.stem[:-2]}.png")
    pattern = r"x_(?P<label>[a-z]+)_"
    assert ta.evaluate(run, renamed, label_pattern=pattern).n == 8
    with pytest.raises(ConfigError, match=r"data.root has no effect on .*class folders"):
        ta.evaluate(run, begun / "photos", root=str(photos))
    with pytest.raises(ConfigError, match=r"root applies to the labels of other images"):
        ta.evaluate(run, root=str(photos))


def test_a_bound_on_pixels_that_a_run_was_given_holds_when_it_is_evaluated(begun: Path, tmp_path: Path) -> None:
    shutil.copytree(begun / "runs" / "one", tmp_path / "run")
    config = (tmp_path / "run" / "config.toml").read_text().replace("max_pixels = 100000000", "max_pixels = 1000")
    (tmp_path / "run" / "config.toml").write_text(config)
    with pytest.raises(SourceError, match="too many pixels"):
        ta.evaluate(tmp_path / "run")


def test_a_split_by_another_name_is_hinted_at(begun: Path) -> None:
    refused = call("evaluate", begun / "runs" / "one", "--split", "val")
    assert refused.returncode == 2
    assert "Did you mean --split validation" in refused.stderr


@pytest.mark.parametrize("option", ["root", "path_column", "label_column", "label_pattern"])
def test_an_option_that_says_nothing_of_these_images_is_refused(begun: Path, option: str) -> None:
    with pytest.raises((ConfigError, SourceError), match=f"data.{option}|labels are in a table|finds no label"):
        ta.read(begun / "photos", **{option: "(?P<label>x)"})
