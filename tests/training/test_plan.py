from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.api.options import make_config
from tellapart.config import AUGMENTATIONS, Config, DataConfig, Plan
from tellapart.data.sources import read_source
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.errors import ConfigError, ModelError
from tellapart.models import backend
from tellapart.models.registry import resolve
from tellapart.runs.run import create_run
from tellapart.task import ImageSpec
from tellapart.training.plan import decide, plan_of
from tests.values import plan

LITE = "model.name=efficientnet-lite0"


@pytest.mark.parametrize(
    ("settings", "preset", "views"),
    [
        (["model.name=cnn"], "light", None),
        (["model.name=cnn", "augment=strong"], "strong", None),
        ([LITE], "none", 1),
        ([LITE, "augment=none"], "none", 1),
        ([LITE, "augment=medium"], "medium", 4),
        ([LITE, "augment=medium", "train.views=2"], "medium", 2),
        ([LITE, "augment=medium", "train.views=1"], "medium", 1),
        ([LITE, "train.views=3"], "light", 3),
        ([LITE, "train.fine_tune=2"], "light", 1),
        ([LITE, "train.fine_tune=2", "train.fine_tune_on=activations"], "light", 4),
        ([LITE, "train.fine_tune=2", "train.fine_tune_on=activations", "augment=none"], "none", 1),
        ([LITE, "train.fine_tune=all", "augment=medium"], "medium", 1),
        ([LITE, "train.fine_tune=all", "train.views=2"], "light", 2),
    ],
)
def test_augmentation_and_views_follow_from_what_sees_the_images(
    shapes: Path, settings: list[str], preset: str, views: int | None
) -> None:
    config = decide(make_config(settings=settings), read_source(shapes, DataConfig())).config
    assert config.augment == AUGMENTATIONS[preset]
    assert config.train.views == views
    assert decide(config, read_source(shapes, DataConfig())).config == config, "a run's own configuration repeats it"


def test_many_tiny_images_get_a_network_of_their_own_size_where_keras_trains_it_and_others_the_backbone(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tellapart.training.plan.has_keras", lambda: True)
    found = decide(make_config(), read_source(shapes, DataConfig()))
    assert found.config.model.name == "efficientnet-lite0"
    assert found.spec == ImageSpec(224, 224, fit="crop")
    assert "inside the package" in found.reasons[0]
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "tile.png")
    tiles = Source(tmp_path, tuple(LabelledPath("tile.png", "ab"[number % 2]) for number in range(10_000)), "")
    found = decide(make_config(), tiles)
    assert found.config.model.name == "resnet-small"
    assert found.spec == ImageSpec(28, 28, 1)
    assert "10,000 images" in found.reasons[0]
    monkeypatch.setattr("tellapart.training.plan.has_keras", lambda: False)
    found = decide(make_config(), tiles)
    assert found.config.model.name == "efficientnet-lite0"
    assert "resnet-small may be better: pip install 'tellapart[train]' adds it" in found.reasons[0]


@pytest.mark.parametrize("setting", ["train.fine_tune=2", "train.fine_tune=all", "train.views=2"])
def test_what_only_a_backbone_has_is_refused_for_a_network_trained_from_nothing(shapes: Path, setting: str) -> None:
    with pytest.raises(ModelError, match=r"cnn is trained from scratch.*--model"):
        decide(make_config(settings=["model.name=cnn", setting]), read_source(shapes, DataConfig()))


def test_features_of_several_positions_are_refused_for_images_whose_maps_have_one(shapes: Path) -> None:
    settings = [LITE, "model.features=levels", "image.height=32", "image.width=32"]
    with pytest.raises(ModelError, match=r"levels reads maps with several positions.*--image-size above 32"):
        decide(make_config(settings=settings), read_source(shapes, DataConfig()))


def test_a_run_that_begins_reads_several_maps_as_roots_and_one_of_an_earlier_version_does_not(shapes: Path) -> None:
    settings = [LITE, "model.features=levels", "image.height=64", "image.width=64"]
    begun = decide(make_config(settings=settings), read_source(shapes, DataConfig())).config.model
    earlier = make_config(settings=settings).model
    for model, root in ((begun, True), (earlier, False)):
        row, options = resolve(model)
        assert row.features(options).root is root


def test_an_option_that_the_chosen_model_lacks_says_how_to_name_the_model(shapes: Path) -> None:
    with pytest.raises(ModelError, match=r"no option of efficientnet-lite0 'filters'.*--model"):
        decide(make_config(settings=["model.filters=[4]"]), read_source(shapes, DataConfig()))


def test_a_run_goes_on_by_the_plan_that_it_was_begun_by_wherever_that_is(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tellapart.training.plan.choose_precision", machine("bfloat16"))
    begun = decide(make_config(settings=["model.name=cnn"]), read_source(shapes, DataConfig()))
    run = create_run(tmp_path / "run", begun, ta.read(shapes))
    monkeypatch.setattr("tellapart.training.plan.choose_precision", machine("float32"))
    assert plan_of(run) == begun
    assert begun.config.train.precision == "bfloat16"


@pytest.mark.parametrize(
    ("model", "gpu", "expected"),
    [
        ("cnn", (0, 0), "bfloat16"),
        ("resnet-50", (0, 0), "bfloat16"),
        ("efficientnet-lite0", (0, 0), "float32"),
        ("efficientnet-lite0", (9, 0), "bfloat16"),
    ],
)
def test_a_network_that_a_processor_computes_more_slowly_in_bfloat16_is_trained_in_float32_there(
    shapes: Path, monkeypatch: pytest.MonkeyPatch, model: str, gpu: tuple[int, int], expected: str
) -> None:
    monkeypatch.setattr(backend, "_cpu_flags", lambda: {"avx512_bf16"})
    monkeypatch.setattr(backend, "_gpu_capability", lambda: gpu)
    begun = decide(make_config(settings=[f"model.name={model}"]), read_source(shapes, DataConfig()))
    assert begun.config.train.precision == expected


@pytest.mark.parametrize(("kept", "expected"), [("bfloat16", "bfloat16"), ("", "float32")])
def test_a_run_of_before_goes_on_in_the_precision_that_it_was_begun_in(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: str, expected: str
) -> None:
    monkeypatch.setattr("tellapart.training.plan.choose_precision", machine("float32"))
    run = create_run(tmp_path / "run", plan(), ta.read(shapes))
    run.update(precision=kept)
    assert run.config.train.precision == "auto"
    assert plan_of(run).config.train.precision == expected


@pytest.mark.parametrize("setting", ["model", "augment", "image"])
def test_no_run_is_made_by_a_plan_that_leaves_something_open(setting: str) -> None:
    values = plan().config.to_dict()
    del values[setting]
    with pytest.raises(ConfigError, match="to be decided"):
        Plan(Config.from_dict(values))


def machine(precision: str) -> Callable[..., tuple[str, str]]:
    """One that computes fast in this."""
    return lambda wanted, _=False: (precision if wanted == "auto" else wanted, "")
