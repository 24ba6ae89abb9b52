"""The usual options, a recipe or a file -> Config."""

from __future__ import annotations

import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tellapart.config import Config, augmentation
from tellapart.errors import ConfigError, unknown
from tellapart.files import expanded
from tellapart.recipes import load_recipe
from tellapart.training.trackers import require_known


def known_options(options: dict[str, Any]) -> dict[str, Any]:
    """The same. Raises ConfigError for a name that `make_config` does not take, with the most similar one."""
    known = list(inspect.signature(make_config).parameters)
    for name in options:
        if name not in known:
            raise ConfigError(unknown("option", name, known))
    return options


def make_config(
    *,
    recipe: str | None = None,
    config: str | os.PathLike[str] | Config | None = None,
    model: Any = None,
    weights: str | None = None,
    fine_tune: int | str | None = None,
    image_size: int | None = None,
    augment: str | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    track: Sequence[str] = (),
    data: dict[str, Any] | None = None,
    settings: Sequence[str] = (),
) -> Config:
    """One configuration from a recipe or file, the usual options, then `section.key=value` settings; the last one wins.

    model: a name, or a custom network: a function (ImageSpec) -> keras.Model, its name `package.module:function`, or a
    keras.Model; naming it here allows its code to run. Raises ConfigError for an unknown name or a wrong value, and if
    both recipe and config are given; ModelError if the network does not exist.

    >>> ta.make_config(recipe="cats-dogs-64", epochs=1, settings=["train.batch_size=8"]).train.batch_size
    8
    """
    if recipe is not None and config is not None:
        raise ConfigError("A recipe and a config are both a starting point. Give --recipe or --config, not both.")
    if isinstance(config, Config):
        start = config
    elif config is not None:
        start = Config.read(Path(config))
    else:
        start = load_recipe(recipe) if recipe else Config()
    values = start.to_dict()
    model = model if model is None else _named(model)
    if model is not None and model != start.model.name:
        values["model"] = {"name": model}
    if weights is not None:
        # An absolute path, so that the file is found wherever the run is resumed.
        known = weights in ("auto", "imagenet", "none")
        values["model"]["weights"] = weights if known else str(expanded(weights).absolute())
    if fine_tune is not None:
        values["train"]["fine_tune"] = fine_tune
    if image_size is not None:
        values["image"] |= {"height": image_size, "width": image_size}
    if augment is not None:
        values["augment"] = augmentation(augment)
    if epochs is not None:
        values["train"]["epochs"] = epochs
    if seed is not None:
        values["seed"] = seed
    if track:
        values["train"]["track"] = tuple(track)
    values["data"] |= {name: value for name, value in (data or {}).items() if value is not None}
    if values["data"].get("corrections"):
        values["data"]["corrections"] = str(expanded(values["data"]["corrections"]).absolute())
    made = Config.from_dict(values).with_values(settings)
    require_known(made.train.track)
    return made


def _named(model: Any) -> str:
    """The name of a model, after registering a custom network."""
    from tellapart.models import own

    if not isinstance(model, str):
        return own.give(model)
    if own.is_own(model):
        own.trust(model)
    return model
