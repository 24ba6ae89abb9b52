from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.config import AUGMENTATIONS, Config
from tellapart.data import pixels as road
from tellapart.data.batches import Images
from tellapart.data.cache import ArrayCache, content_digest
from tellapart.data.catalog import ImageRecord
from tellapart.progress import Progress
from tellapart.task import ImageSpec, Task

keras = pytest.importorskip("keras")

from tellapart.models import feature_engine  # noqa: E402
from tellapart.models.classifier import Classifier  # noqa: E402
from tellapart.models.compute import outputs  # noqa: E402
from tellapart.models.feature_engine import FeatureEngine, bundled_engine, choose_engine  # noqa: E402
from tellapart.models.features import FeatureSet, Pool, union  # noqa: E402
from tellapart.models.pretrained import PRETRAINED, candidates  # noqa: E402
from tellapart.models.pretrained_weights import bundled_file, bundled_graph, load_pretrained, weights_digest  # noqa: E402
from tellapart.training.features import Views, backbone_key, extract, feature_cache  # noqa: E402
from tools.bundled_graph import write as write_bundled  # noqa: E402

SPEC = ImageSpec(32, 32, fit="crop")
BACKBONE = PRETRAINED["efficientnet-lite0"]
WIDTH = 4
AVERAGES = FeatureSet((Pool("top"),))
NAMES = [pool.key for pool in AVERAGES.pools]
ALL = union(candidates(BACKBONE).values())


@pytest.fixture
def cache() -> Iterator[ArrayCache]:
    with feature_cache("test", WIDTH, 10**9) as opened:
        yield opened


class Counting:
    """An engine that is quick and counts: the means of an image's rows, to four numbers."""

    def __init__(self) -> None:
        self.computed = 0

    def compute(self, batch: np.ndarray) -> np.ndarray:
        self.computed += len(batch)
        return batch.reshape(len(batch), WIDTH, -1).mean(axis=2).astype(np.float32)

    @property
    def engine(self) -> FeatureEngine:
        return FeatureEngine("counting", self.compute, (1, WIDTH - 1))


def images_of(root: Path, names: list[str] | None = None) -> tuple[Images, list[str]]:
    names = names or sorted(str(path.relative_to(root)) for path in root.rglob("*.png"))
    rows = [ImageRecord(name, "a", digest=content_digest((root / name).read_bytes())) for name in names]
    return Images(root, rows, SPEC, open_row=lambda folder, name: folder / name), [row.digest for row in rows]


def test_features_of_images_that_were_seen_are_not_computed_again(shapes: Path, cache: ArrayCache) -> None:
    counting = Counting()
    images, digests = images_of(shapes)
    first = extract(counting.engine, images, cache)
    assert counting.computed == len(digests)
    again = extract(counting.engine, images, cache)
    assert counting.computed == len(digests)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, counting.compute(images.take(np.arange(len(digests)))).astype(np.float16))


def test_an_image_that_stands_twice_is_computed_once(shapes: Path, cache: ArrayCache) -> None:
    counting = Counting()
    name = sorted(str(path.relative_to(shapes)) for path in shapes.rglob("*.png"))[0]
    images, _ = images_of(shapes, [name, name])
    found = extract(counting.engine, images, cache)
    assert counting.computed == 1
    np.testing.assert_array_equal(found[0], found[1])


def test_extraction_that_was_stopped_goes_on_where_it_stopped(shapes: Path) -> None:
    counting = Counting()
    images, digests = images_of(shapes)

    def stop(*_: object) -> None:
        if counting.computed >= 24:
            raise KeyboardInterrupt

    with feature_cache("test", WIDTH, 10**9) as cache, pytest.raises(KeyboardInterrupt):
        extract(counting.engine, images, cache, tell=stop)
    assert counting.computed == 24
    with feature_cache("test", WIDTH, 10**9) as cache:
        found = extract(counting.engine, images, cache)
    assert counting.computed == len(digests)
    whole = counting.compute(images.take(np.arange(len(digests)))).astype(np.float16)
    np.testing.assert_array_equal(found, whole)


def test_the_first_view_is_plain_and_the_others_are_drawn_from_the_image_and_not_its_place(
    shapes: Path, cache: ArrayCache
) -> None:
    counting = Counting()
    images, digests = images_of(shapes)
    n = len(digests)
    views = Views(3, AUGMENTATIONS["strong"], seed=4)
    found = extract(counting.engine, images, cache, views)
    assert found.shape == (3 * n, WIDTH)
    np.testing.assert_array_equal(found[:n], extract(counting.engine, images, cache))
    assert counting.computed == 3 * n
    assert not (found[n : 2 * n] == found[2 * n :]).all(axis=1).any()
    names = sorted((str(path.relative_to(shapes)) for path in shapes.rglob("*.png")), reverse=True)
    turned, _ = images_of(shapes, names)
    with feature_cache("other", WIDTH, 10**9) as other:
        theirs = extract(counting.engine, turned, other, views)
    for view in range(3):
        np.testing.assert_array_equal(theirs[view * n : (view + 1) * n][::-1], found[view * n : (view + 1) * n])


@pytest.mark.parametrize("changed", [{"seed": 5}, {"augment": AUGMENTATIONS["light"]}])
def test_views_of_another_seed_or_augmentation_are_computed_anew(
    shapes: Path, cache: ArrayCache, changed: dict[str, Any]
) -> None:
    counting = Counting()
    images, digests = images_of(shapes)
    settings: dict[str, Any] = {"augment": AUGMENTATIONS["strong"], "seed": 4}
    extract(counting.engine, images, cache, Views(2, **settings))
    extract(counting.engine, images, cache, Views(2, **settings | changed))
    assert counting.computed == 3 * len(digests)


def test_a_cache_that_cannot_be_kept_costs_time_and_changes_nothing(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "file"))
    counting = Counting()
    images, digests = images_of(shapes)
    with feature_cache("test", WIDTH, 10**9) as cache:
        found = extract(counting.engine, images, cache)
        assert "features cannot be kept" in cache.problem
    np.testing.assert_array_equal(found, counting.compute(images.take(np.arange(len(digests)))).astype(np.float16))


def averages_of(model: Classifier) -> Any:
    return keras.Model(model.backbone.image, AVERAGES.parts(model.backbone))


class Lines(Progress):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


def test_the_engine_gives_what_keras_gives_is_kept_and_a_damaged_one_is_made_again(
    shapes: Path, own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Classifier.from_config(Task(("a", "b")), SPEC, Config.from_dict({"model": {"name": BACKBONE.name}}).model)
    load_pretrained(model.backbone, BACKBONE, "auto")
    key = backbone_key(BACKBONE.name, weights_digest(model.backbone), SPEC, AVERAGES)
    pixels = images_of(shapes)[0].take(np.arange(12))
    expected = model.features_network().predict_on_batch(pixels)
    told = Lines()

    def compare(asked: list[int]) -> FeatureEngine:
        engine = choose_engine(averages_of(model), NAMES, key, lambda: asked.append(1) or pixels, told)
        np.testing.assert_allclose(engine.compute(pixels), expected, atol=1e-3)
        assert engine.width == 1280
        return engine

    asked: list[int] = []
    assert compare(asked).name == "onnxruntime"
    assert compare(asked).name == "onnxruntime"
    assert len(asked) == 1
    (own_cache / "backbones" / f"{key}.onnx").write_bytes(b"no network")
    assert compare(asked).name == "onnxruntime"
    assert len(asked) == 2
    assert not told.lines
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "file"))
    assert compare(asked).name == "keras"
    assert "slower" in told.lines[0]


def test_the_graph_inside_the_package_gives_what_keras_gives_of_images_of_any_size() -> None:
    for height, width in ((32, 64), (57, 57), (66, 98), (224, 224)):
        spec = ImageSpec(height, width)
        model = Classifier.from_config(
            Task(("a", "b")), spec, Config.from_dict({"model": {"name": BACKBONE.name}}).model
        )
        load_pretrained(model.backbone, BACKBONE, "auto")
        images = np.random.default_rng(0).integers(0, 256, (5, *spec.shape), np.uint8)
        taken = AVERAGES if min(height, width) == 32 else ALL
        expected = outputs(keras.Model(model.backbone.image, taken.parts(model.backbone)), images)
        engine = bundled_engine(BACKBONE.name, taken)
        assert engine.widths == tuple(part.shape[1] for part in expected)
        found = np.split(engine.compute(images), np.cumsum(engine.widths)[:-1], axis=1)
        for pool, ours, theirs in zip(taken.pools, found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4 * theirs.max(), err_msg=pool.key)


@pytest.mark.parametrize("name", [name for name, pretrained in PRETRAINED.items() if bundled_file(pretrained).exists()])
def test_every_backbone_that_ships_has_the_graph_that_the_tool_writes(name: str) -> None:
    assert bundled_graph(name).read_bytes() == write_bundled(PRETRAINED[name]), "python tools/bundled_graph.py"


def test_another_weight_or_spec_is_another_key() -> None:
    model = Classifier.from_config(Task(("a", "b")), SPEC, Config.from_dict({"model": {"name": BACKBONE.name}}).model)
    load_pretrained(model.backbone, BACKBONE, "auto")
    before = weights_digest(model.backbone)
    last = next(weight for weight in model.backbone.weights if weight.path.startswith("end_convolution"))
    last.assign(np.asarray(last) * 1.0001)
    keys = {
        backbone_key(BACKBONE.name, before, SPEC, AVERAGES),
        backbone_key(BACKBONE.name, weights_digest(model.backbone), SPEC, AVERAGES),
        backbone_key(BACKBONE.name, before, ImageSpec(32, 32, fit="squash"), AVERAGES),
    }
    assert len(keys) == 3


def test_another_road_to_pixels_is_another_key_of_a_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    before = backbone_key(BACKBONE.name, "digest", SPEC, AVERAGES)
    monkeypatch.setattr(road, "ROAD", "another")
    assert backbone_key(BACKBONE.name, "digest", SPEC, AVERAGES) != before


def test_other_maps_of_a_backbone_are_another_key() -> None:
    before = backbone_key(BACKBONE.name, "digest", SPEC, AVERAGES)
    assert backbone_key(BACKBONE.name, "digest", SPEC, FeatureSet((Pool("top", name="any"),))) == before
    assert backbone_key(BACKBONE.name, "digest", SPEC, FeatureSet((Pool("top", grid=2),))) != before


def test_a_conversion_that_differs_is_not_used(
    shapes: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch, sensitive: Callable[..., Any]
) -> None:
    pixels = images_of(shapes)[0].take(np.arange(6))
    settings = Config.from_dict({"model": {"name": BACKBONE.name}}).model
    model, other = (sensitive(Classifier.from_config(Task(("a", "b")), SPEC, settings), pixels) for _ in range(2))
    load_pretrained(model.backbone, BACKBONE, "auto")
    monkeypatch.setattr(
        feature_engine,
        "write_graph",
        lambda _, names, real=feature_engine.write_graph: real(averages_of(other), names),
    )
    told = Lines()
    engine = choose_engine(averages_of(model), NAMES, "key", lambda: pixels, told)
    assert engine.name == "keras"
    assert "its features differ from Keras'" in told.lines[0]
    np.testing.assert_allclose(engine.compute(pixels), model.features_network().predict_on_batch(pixels), atol=1e-5)
    assert not list((own_cache / "backbones").iterdir())
