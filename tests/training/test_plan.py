from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.api.options import make_config
from tellapart.config import AUGMENTATIONS, DataConfig
from tellapart.data.sources import read_source
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.errors import ModelError
from tellapart.task import ImageSpec
from tellapart.training.plan import decide

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
        ([LITE, "train.fine_tune=all", "augment=medium"], "medium", 1),
        ([LITE, "train.fine_tune=all", "train.views=2"], "light", 2),
    ],
)
def test_augmentation_and_views_follow_from_what_sees_the_images(
    shapes: Path, settings: list[str], preset: str, views: int | None
) -> None:
    config, _, _ = decide(make_config(settings=settings), read_source(shapes, DataConfig()))
    assert config.augment == AUGMENTATIONS[preset]
    assert config.train.views == views
    assert decide(config, read_source(shapes, DataConfig()))[0] == config, "a run's own configuration repeats it"


def test_many_tiny_images_get_a_network_of_their_own_size_and_others_the_backbone(shapes: Path, tmp_path: Path) -> None:
    config, spec, reasons = decide(make_config(), read_source(shapes, DataConfig()))
    assert config.model.name == "efficientnet-lite0"
    assert spec == ImageSpec(224, 224, fit="crop")
    assert "inside the package" in reasons[0]
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(tmp_path / "tile.png")
    tiles = Source(tmp_path, tuple(LabelledPath("tile.png", "ab"[number % 2]) for number in range(10_000)), "")
    config, spec, reasons = decide(make_config(), tiles)
    assert config.model.name == "resnet-small"
    assert spec == ImageSpec(28, 28, 1)
    assert "10,000 images" in reasons[0]


@pytest.mark.parametrize("setting", ["train.fine_tune=2", "train.fine_tune=all", "train.views=2"])
def test_what_only_a_backbone_has_is_refused_for_a_network_trained_from_nothing(shapes: Path, setting: str) -> None:
    with pytest.raises(ModelError, match=r"cnn is trained from scratch.*--model"):
        decide(make_config(settings=["model.name=cnn", setting]), read_source(shapes, DataConfig()))


def test_an_option_that_the_chosen_model_lacks_says_how_to_name_the_model(shapes: Path) -> None:
    with pytest.raises(ModelError, match=r"no option of efficientnet-lite0 'filters'.*--model"):
        decide(make_config(settings=["model.filters=[4]"]), read_source(shapes, DataConfig()))
