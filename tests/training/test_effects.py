"""No setting is without effect in silence: each changes the run, or is told, or is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart.api.options import make_config
from tellapart.config import Config
from tellapart.errors import TellapartError
from tellapart.models.backend import choose_precision
from tellapart.models.registry import ARCHITECTURES
from tests.conftest import draw
from tests.same_run import without_clock

OTHER: dict[str, Any] = {
    "seed": 5,
    "data.label_pattern": "(?P<label>[a-z]+)-",
    "data.path_column": "file",
    "data.label_column": "species",
    "data.root": ".",
    "data.crop_boxes": True,
    "data.kind": "multilabel",
    "data.corrections": "corrections.csv",
    "data.test_fraction": 0.4,
    "data.validation_fraction": 0.4,
    "data.max_pixels": 1500,
    "data.max_bytes": 4500,
    "data.damaged": "leave-out",
    "data.group_by": r"(?P<group>\d)\d?\.png",
    "image.height": 40,
    "image.width": 44,
    "image.channels": 1,
    "image.fit": "pad",
    "image.interpolation": "nearest",
    "augment.rotation": 40,
    "augment.width_shift": 0.3,
    "augment.height_shift": 0.3,
    "augment.shear": 30,
    "augment.zoom": 0.4,
    "augment.horizontal_flip": True,
    "augment.vertical_flip": True,
    "augment.brightness": 0.4,
    "augment.fill": "constant",
    "augment.fill_value": 200,
    "model.name": "resnet-small",
    "model.weights": "none",
    "model.mirrored": True,
    "train.optimizer": "sgd",
    "train.learning_rate": 0.03,
    "train.schedule": "cosine",
    "train.weight_decay": 0.1,
    "train.batch_size": 5,
    "train.epochs": 1,
    "train.steps_per_epoch": 1,
    "train.validation_steps": 1,
    "train.monitor": "val_accuracy",
    "train.patience": 3,
    "train.class_weights": "none",
    "train.label_smoothing": 0.2,
    "train.precision": "bfloat16" if choose_precision("auto")[0] == "float32" else "float32",
    "train.views": 2,
    "train.fine_tune": 1,
    "train.fine_tune_learning_rate": 0.01,
    "train.fine_tune_layer_decay": 0.5,
    "train.fine_tune_on": "activations",
    "train.fine_tune_average": True,
    "train.sure_accuracy": 0.6,
}
"""A value that is not the default, for each setting that decides a run."""
WORDS = ("title", "published", "train.track")
"""They say what a run is, or who else is told of it."""
BOUNDS = ("data.max_seconds", "data.max_memory")
"""Of images that cost more than any here: tests/data/test_decode_pool.py has such."""


def settings_of(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from settings_of(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_setting_has_another_value_to_try() -> None:
    whole = Config.from_dict({"augment": {}}).model_dump()
    assert set(settings_of(whole)) - {*WORDS, *BOUNDS} == set(OTHER)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy, oblong images of two sizes and unlike numbers a class, so that everything has something to act on."""
    place = tmp_path_factory.mktemp("effects") / "photos"
    for kind, count in (("disc", 20), ("square", 11)):
        (place / kind).mkdir(parents=True)
        for number in range(count):
            shown = kind if number % 4 else "stripes"  # wrong in both, so that less regularisation is not always better
            image = draw(shown, number, 48).crop((0, 0, 48, 30 if number % 5 else 36))
            image.save(place / kind / f"{number}.png")
    whole = io.BytesIO()
    draw("disc", 90, 48).save(whole, "JPEG", quality=95)
    content = whole.getvalue()
    (place / "disc" / "damaged.jpg").write_bytes(content[: len(content) * 2 // 3] + b"\xff\xd9")
    return place


def outcome(data: Path, settings: list[str], out: Path) -> tuple[str, list[str]]:
    """All that a run decided and reached, and what it told of itself."""
    run = ta.train(data, config=make_config(settings=settings), out=out)
    record = run.record
    parts = {
        "catalog": run.catalog.digest,
        "broken": [image.path for image in run.catalog.broken],
        "history": without_clock(run),
        "predictions": run.predictions_file.read_text(),
        "metrics": run.metrics,
        "image": record.image.to_dict(),
        "calibration": record.calibration,
        "precision": record.precision if not ARCHITECTURES[run.config.model.name].pretrained else "",
    }
    return json.dumps(parts, sort_keys=True), list(record.decided)


FAST = "train.learning_rate=0.2"
"""So fast that some epoch is worse than the one before, and patience counts."""


def acts(data: Path, settings: list[str], name: str, reached: str, out: Path) -> bool:
    """Whether a run with these settings is another one, tells that the setting has no effect, or is refused."""
    try:
        other, told = outcome(data, settings, out)
    except TellapartError:
        return True
    return other != reached or any(name in text for text in told)


WAYS = {
    "from nothing": [
        "model.name=cnn",
        "model.filters=[4]",
        "model.dense=[4]",
        "train.epochs=8",
        "train.patience=1",
        FAST,
    ],
    "a linear head": ["model.name=efficientnet-lite0", "train.patience=1"],
    "a head in epochs": [
        "model.name=efficientnet-lite0",
        "model.dense=[4]",
        "train.epochs=8",
        "train.patience=1",
        FAST,
    ],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=() if way == "from nothing" else pytest.mark.soak) for way in WAYS]
)
def test_each_setting_changes_the_run_or_is_told(way: str, folder: Path, tmp_path: Path) -> None:
    plain = ["image.height=32", "image.width=32", *WAYS[way]]
    seeds = [f"seed={seed}" for seed in range(4)]
    reached = cache(lambda seed: outcome(folder, [*plain, seed], tmp_path / f"plain-{seed}")[0])
    silent = []
    for name, value in OTHER.items():
        # How the images are read and split is asked once: it knows no network.
        if name == "model.name" or (name.startswith("data.") and way != "from nothing"):
            continue
        setting = f"{name}={json.dumps(value)}"
        # What chooses between epochs may choose the same one: then other draws are asked.
        if not any(
            acts(folder, [*plain, seed, setting], name, reached(seed), tmp_path / f"{name}-{seed}") for seed in seeds
        ):
            silent.append(setting)
    assert not silent, silent
