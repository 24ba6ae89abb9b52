from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tellapart.config import AUGMENTATIONS, AugmentConfig, Config
from tellapart.errors import ConfigError
from tellapart.recipes import load_recipe, recipe_names


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_is_a_valid_configuration_that_says_what_it_is(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.title
    assert Config.from_toml(recipe.to_toml()) == recipe


def test_a_wrong_setting_is_named_with_the_nearest_right_one() -> None:
    with pytest.raises(ConfigError, match=r"'train\.epoch'.*Did you mean 'train\.epochs'"):
        Config.from_dict({"train": {"epoch": 5}})
    with pytest.raises(ConfigError, match=r"no recipe 'cats-dog-64'.*'cats-dogs-64'"):
        load_recipe("cats-dog-64")


def test_a_value_out_of_range_is_told_with_what_was_given() -> None:
    with pytest.raises(ConfigError, match=r"train\.epochs.*greater than 0; given 0"):
        Config.from_dict({"train": {"epochs": 0}})


@pytest.mark.parametrize(
    ("assignment", "place", "value"),
    [
        ("train.epochs=5", lambda c: c.train.epochs, 5),
        ("train.monitor=val_accuracy", lambda c: c.train.monitor, "val_accuracy"),
        ("model.filters=[8, 16]", lambda c: c.model.options["filters"], [8, 16]),
        ("augment=strong", lambda c: c.augment, AUGMENTATIONS["strong"]),
        ("augment.horizontal_flip=false", lambda c: c.augment.horizontal_flip, False),
        ("seed=7", lambda c: c.seed, 7),
    ],
)
def test_a_setting_on_the_command_line_changes_its_value(assignment, place, value) -> None:
    assert place(Config().with_values([assignment])) == value


@pytest.mark.parametrize("assignment", ["train.epochs", "=5", "train..epochs=5", "seed.deep=1"])
def test_a_malformed_setting_is_refused(assignment: str) -> None:
    with pytest.raises(ConfigError):
        Config().with_values([assignment])


def test_the_digest_follows_what_decides_and_not_the_words_about_it() -> None:
    assert Config(title="a").digest == Config(title="b").digest
    assert Config(seed=1).digest != Config(seed=2).digest


@given(
    st.builds(
        AugmentConfig,
        rotation=st.floats(0, 180),
        zoom=st.floats(0, 0.99),
        horizontal_flip=st.booleans(),
        fill=st.sampled_from(["nearest", "reflect", "constant"]),
    ),
    st.integers(0, 2**31),
)
def test_a_configuration_survives_toml(augment: AugmentConfig, seed: int) -> None:
    config = Config(augment=augment, seed=seed)
    assert Config.from_toml(config.to_toml()) == config


def test_text_that_is_no_toml_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        Config.from_toml("train = [")
