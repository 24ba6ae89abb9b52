"""`predict --sort-into`: images in folders by label or verdict; nothing is moved, changed or overwritten."""

from __future__ import annotations

import csv
import shutil
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

import tellapart as ta
from tellapart.inference.prediction import Prediction
from tellapart.inference.sorting import folder_names, write_sidecar
from tests.command import call
from tests.conftest import draw

SUBJECT = ".//{http://purl.org/dc/elements/1.1/}subject//{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Folders with the same names in them, two of them with equal content, and a broken image."""
    folder = tmp_path / "photos"
    for place, kind in (("a", "disc"), ("b", "stripes")):
        (folder / place).mkdir(parents=True)
        for number in range(3):
            draw(kind, 60 + number).save(folder / place / f"{number}.png")
    (folder / "c").mkdir()
    shutil.copy(folder / "a" / "0.png", folder / "c" / "0.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "sorted.csv").open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_images_are_linked_by_label_under_names_that_keep_both_and_a_second_run_changes_nothing(
    shapes_run: Path, photos: Path, tmp_path: Path
) -> None:
    before = {path: path.read_bytes() for path in photos.rglob("*.png")}
    target = tmp_path / "by label"
    done = call("predict", shapes_run, photos, "--sort-into", target, "--keywords")
    assert done.returncode == 1, done.stderr  # the broken one
    assert "7 images linked; 1 image left in place" in done.stderr
    said = {answer.path: answer for answer in ta.predict(shapes_run, photos)}
    rows = rows_of(target)
    assert len(rows) == 8
    for row in rows:
        if not row["sorted as"]:
            assert row["image"].endswith("broken.png")
            assert "not an image" in row["remark"]
            continue
        assert row["sorted as"].split("/")[0] == row["label"] == said[row["image"]].label
        assert (target / row["sorted as"]).samefile(row["image"])
        sidecar = ElementTree.parse(target / f"{row['sorted as']}.xmp")
        expected = [] if row["verdict"] == "unlike" else [row["label"]]
        assert [item.text for item in sidecar.findall(SUBJECT)] == expected
    assert len({row["sorted as"] for row in rows}) == 8
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    first = files_of(target)
    assert call("predict", shapes_run, photos, "--sort-into", target).returncode == 1
    assert files_of(target) == first


def test_what_stands_there_is_never_overwritten_and_a_copy_is_a_file_of_its_own(
    shapes_run: Path, photos: Path, tmp_path: Path
) -> None:
    target = tmp_path / "sorted"
    for verdict in ("sure", "unsure", "unlike"):
        (target / verdict).mkdir(parents=True)
        (target / verdict / "0.png").write_bytes(b"mine")
    done = call("predict", shapes_run, photos / "a", "--sort-into", target, "--by", "verdict", "--how", "copy")
    assert done.returncode == 0, done.stderr
    assert all(path.read_bytes() == b"mine" for path in target.glob("*/0.png"))
    (row,) = [row for row in rows_of(target) if row["image"].endswith("0.png")]
    assert row["sorted as"] == f"{row['verdict']}/0 (2).png"
    copy = target / row["sorted as"]
    assert copy.read_bytes() == (photos / "a" / "0.png").read_bytes()
    assert not copy.samefile(photos / "a" / "0.png")


def test_a_plan_writes_the_list_alone_and_what_makes_no_sense_is_refused(
    shapes_run: Path, photos: Path, tmp_path: Path
) -> None:
    target = tmp_path / "plan"
    assert call("predict", shapes_run, photos / "a", "--sort-into", target, "--how", "plan").returncode == 0
    assert files_of(target) == {"sorted.csv"}
    assert {row["sorted as"].split("/")[1] for row in rows_of(target)} == {"0.png", "1.png", "2.png"}
    inside = call("predict", shapes_run, photos, "--sort-into", photos / "sorted")
    assert inside.returncode == 2
    assert "would be sorted again" in inside.stderr
    alone = call("predict", shapes_run, photos, "--keywords")
    assert alone.returncode == 2
    assert "--sort-into" in alone.stderr


def test_images_of_an_archive_are_copied_out_of_it(shapes_run: Path, photos: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(photos / "a" / "0.png", "0.png")
    assert call("predict", shapes_run, tmp_path / "a.zip", "--sort-into", tmp_path / "out").returncode == 0
    (row,) = rows_of(tmp_path / "out")
    found = tmp_path / "out" / row["sorted as"]
    assert found.read_bytes() == (photos / "a" / "0.png").read_bytes()
    assert found.stat().st_nlink == 1


def test_a_class_of_any_name_has_a_folder_inside_the_target() -> None:
    names = ["../../etc", "a/b", "a\\b", "..", ".hidden", "NUL", "x" * 500, "a\nb", "ü", "Cat", "cat"]
    found = folder_names(names)
    assert len({name.lower() for name in found}) == len(names)
    assert not [name for name in found if set(name) & set("/\\:\n") or name.startswith(".") or len(name) > 130]
    assert found[5] == "NUL_"
    assert found[8:] == ["ü", "Cat", "cat (2)"]


def test_a_sidecar_holds_any_name_and_an_older_one_is_kept(tmp_path: Path) -> None:
    image = tmp_path / "a.jpg"
    assert write_sidecar(image, Prediction("a.jpg", "<&>\x00", 0.9, {}, "sure"))
    tree = ElementTree.parse(tmp_path / "a.jpg.xmp")
    assert [item.text for item in tree.findall(SUBJECT)] == ["<&>_"]
    assert not write_sidecar(image, Prediction("a.jpg", "other", 0.9, {}, "sure"))
    Image.new("RGB", (4, 4)).save(image)
    assert "other" not in (tmp_path / "a.jpg.xmp").read_text(encoding="utf-8")


def test_excel_is_told_the_encoding_of_its_csv(shapes_run: Path, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "answers.csv"
    done = call("predict", shapes_run, photos / "a", "--format", "excel", "--out", out)
    assert done.returncode == 0, done.stderr
    content = out.read_bytes()
    assert content.startswith(b"\xef\xbb\xbfpath,label,probability")
    assert content.count(b"\r\n") == content.count(b"\n") == 4
