"""A search space begins from what was given, and each of its points can be trained."""

from __future__ import annotations

import pytest

from tellapart.config import AUGMENTATIONS
from tellapart.experiments.space import (
    AS_GIVEN,
    EPOCHS,
    IMAGE_SIZE,
    PATIENCE,
    dimensions,
    first_config,
    trial_config,
)
from tellapart.models.registry import resolve
from tellapart.recipes import load_recipe, recipe_names
from tellapart.task import ImageSpec, Task
from tests.experiments.starts import CLASSES, STARTS, decided

pytest.importorskip("keras")

pytest.importorskip("optuna")


@pytest.mark.parametrize("name", STARTS)
def test_every_point_of_a_search_space_is_a_configuration_and_networks_from_nothing_build(name: str) -> None:
    from tellapart.models.classifier import Classifier

    start = STARTS[name]
    for dimension in dimensions(start):
        for value in dimension.choices or (dimension.low, dimension.high):
            config = trial_config(start, {dimension.name: value})
            row, _ = resolve(config.model)
            if row.pretrained is None and dimension.name in (
                "model.filters",
                "model.dense",
                "model.blocks",
                IMAGE_SIZE,
            ):
                spec = ImageSpec(config.image.height or 0, config.image.width or 0)
                assert Classifier.from_config(Task(CLASSES), spec, config.model).network.count_params() > 0


@pytest.mark.parametrize("name", recipe_names())
def test_a_search_begins_from_exactly_its_recipe_whatever_that_holds(name: str) -> None:
    start = load_recipe(name)
    start = start.model_copy(update={"augment": start.augment or AUGMENTATIONS["light"]})
    for dimension in dimensions(start):
        inside = dimension.start in dimension.choices or dimension.low < float(dimension.start) < dimension.high
        assert inside, dimension
    first = first_config(start)
    assert first.train.validation_steps is None
    assert first == start.model_copy(update={"train": first.train})
    assert first.train == start.train.model_copy(update={"validation_steps": None})


def test_an_epoch_stays_as_many_images_whatever_the_batch_size_and_trials_stop_early() -> None:
    start = decided(**{
        "model.name": "cnn", "train.batch_size": 32, "train.steps_per_epoch": 100, "train.epochs": 3,
        "train.patience": 0, "train.validation_steps": 5,
    })  # fmt: skip
    train = trial_config(start, {"train.batch_size": "64"}).train
    assert (train.batch_size, train.steps_per_epoch, train.validation_steps) == (64, 50, None)
    assert (train.epochs, train.patience) == (EPOCHS, PATIENCE)
    assert first_config(start).train.epochs == 3


def test_an_augmentation_that_is_no_preset_stays_one_of_the_choices() -> None:
    start = decided(**{"model.name": "cnn", "augment.rotation": 33})
    assert trial_config(start, {"augment": AS_GIVEN}).augment == start.augment
    assert trial_config(start, {"augment": "strong"}).augment == AUGMENTATIONS["strong"]


def test_a_smoothed_loss_is_not_compared_with_a_plain_one() -> None:
    names = {each.name for each in dimensions(decided(**{"model.name": "efficientnet-lite0"}))}
    assert "train.label_smoothing" not in names
    assert "train.label_smoothing" in {each.name for each in dimensions(STARTS["frozen"])}
