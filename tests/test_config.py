from __future__ import annotations

from contextlib import suppress
from typing import Any, get_args

import pytest
import tomli_w
from hypothesis import given, settings
from hypothesis import strategies as st

from tellapart.config import (
    AUGMENTATIONS,
    AugmentConfig,
    Config,
    DataConfig,
    FillMode,
    ImageConfig,
    ModelConfig,
    TrainConfig,
)
from tellapart.errors import ConfigError
from tellapart.recipes import load_recipe, recipe_names
from tellapart.task import Fit, Interpolation
from tests.strategies import texts


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


def one_of(choices: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(get_args(choices))


shares, positive = st.floats(0, 0.99), st.integers(1, 10**12)
above_zero = st.floats(0, allow_infinity=False, exclude_min=True)
configs = st.builds(
    Config,
    title=texts,
    published=texts,
    seed=st.integers(0, 2**63),
    data=st.builds(
        DataConfig, label_pattern=st.none() | texts, path_column=st.none() | texts, label_column=st.none() | texts,
        root=st.none() | texts, corrections=st.none() | texts, test_fraction=shares,
        validation_fraction=st.floats(0.01, 0.99), max_pixels=positive,
    ),
    image=st.builds(
        ImageConfig, height=st.none() | positive, width=st.none() | positive, channels=st.sampled_from([None, 1, 3]),
        fit=st.none() | one_of(Fit), interpolation=one_of(Interpolation),
    ),
    augment=st.none() | st.builds(
        AugmentConfig, rotation=st.floats(0, 180), width_shift=st.floats(0, 1), height_shift=st.floats(0, 1),
        shear=st.floats(0, 89), zoom=shares, horizontal_flip=st.booleans(), vertical_flip=st.booleans(),
        brightness=shares, fill=one_of(FillMode), fill_value=st.integers(0, 255),
    ),
    model=st.dictionaries(
        st.from_regex(r"[a-z]+(_[a-z]+)*", fullmatch=True),
        st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
        | st.lists(st.integers(), max_size=3),
        max_size=3,
    ).flatmap(lambda options: st.builds(
        lambda name, weights: ModelConfig.model_validate({**options, "name": name, "weights": weights}), texts, texts,
    )),
    train=st.builds(
        TrainConfig, optimizer=st.sampled_from(["adam", "adamw", "sgd", "rmsprop"]), learning_rate=above_zero,
        schedule=st.sampled_from(["constant", "cosine", "warmup-cosine"]), weight_decay=st.floats(0, 1),
        batch_size=positive, epochs=positive, steps_per_epoch=st.none() | positive,
        validation_steps=st.none() | positive,
        monitor=st.sampled_from(["val_loss", "val_accuracy"]), patience=st.integers(0, 99),
        class_weights=st.sampled_from(["auto", "balanced", "none"]), label_smoothing=st.floats(0, 0.49),
        precision=st.sampled_from(["auto", "float32", "bfloat16"]), views=st.none() | positive,
        fine_tune=st.integers(0, 99) | st.just("all"), fine_tune_learning_rate=above_zero,
        fine_tune_layer_decay=st.floats(0.01, 1), fine_tune_on=st.sampled_from(["images", "activations"]),
        sure_accuracy=st.floats(0.01, 0.99),
    ),
)  # fmt: skip
"""Every section with every setting."""


@given(configs)
@settings(max_examples=60)
def test_any_configuration_survives_toml(config: Config) -> None:
    again = Config.from_toml(config.to_toml())
    assert again == config
    assert again.digest == config.digest


@given(configs)
@settings(max_examples=60)
def test_any_configuration_can_be_set_value_by_value(config: Config) -> None:
    assignments = []
    for section, values in config.to_dict().items():
        rows = {f"{section}.{key}": value for key, value in values.items()} if isinstance(values, dict) else None
        for name, value in (rows or {section: values}).items():
            assignments.append(f"{name}={tomli_w.dumps({'value': value}).partition('=')[2].strip()}")
    assert Config().with_values(assignments) == config


@given(st.from_regex(r"[a-eg-hj-mo-su-zA-Z\u00e9][^\r\n]*", fullmatch=True))
def test_words_on_the_command_line_need_no_quotes(words: str) -> None:
    assert Config().with_values([f"title={words}"]).title == words.strip()


@given(st.text(st.sampled_from("data.imgetrnsdlop_=[]{}\"'\\#,15 -:\n\0é"), max_size=30) | texts)
@settings(max_examples=200)
def test_any_assignment_and_any_text_give_a_configuration_or_a_config_error(text: str) -> None:
    for given_words in (text, f"title={text}", f"model.{text}", f"train.epochs={text}", f"{text}=1"):
        with suppress(ConfigError):
            Config().with_values([given_words])
    with suppress(ConfigError):
        Config.from_toml(text)


def test_text_that_is_no_toml_is_refused_with_its_place() -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        Config.from_toml("train = [")


@pytest.mark.parametrize(
    "setting", ["train.learning_rate=inf", "train.weight_decay=nan", "model.dropout=inf", "model.own=nan"]
)
def test_a_setting_that_is_no_finite_number_is_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="finite number"):
        Config().with_values([setting])
