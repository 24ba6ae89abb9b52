"""The figures and sentences of one image."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.errors import ConfigError, MissingExtraError, SourceError
from tellapart.explain import explanation
from tellapart.explain.explanation import rank_correlation
from tellapart.explain.feature_maps import Filters, feature_maps, first_filters
from tellapart.explain.figures import filters_figure, maps_figure
from tests.command import COMMAND

Trained = Callable[[str], ta.Run]


def call(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, env=environment, check=False
    )


def images_in(svg: str) -> list[np.ndarray]:
    """The pixels of the images that stand in a drawing."""
    found = []
    for node in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}image"):
        kind, _, data = str(node.get("href")).partition(",")
        assert kind == "data:image/png;base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            found.append(np.asarray(image))
    assert found
    return found


@pytest.fixture
def image(planted: Any, trained: Trained) -> Path:
    """A test image that the network did not see."""
    path: str = trained("cnn").catalog.split("test").images[0].path
    return Path(planted.root / path)


def test_an_image_is_explained_in_figures_and_sentences(trained: Trained, image: Path, tmp_path: Path) -> None:
    run = trained("cnn")
    found = run.explain(image, out=tmp_path / "why")
    assert {path.name for path in (tmp_path / "why").iterdir()} == {
        "heat.svg", "feature-maps.svg", "filters.svg", "explain.html",
    }  # fmt: skip
    assert set(found.files) == set((tmp_path / "why").iterdir())
    for path in found.files[:-1]:
        assert all(pixels.std() > 10 for pixels in images_in(path.read_text(encoding="utf-8")))
    (predicted,) = run.predict(image)
    assert (found.label, found.probability) == (predicted.label, pytest.approx(predicted.probability))
    assert found.agreement is not None
    assert found.agreement > 0.15
    assert any(f"{found.agreement:.2f}" in sentence for sentence in found.words)
    assert found.covered < found.probability, "what decides the class was covered"
    assert found.words[0].startswith(f"Predicted {predicted.label}")


def test_the_page_shows_the_heat_with_its_scale_and_the_training_images_that_look_alike(
    trained: Trained, planted: Any, tmp_path: Path
) -> None:
    run = trained("cnn")
    known = run.catalog.split("train").images[0]
    copy = tmp_path / "a copy <b>.png"
    copy.write_bytes((planted.root / known.path).read_bytes())
    page = run.explain(copy, out=tmp_path / "why").files[-1].read_text(encoding="utf-8")
    assert page.count('<img src="data:image/') == len(run.explain(copy, out=tmp_path / "why").panels) + 8
    first = page[page.index("Training images that look most like it") :]
    assert first.index(known.path) < first.index("similarity 1.00") + 200, "a copy is the nearest"
    assert "linear-gradient(to right, rgb(0 0 4)" in page
    assert "a copy &lt;b&gt;.png" in page
    assert 'href="heat.svg"' in page
    inside = run.explain(planted.root / known.path, out=tmp_path / "own").files[-1].read_text(encoding="utf-8")
    assert "similarity 1.00" not in inside, "an image is not its own neighbour"


def test_without_the_training_images_the_page_says_why_it_has_no_neighbours(
    trained: Trained, image: Path, tmp_path: Path
) -> None:
    run = ta.open_run(shutil.copytree(trained("cnn").path, tmp_path / "run"))
    table = run.path / "run.json"
    values = json.loads(table.read_text()) | {"data": str(tmp_path / "nowhere")}
    table.write_text(json.dumps(values))
    page = ta.open_run(run.path).explain(image, out=tmp_path / "why").files[-1].read_text(encoding="utf-8")
    assert "Not available: " in page
    assert "Where the evidence lies" in page


def test_an_image_that_is_unlike_is_told_so_before_any_class() -> None:
    from tellapart.explain.explanation import _words
    from tellapart.inference.prediction import Prediction

    heat = np.ones((4, 4), np.float32)
    words = {}
    for verdict in ("sure", "unlike"):
        said = Prediction("a.png", "disc", 0.9, {"disc": 0.9, "stripes": 0.1}, verdict, 0.8)
        words[verdict] = _words(said, "disc", "occlusion", None, heat, 0.4)[0]
    assert words["sure"] == "Predicted disc, 90.0 %."
    assert words["unlike"] == "Out-of-distribution (unlike the training images); the nearest class is disc, 90.0 %."


def test_another_class_can_be_explained_and_a_wrong_one_is_told(trained: Trained, image: Path, tmp_path: Path) -> None:
    run = trained("cnn")
    (predicted,) = run.predict(image)
    other = next(name for name in run.task.classes if name != predicted.label)
    found = run.explain(image, label=other, out=tmp_path / "why")
    assert found.label == other
    assert found.probability == pytest.approx(predicted.probabilities[other])
    assert f"Explained: {other}" in found.words[0]
    with pytest.raises(ConfigError, match=r"no class 'stripe'.*'stripes'"):
        run.explain(image, label="stripe", out=tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_what_is_no_image_is_told_and_nothing_is_written(trained: Trained, tmp_path: Path) -> None:
    run = trained("cnn")
    (tmp_path / "bad.jpg").write_bytes(b"bad")
    for path, told in (
        (tmp_path / "bad.jpg", "not an image"),
        (tmp_path / "gone.jpg", "No such file"),
        (tmp_path, "is a folder; explain takes one image, such as .*bad.jpg"),
    ):
        with pytest.raises(SourceError, match=told):
            run.explain(path, out=tmp_path / "why")
    assert not (tmp_path / "why").exists()


def classifier_of(run: ta.Run) -> Any:
    from tellapart.models.classifier import Classifier

    return Classifier.from_file(run.task, run.spec, run.config.model, run.model_file)


def test_without_the_extra_the_heat_is_shown_all_the_same(
    trained: Trained, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise MissingExtraError("Training", "train")

    run = trained("cnn")
    monkeypatch.setattr(explanation, "_network_figures", missing)
    found = run.explain(image, out=tmp_path / "why")
    assert [path.name for path in found.files] == ["heat.svg", "explain.html"]
    assert "tellapart[train]" in found.words[-1]


def test_a_network_without_convolutions_has_no_feature_maps_and_its_weights_are_images(
    trained: Trained, image: Path, tmp_path: Path
) -> None:
    run = trained("dense")
    found = run.explain(image, out=tmp_path / "why")
    assert [path.name for path in found.files] == ["heat.svg", "filters.svg", "explain.html"]
    assert first_filters(classifier_of(run)).values.shape == (128, 28, 28, 3)


def test_feature_maps_are_what_the_layers_give(trained: Trained, planted: Any) -> None:
    from tellapart.data import pixels

    run = trained("cnn")
    classifier = classifier_of(run)
    seen = pixels.read(planted.root / run.catalog.images[0].path, run.spec)
    maps = feature_maps(classifier, seen, 5)
    assert [one.layer for one in maps] == ["convolution_1", "pooling_1", "convolution_2", "pooling_2"]
    assert [one.values.shape for one in maps] == [(54, 54, 5), (27, 27, 5), (25, 25, 5), (12, 12, 5)]
    kernel, bias = (
        np.asarray(value, np.float64) for value in classifier.network.get_layer("convolution_1").get_weights()
    )
    patch = seen[10:13, 20:23].astype(np.float64) / 255
    expected = np.maximum((patch[..., None] * kernel).sum(axis=(0, 1, 2)) + bias, 0)
    shown = maps[0].values[10, 20]
    assert all(np.abs(expected - value).min() < 1e-5 for value in shown)
    spread = maps[0].values.std(axis=(0, 1))
    assert (np.diff(spread) <= 0).all()
    assert maps[0].words == "convolution_1: 54x54, 5 of 8 channels"
    np.testing.assert_allclose(first_filters(classifier).values[3], kernel[..., 3], atol=1e-6)


def test_filters_of_a_backbone_that_sees_blue_first_are_shown_as_colours() -> None:
    keras = pytest.importorskip("keras")

    from tellapart.models.classifier import Classifier

    model = Classifier.from_name(ta.Task(("a", "b")), ta.ImageSpec(32, 32), "resnet-50")
    first = next(layer for layer in model.backbone.layers if isinstance(layer, keras.layers.Conv2D))
    kernel = np.asarray(first.kernel)
    np.testing.assert_array_equal(first_filters(model).values[5], kernel[..., ::-1, 5])


@pytest.mark.parametrize("shape", [(1, 3, 3, 1), (70, 3, 3, 3), (40, 5, 2, 1)])
def test_filters_of_any_number_are_drawn(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    values[0] = 0
    figure = filters_figure(Filters("layer", values))
    (mosaic,) = images_in(figure.svg)
    assert ("64 of 70" in figure.svg) == (shape[0] == 70)
    assert (mosaic[10, 10, :3] == 128).all(), "0 is the middle grey"
    assert mosaic.shape[0] == 48 + 54 * ((min(shape[0], 64) - 1) // 16), "16 beside each other"


def test_a_map_that_is_the_same_everywhere_is_drawn() -> None:
    from tellapart.explain.feature_maps import FeatureMap

    figure = maps_figure([FeatureMap("<one>", np.ones((1, 1, 2), np.float32), 2)])
    assert "<one>: 1x1, 2 channels" in "".join(ElementTree.fromstring(figure.svg).itertext())


def test_the_hottest_tenth_and_nothing_else_is_covered() -> None:
    seen = np.full((10, 20, 3), 200, np.uint8)
    seen[:, :10] = 100
    heat = np.arange(200, dtype=np.float32).reshape(10, 20)
    covered = explanation._cover(seen, heat)
    np.testing.assert_array_equal((covered == 150).all(axis=-1), heat >= 180)
    np.testing.assert_array_equal(covered[heat < 180], seen[heat < 180])


def test_rank_correlation_compares_maps_of_different_size() -> None:
    y, x = np.mgrid[:224, :224]
    slope = (x + 2.0 * y).astype(np.float32)
    assert rank_correlation(slope[16::32, 16::32], slope) == pytest.approx(1, abs=0.01)
    assert rank_correlation(-slope[16::32, 16::32], slope) == pytest.approx(-1, abs=0.01)
    assert rank_correlation(np.ones((7, 7)), slope) is None
    assert rank_correlation(np.ones((1, 1)), slope) is None


@pytest.mark.slow
def test_the_command_prints_sentences_and_files(trained: Trained, image: Path, tmp_path: Path) -> None:
    run = trained("cnn")
    shown = call("explain", run.path, image)
    assert shown.returncode == 0, shown.stderr
    folder = run.path / "explain" / image.name
    assert f"{folder / 'heat.svg'}" in shown.stdout
    assert shown.stdout.startswith("Predicted ")
    answer = call("explain", run.path, image, "--class", "rings", "--out", tmp_path / "x", "--format", "json")
    values = json.loads(answer.stdout)
    assert values["label"] == "rings"
    assert Path(values["files"][0]) == tmp_path / "x" / "heat.svg"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nowhere", "x.jpg"), "There is no run nowhere"),
        (("RUN", "gone.jpg"), "gone.jpg cannot be explained"),
        (("RUN", "IMAGE", "--class", "ring"), "Did you mean 'rings'"),
    ],
)
def test_a_wrong_request_is_one_message_and_exit_code_2(
    arguments: tuple[str, ...], says: str, trained: Trained, image: Path
) -> None:
    places = {"RUN": str(trained("cnn").path), "IMAGE": str(image)}
    shown = call("explain", *(places.get(word, word) for word in arguments))
    assert shown.returncode == 2
    assert says in shown.stderr
    assert "Traceback" not in shown.stderr
