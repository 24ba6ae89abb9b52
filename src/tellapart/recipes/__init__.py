"""Recipes: complete experiments as TOML files in this folder, each a Config, with its results."""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

from tellapart.config import Config
from tellapart.errors import ConfigError, unknown
from tellapart.files import from_json


@cache
def recipe_names() -> tuple[str, ...]:
    """Names of all recipes, sorted."""
    files = resources.files(__name__).iterdir()
    return tuple(sorted(file.name.removesuffix(".toml") for file in files if file.name.endswith(".toml")))


def load_recipe(name: str) -> Config:
    """The recipe of this name. Raises ConfigError with the nearest names.

    >>> load_recipe("cats-dogs-64").train.batch_size
    15
    """
    if name not in recipe_names():
        raise ConfigError(unknown("recipe", name, recipe_names()))
    text = (resources.files(__name__) / f"{name}.toml").read_text(encoding="utf-8")
    return Config.from_toml(text, f"recipe {name}")


@cache
def reached() -> dict[str, dict[str, Any]]:
    """The results of the recipes in the runs of docs/recipes.md, by name; a recipe that was not run has no entry.

    accuracy: value, low and high (95 % interval) on the test images; images: the data set; training_images and
    test_images: how many; weights: "random" if those of the backbone were not available; date.

    >>> reached()["fashion-conv"]["test_images"]
    10000
    """
    text = (resources.files(__name__) / "reached.json").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = from_json(text)
    return found
