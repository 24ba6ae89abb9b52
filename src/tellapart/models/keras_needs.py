"""A configuration -> whether Keras trains it, or a linear head on a backbone that ships as a graph, without Keras."""

from __future__ import annotations

from typing import cast

from tellapart.config import Config, ModelConfig
from tellapart.models.backend import require_keras
from tellapart.models.features import Hidden
from tellapart.models.pretrained import HeadOptions, hidden
from tellapart.models.pretrained_weights import bundled_graph
from tellapart.models.registry import resolve


def ships_as_graph(model: ModelConfig) -> bool:
    """Whether it is a backbone whose graph and weights are in the package."""
    pretrained = resolve(model)[0].pretrained
    ours = model.weights in ("auto", "imagenet")
    return pretrained is not None and ours and bundled_graph(pretrained.name).exists()


def is_linear(config: Config) -> bool:
    """Whether the head on a backbone is one linear layer, fitted to convergence; other heads are trained in epochs."""
    _, options = resolve(config.model)
    return hidden(cast(HeadOptions, options)) == Hidden() and not config.train.label_smoothing


def needs_keras(config: Config) -> str:
    """What of a configuration, with its model decided, is trained by Keras, in words; empty for a linear head on a
    backbone that ships as a graph."""
    name = config.model.name
    if resolve(config.model)[0].pretrained is None:
        return f"Training {name} from scratch"
    if not ships_as_graph(config.model):
        return f"Training on {name} with weights that are not in the package"
    if config.train.fine_tune:
        return "Fine-tuning a backbone"
    if not is_linear(config):
        return "Training a head with dense layers, dropout or label smoothing"
    return ""


def require_what_trains(config: Config) -> None:
    """Raises MissingExtraError if a configuration, with its model decided, needs Keras and that is not installed;
    ConfigError for a backend of Keras that is not supported."""
    what = needs_keras(config)
    if what:
        require_keras(what)
