"""A made-up but realistic run, from which every report here is made."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tellapart.config import Config
from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.data.findings import Finding
from tellapart.evaluation.evaluate import Evaluation, evaluate
from tellapart.evaluation.evidence import Evidence
from tellapart.evaluation.judge import judge
from tellapart.evaluation.overfitting import learning
from tellapart.report.input import ReportInput
from tellapart.runs.history import HistoryRow
from tellapart.runs.predictions import Predictions
from tellapart.task import Task

PETS = ("Abyssinian", "Bengal", "american_bulldog")


def make_history(epochs: int = 12) -> list[HistoryRow]:
    """Training loss falls throughout; validation loss is lowest at epoch 4 and rises from 5 on."""
    return [
        HistoryRow(
            epoch=epoch,
            loss=0.8 * 0.75**epoch,
            accuracy=1 - 0.5 * 0.7**epoch,
            val_loss=0.3 + 0.03 * abs(epoch - 4),
            val_accuracy=0.9 - 0.3 * 0.6**epoch,
            seconds=9.5,
            images_per_second=412.0,
            learning_rate=0.001,
        )
        for epoch in range(1, epochs + 1)
    ]


def evaluated(classes: tuple[str, ...], found: Predictions, **options: Any) -> Evaluation:
    return evaluate(Task(classes), found, **{"split": "test", **options})


def read_made_up(path: str, side: int) -> np.ndarray:
    """Noise, which of all images takes the most bytes, and is another for each path."""
    seed = sum(path.encode("utf-8", "surrogateescape"))
    return np.random.default_rng(seed).integers(0, 256, (side * 3 // 4, side, 3), dtype=np.uint8)


def make_predictions(classes: tuple[str, ...], n: int, surety: float = 4) -> Predictions:
    generator = np.random.default_rng(0)
    truth = np.arange(n) % len(classes)
    odds = np.exp(generator.normal(size=(n, len(classes))) + surety * np.eye(len(classes))[truth])
    paths = tuple(f"pets/{classes[t]}_{i}.jpg" for i, t in enumerate(truth))
    return Predictions(paths, truth, odds / odds.sum(axis=1, keepdims=True))


def wrong_answers(n: int) -> Predictions:
    """n images of cats, all named dogs, the later the surer."""
    sure = np.linspace(0.6, 0.9, n)
    return Predictions(tuple(f"{i}.jpg" for i in range(n)), np.zeros(n, np.int64), np.stack([1 - sure, sure], axis=1))


def make_report(classes: tuple[str, ...] = PETS, n: int = 300, **changes: Any) -> ReportInput:
    splits = ("train", "train", "train", "validation", "test")
    images = tuple(
        ImageRecord(
            f"pets/{i}.jpg", classes[i % len(classes)], splits[i // len(classes) % 5], "", f"{i:032x}", 300, 200, "RGB"
        )
        for i in range(5 * n)
    )
    predictions = make_predictions(classes, n)
    values: dict[str, Any] = {
        "title": "Three breeds of pets",
        "command": "tellapart train pets --model efficientnet-lite0 --set train.epochs=12",
        "config": Config.from_dict({"model": {"name": "efficientnet-lite0"}, "image": {"height": 224, "width": 224}}),
        "catalog": Catalog(Path("pets"), Task(classes), images, (), "labels in file names such as Bengal_1.jpg"),
        "history": make_history(),
        "best_epoch": 4,
        "kept": "Kept: epoch 4 of 12; all epochs done.",
        "evaluation": evaluated(classes, predictions),
        "predictions": predictions,
        "read_thumbnail": read_made_up,
        "environment": {"tellapart": "0.1.0", "python": "3.12.4", "keras": "3.8.0", "processor": "8 cores, no GPU"},
        "findings": [
            Finding("square", "note", (), "All images are of one size."),
            Finding("duplicate", "warning", ("pets/1.jpg", "pets/7.jpg"), "Two images are the same.", "Kept together."),
        ],
        "network": "input  (224, 224, 3)\nhead   (3,)",
        "onnx_check": {"images": 64, "largest_difference": 6e-08, "same_answers": "64 of 64"},
        "batch": (
            np.stack([read_made_up(str(i), 64) for i in range(20)]),
            [classes[i % len(classes)] for i in range(20)],
        ),
    }
    if "evaluation" in changes:
        values["predictions"] = None  # those above are of other images
    values |= changes
    if "verdict" not in values:
        learned = learning(values["history"], "val_loss", values["best_epoch"])
        found = Evidence(
            values["evaluation"], clean=values.get("clean"), findings=values["findings"], learning=learned, target=0.99
        )
        values["verdict"] = judge(found)
    return ReportInput(**values)


@pytest.fixture
def report_of() -> Callable[..., ReportInput]:
    return make_report
