"""What a report is put together from: predictions.csv, the album of images, the confusion matrix, suspect labels."""

import base64
import csv
import io
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.errors import ImageError, SourceError
from tellapart.evaluation.suspects import find_suspects
from tellapart.report.confusion import (
    MOST_IN_CELL,
    MOST_TABLE_CLASSES,
    cells_of,
    confusion_svg,
    opened,
    row_shares,
    with_images,
    worst_pairs,
)
from tellapart.report.thumbnails import Album
from tellapart.runs.predictions import Predictions, read_predictions
from tellapart.task import Task
from tests.report.conftest import evaluated, make_predictions


def write_csv(path: Path, header: list[str], *rows: list[str]) -> Path:
    with path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


@pytest.mark.parametrize("between", [[], ["verdict", "distance"]])
def test_probabilities_are_found_by_the_names_of_the_classes(between: list[str], tmp_path: Path) -> None:
    # Classes that are named as the columns before them are.
    classes = ("path", "label")
    header = ["path", "truth", "label", "probability", *between, *classes]
    filled = ["sure", ""][: len(between)]
    path = write_csv(
        tmp_path / "predictions.csv",
        header,
        ["caf\udce9.jpg", "label", "path", "0.7", *filled, "0.7", "0.3"],
        ["b,\n.jpg", "path", "path", "0.9", *filled, "0.9", "0.1"],
    )
    found = read_predictions(path, Task(classes))
    assert found is not None
    assert found.paths == ("caf\udce9.jpg", "b,\n.jpg")
    assert found.truth.tolist() == [1, 0]
    assert found.named.tolist() == [0, 0]
    assert found.confidence.tolist() == [0.7, 0.9]


def test_predictions_that_are_not_of_these_classes_are_not_used(tmp_path: Path) -> None:
    header = ["path", "truth", "label", "probability", "cat", "dog"]
    row = ["a.jpg", "cat", "cat", "0.7", "0.7", "0.3"]
    path = write_csv(tmp_path / "a.csv", header, row)
    assert read_predictions(path, Task(("cat", "dog"))) is not None
    for classes in (("dog", "cat"), ("cat", "dog", "bird")):
        assert read_predictions(path, Task(classes)) is None
    for rows in ([["a.jpg", "bird", *row[2:]]], [row[:-1]], [[*row[:-1], "much"]], []):
        assert read_predictions(write_csv(tmp_path / "b.csv", header, *rows), Task(("cat", "dog"))) is None
    assert read_predictions(tmp_path / "none.csv", Task(("cat", "dog"))) is None


def test_an_album_stays_within_its_budget_and_keeps_the_first() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    size = len(Album(lambda *_: noise).take(["a"], 100)[0].source)
    album = Album(lambda *_: noise, budget=3 * size + 10)
    assert [thumbnail.path for thumbnail in album.take(["a", "b"], 100)] == ["a", "b"]
    assert [thumbnail.path for thumbnail in album.take(["b", "c", "d", "e"], 100)] == ["b", "c"], (
        "b costs nothing again"
    )
    assert album.add("f", noise) is None
    assert album.take(["g"], 100) == []


def test_an_image_is_read_once_for_each_size() -> None:
    asked: list[tuple[str, int]] = []

    def read(path: str, side: int) -> np.ndarray:
        asked.append((path, side))
        return np.zeros((side, side, 3), np.uint8)

    album = Album(read)
    for side in (100, 100, 80):
        album.take(["a"], side)
    assert asked == [("a", 100), ("a", 80)]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImageError("truncated", "at byte 9"), "any more: truncated: at byte 9."),
        (FileNotFoundError(2, "No such file or directory"), "any more: No such file or directory."),
        (SourceError("The idx file is damaged."), "any more: The idx file is damaged."),
    ],
)
def test_an_image_that_cannot_be_read_says_why(error: Exception, words: str) -> None:
    def read(_: str, __: int) -> np.ndarray:
        raise error

    (thumbnail,) = Album(read).take(["a"], 100)
    assert thumbnail.source == ""
    assert thumbnail.missing == f"The image cannot be read {words}"


def test_small_images_are_kept_without_loss_and_large_ones_as_jpeg() -> None:
    for side, form in ((64, "PNG"), (65, "JPEG")):
        pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        (thumbnail,) = Album(lambda *_, found=pixels: found).take(["a"], 100)
        image = Image.open(io.BytesIO(base64.b64decode(thumbnail.source.split(",")[1])))
        assert (image.format, image.size, thumbnail.small) == (form, (side, side), form == "PNG")
        assert np.array_equal(np.asarray(image), pixels) == (form == "PNG")


def test_cells_share_the_images_out_mistakes_first_and_surest_first() -> None:
    classes = ("a", "b", "c")
    predictions = make_predictions(classes, 300, surety=1.5)
    cells = opened(evaluated(classes, predictions), cells_of(evaluated(classes, predictions)))
    assert len(cells) == 9
    pixels = np.zeros((9, 9, 3), np.uint8)
    size = len(Album(lambda *_: pixels).take(["a"], 9)[0].source)
    few = with_images(cells, predictions, Album(lambda *_: pixels, budget=6 * size))
    assert {cell.id: len(cell.images) for cell in few if cell.truth != cell.named} == dict.fromkeys(
        ("cell-0-1", "cell-0-2", "cell-1-0", "cell-1-2", "cell-2-0", "cell-2-1"), 1
    )
    many = with_images(cells, predictions, Album(lambda *_: pixels))
    for cell in many:
        paths = [thumbnail.path for thumbnail, _ in cell.images]
        assert len(paths) == (min(MOST_IN_CELL, cell.count) if cell.truth == cell.named else cell.count)
        assert cell.rest == cell.count - len(paths)
        rows = [predictions.paths.index(path) for path in paths]
        assert all(predictions.truth[row] == cell.truth and predictions.named[row] == cell.named for row in rows)
        order = predictions.confidence[rows] * (1 if cell.truth == cell.named else -1)
        assert (np.diff(order) >= 0).all()


def test_the_worst_pairs_are_mistakes_by_falling_count() -> None:
    classes = tuple(f"{i}" for i in range(MOST_TABLE_CLASSES + 1))
    predictions = make_predictions(classes, 4000, surety=2)
    found = evaluated(classes, predictions)
    pairs = worst_pairs(cells_of(found))
    assert [cell.count for cell in pairs] == sorted((cell.count for cell in pairs), reverse=True)
    assert all(cell.truth != cell.named and cell.count for cell in pairs)
    assert pairs[0].count == (found.confusion - np.diag(np.diagonal(found.confusion))).max()
    assert opened(found, cells_of(found))[: len(pairs)] == pairs


@pytest.mark.parametrize("k", [2, 20, 21, 130])
def test_the_matrix_as_an_image_has_a_pixel_a_cell_and_names_that_stay_apart(k: int) -> None:
    names = tuple(f"<b>American Staffordshire bull terrier number {i}" for i in range(k))
    confusion = 8 * np.eye(k, dtype=np.int64)
    confusion[0, 1] = 2
    root = ElementTree.fromstring(confusion_svg(confusion, names))
    image = next(root.iter("image"))
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(str(image.get("href")).split(",")[1]))))
    assert pixels.shape == (k, k, 4)
    assert pixels[1, 1, 3] == 255
    assert pixels[1, 0, 3] == 0
    assert pixels[0, 1, 3] == round(255 * np.sqrt(0.2))
    assert pixels[0, 1].tolist()[:3] != pixels[0, 0].tolist()[:3]
    shown = [node for node in root.iter("text") if node.get("text-anchor") == "end"]
    heights = [float(str(node.get("y"))) for node in shown]
    letter = float(str(next(root.iter("g")).get("font-size")))
    assert len(shown) <= 60
    assert (np.diff(heights) >= letter).all()
    assert len({node.text for node in shown}) == len(shown)
    assert ("2" in [node.text for node in root.iter("text")]) == (k < 100), "where a count fits"
    told = {node.get("data-cell"): node.find("title").text for node in root.iter("rect") if node.get("data-cell")}  # type: ignore[union-attr]
    assert len(told) == k + 1
    assert told["0-1"] == f"2 images of {names[0]} predicted as {names[1]}, 20.0 %"


def test_names_that_stand_upright_are_not_turned() -> None:
    root = ElementTree.fromstring(confusion_svg(np.eye(2, dtype=np.int64), ("制限速度", "speed")))
    turned = {node.text: "transform" in group.attrib for group in root.iter("g") for node in group.findall("text")}
    assert (turned["制限速度"], turned["speed"]) == (False, True)


def test_shares_of_a_class_without_images_are_zero() -> None:
    assert row_shares(np.array([[3, 1], [0, 0]])).tolist() == [[0.75, 0.25], [0, 0]]


def test_flipped_labels_are_the_first_suspects() -> None:
    clean = make_predictions(("a", "b", "c"), 600, surety=5)
    flipped = np.random.default_rng(1).choice(600, 30, replace=False)
    truth = clean.truth.copy()
    truth[flipped] = (truth[flipped] + 1) % 3
    found = find_suspects(Predictions(clean.paths, truth, clean.probabilities))
    wrong = {clean.paths[row] for row in flipped}
    assert len(wrong & {suspect.path for suspect in found[:30]}) >= 27
    right = dict(zip(clean.paths, clean.truth.tolist(), strict=True))
    assert all(suspect.suggested == right[suspect.path] for suspect in found[:20])
    assert all(suspect.wanted > suspect.given for suspect in found)
    assert [suspect.given - suspect.wanted for suspect in found] == sorted(s.given - s.wanted for s in found)


def test_a_class_without_images_is_never_suggested() -> None:
    rows = np.array([[0.1, 0.2, 0.7], [0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    found = find_suspects(Predictions(("a", "b", "c"), np.array([0, 0, 1]), rows))
    assert 2 not in {suspect.suggested for suspect in found}
