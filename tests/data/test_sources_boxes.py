"""Annotations of COCO and YOLO: refused with what to do, or each box an image of its class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.data import pixels
from tellapart.data.sources import open_row
from tellapart.data.sources.boxes import names_in_yaml
from tellapart.errors import ConfigError, ImageError, SourceError
from tellapart.task import ImageSpec
from tests.data.folders import finding, read, table
from tests.data.shards import PETS

BOXES = ((10, 20, 64, 48), (90, 4, 30, 100))
"""x, y, width, height of the cat and the dog in each photograph."""


def _photographs(root: Path, folders: dict[str, str]) -> list[tuple[str, str]]:
    """Six for training and two for testing, 0.jpg to 7.jpg: (split, path)."""
    found = []
    for number, photo in enumerate(sorted((PETS / "Bengal").iterdir())[:8]):
        split = "train" if number < 6 else "test"
        path = f"{folders[split]}/{number}.jpg"
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, root / path)
        found.append((split, path))
    return found


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def _yolo(root: Path) -> Path:
    for _, path in _photographs(root, {"train": "images/train", "test": "images/test"}):
        width, height = size_of(root / path)
        lines = [
            f"{number} {(x + w / 2) / width:.6f} {(y + h / 2) / height:.6f} {w / width:.6f} {h / height:.6f}"
            for number, (x, y, w, h) in enumerate(BOXES)
        ]
        label = root / path.replace("images", "labels", 1).replace(".jpg", ".txt")
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("\n".join(lines) + "\n")
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nnames:\n  0: cat\n  1: dog  # barks\nnc: 2\n")
    return root


def _coco(root: Path) -> Path:
    photos = _photographs(root, {"train": "train2017", "test": "test2017"})
    (root / "annotations").mkdir()
    for split in ("train", "test"):
        of = [path for each, path in photos if each == split]
        boxes = [(n, number + 1, box) for n in range(len(of)) for number, box in enumerate(BOXES)]
        held: dict[str, Any] = {
            "info": {"year": 2017},
            "images": [{"id": n, "file_name": path.rpartition("/")[2]} for n, path in enumerate(of)],
            "annotations": [
                {"id": i, "image_id": n, "category_id": c, "bbox": box, "iscrowd": 0}
                for i, (n, c, box) in enumerate(boxes)
            ],
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        held["annotations"].append({"id": 99, "image_id": 0, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1})
        (root / "annotations" / f"instances_{split}2017.json").write_text(json.dumps(held))
    return root


FORMS = {"YOLO": _yolo, "COCO": _coco}


@pytest.mark.parametrize("form", FORMS)
def test_boxes_are_refused_unless_each_is_asked_for_as_an_image(form: str, tmp_path: Path) -> None:
    root = FORMS[form](tmp_path)
    with pytest.raises(
        SourceError, match=rf"holds boxes of objects, as {form}.*\. An image has one label.*--crop-boxes"
    ):
        read(root)
    catalog = ta.read(root, crop_boxes=True)
    assert catalog.task.classes == ("cat", "dog")
    assert len(catalog) == 16
    assert not catalog.broken
    assert {image.split for image in catalog.images if int(image.group.rpartition("/")[2][0]) > 5} == {"test"}
    for image in catalog.images:  # the boxes of one image are in one split
        assert image.path.startswith(f"{image.group}#")
        assert image.split == next(other.split for other in catalog.images if other.group == image.group)


@pytest.mark.parametrize("form", FORMS)
def test_a_box_is_that_part_of_the_image(form: str, tmp_path: Path) -> None:
    source = ta.read(FORMS[form](tmp_path), crop_boxes=True)
    for image in source.images[:4]:
        across, down = size_of(source.root / image.group)
        x, y, width, height = BOXES[("cat", "dog").index(image.label)]
        expected = pixels.read(source.root / image.group, ImageSpec(down, across, 3))
        found = open_row(source.root, image.path)
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, expected[y : y + height, x : x + width])


def test_boxes_that_are_none_are_told_or_refused(tmp_path: Path) -> None:
    root = _yolo(tmp_path)
    label = root / "labels/train/0.txt"
    label.write_text("0 0.5 0.5 0.3 0.3\n1 0.5 0.5 0 0.2\n")
    source = read(root, crop_boxes=True)  # type: ignore[arg-type]
    assert finding(source, "empty-box").paths == ("images/train/0.jpg",)
    label.write_text("2 0.5 0.5 0.3 0.3\n")
    with pytest.raises(SourceError, match="holds the class 2, but 2 classes are named"):
        read(root, crop_boxes=True)  # type: ignore[arg-type]
    with pytest.raises(ImageError, match="is outside the image"):
        open_row(root, "images/train/0.jpg#100000,0,5,5")


def test_names_of_images_that_lead_outside_find_no_file(tmp_path: Path) -> None:
    root = _coco(tmp_path / "set")
    shutil.copy(root / "train2017" / "0.jpg", tmp_path / "0.jpg")
    file = root / "annotations" / "instances_train2017.json"
    held = json.loads(file.read_text())
    held["images"][1]["file_name"] = "../../0.jpg"
    held["images"][2]["file_name"] = str(tmp_path / "0.jpg")
    file.write_text(json.dumps(held))
    found = {path.partition("#")[0] for path, _, split in table(read(root, crop_boxes=True)) if split == "train"}  # type: ignore[arg-type]
    assert found == {f"train2017/{n}.jpg" for n in (0, 3, 4, 5)}
    file.write_text('{"images": [], "annotations": [{"bbox": 1')
    with pytest.raises(SourceError, match=r"instances_train2017\.json is not COCO, or it is damaged"):
        read(root, crop_boxes=True)  # type: ignore[arg-type]


def test_crop_boxes_without_boxes_is_told() -> None:
    with pytest.raises(ConfigError, match=r"data\.crop_boxes has no effect on builtin:pets"):
        ta.read("builtin:pets", crop_boxes=True)


def test_names_of_a_data_yaml_are_read_in_each_of_its_forms() -> None:
    forms = (
        "names: [cat, 'a dog']\nnc: 2",
        'nc: 2\nnames:\n- cat\n- "a dog"\n\ntrain: x\n',
        "names: # two\n  0: cat\n  1: a dog",
    )
    assert [names_in_yaml(form) for form in forms] == [{"0": "cat", "1": "a dog"}] * 3
    assert names_in_yaml("path: x\n") == {}
