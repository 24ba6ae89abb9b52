"""How well calibrated the predictions are, before and after calibration, and which are called sure, unsure and unlike.

`python -m benchmarks.verdicts` trains each network of RUNS on the development images beside the checkout and prints the
two tables of docs/trust.md. Images of other collections are made by tests/others.py, or are Debian's Fashion-MNIST.
"""

from __future__ import annotations

import argparse
import gzip
import sys
import tempfile
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import tellapart as ta
from tellapart.evaluation.intervals import proportion
from tests.others import drawings, textures

BESIDE = Path(__file__).resolve().parents[2] / "shared" / "data"
FASHION = Path("/usr/share/datasets/fashion-mnist")
COUNT = 200

RUNS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("the default, cats-dogs", "cats-dogs", "auto", ()),
    ("the default, three breeds", "pets-three-breeds", "auto", ()),
    ("a head of 128 units, cats-dogs", "cats-dogs", "auto", ("model.dense=[128]", "train.epochs=40")),
    ("cnn, 64x64, no augmentation, cats-dogs", "cats-dogs", "cnn", (
        "image.height=64", "image.width=64", "augment=none", "train.patience=0", "train.epochs=25",
        "train.monitor=val_accuracy",
    )),
    ("dense, 64x64, cats-dogs", "cats-dogs", "dense", (
        "image.height=64", "image.width=64", "train.patience=0", "train.epochs=25", "train.monitor=val_accuracy",
    )),
    ("dense of 512, learned by heart, Fashion-MNIST", str(FASHION), "dense", (
        "model.dense=[512]", "augment=none", "train.patience=0", "train.epochs=20", "train.batch_size=256",
        "train.monitor=val_accuracy",
    )),
)  # fmt: skip


def encoded(images: Iterable[NDArray[np.uint8]]) -> Iterator[tuple[str, bytes]]:
    for number, pixels in enumerate(images):
        yield str(number), cv2.imencode(".png", pixels)[1].tobytes()


def fashion(count: int) -> Iterator[NDArray[np.uint8]]:
    """Tiles of 28x28 from the test file."""
    with gzip.open(FASHION / "t10k-images-idx3-ubyte.gz") as file:
        pixels = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28)
    yield from pixels[:count]


def percent(hits: int, n: int) -> str:
    found = proportion(hits, n)
    return f"{100 * found.value:.1f} % ({100 * found.low:.1f} to {100 * found.high:.1f})"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.verdicts", description=__doc__)
    parser.add_argument("--data", type=Path, default=BESIDE, help="folder with cats-dogs and pets-three-breeds")
    parser.add_argument("--only", default="", help="networks whose name holds this")
    given = parser.parse_args(arguments)
    calibration, verdicts = [], []
    chosen = [row for row in RUNS if given.only in row[0]]
    with tempfile.TemporaryDirectory() as folder:
        for number, (title, data, model, settings) in enumerate(chosen):
            print(f"training: {title}", file=sys.stderr)
            config = ta.make_config(model=None if model == "auto" else model, settings=settings)
            run = ta.train(given.data / data, out=Path(folder) / str(number), config=config)
            calibration.append(calibration_row(title, run))
            verdicts.append(verdict_row(title, run, () if data == str(FASHION) else fashion(COUNT)))
    print(f"Seed 0, {datetime.now(UTC):%Y-%m-%d}.\n")
    print("| network, images | test images | accuracy | temperature | error before | after | by chance |")
    print("|---|---|---|---|---|---|---|", *calibration, sep="\n")
    print("\n| network, images | sure | right of them | test images unlike | Fashion-MNIST | textures | drawings |")
    print("|---|---|---|---|---|---|---|", *verdicts, sep="\n")


def calibration_row(title: str, run: ta.Run) -> str:
    held, record = run.metrics["test"], run.record.calibration
    errors = (record["error_before"], record["error_after"], held["calibration"]["by_chance"])
    accuracy = percent(round(held["accuracy"]["value"] * held["n"]), held["n"])
    return " | ".join(
        [f"| {title}", str(held["n"]), accuracy, f"{record['temperature']:.2f}", *(f"{100 * e:.1f} %" for e in errors)]
    ) + " |"  # fmt: skip


def verdict_row(title: str, run: ta.Run, tiles: Iterable[NDArray[np.uint8]]) -> str:
    held = run.metrics["test"]
    sure = held["verdicts"]["sure"]
    right = percent(round(sure["accuracy"]["value"] * sure["n"]), sure["n"]) if sure["n"] else "none"
    cells = [percent(sure["n"], held["n"]), right, percent(held["verdicts"]["unlike"]["n"], held["n"])]
    collections: list[Iterable[NDArray[np.uint8]]] = [
        tiles, textures(COUNT), drawings(COUNT)
    ]  # fmt: skip
    for images in collections:
        found = [answer.verdict for answer in run.predictor().predict_named(encoded(images))]
        cells.append(percent(found.count("unlike"), len(found)) if found else "not shown")
    return " | ".join([f"| {title}", *cells]) + " |"


if __name__ == "__main__":
    main()
