"""Every architecture in every format: how far each file is from Keras, in its own runtime, and how large it is.

`python -m benchmarks.exports` prints the table of docs/export.md. The weights are random, except those of the bundled
backbone; the images are those in the package.
"""

from __future__ import annotations

import argparse
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from tellapart.config import DataConfig
from tellapart.data import pixels
from tellapart.data.sources import open_row, read_source
from tellapart.errors import TellapartError
from tellapart.evaluation.selective_prediction import Thresholds
from tellapart.inference.export_run import write_export
from tellapart.inference.exports import EXPORTS
from tellapart.inference.predictor import Metadata
from tellapart.inference.run_images import Held
from tellapart.models.backend import start_keras
from tellapart.models.classifier import Calibration, Classifier
from tellapart.models.pretrained_weights import bundled_file, load_pretrained
from tellapart.models.registry import ARCHITECTURES
from tellapart.task import ImageSpec, Task

COUNT = 4
SIDE = 96
"""Image side, or the smallest that the network takes: the graph is the same at any size."""

TASK = Task(("Abyssinian", "Bengal", "american_bulldog"))


def images(spec: ImageSpec) -> Held:
    source = read_source("builtin:pets", DataConfig())
    rows = source.rows[:: len(source.rows) // COUNT][:COUNT]
    return Held(np.stack([pixels.read(open_row(source.root, row.path), spec) for row in rows]), np.zeros(COUNT, int))


def row_of(name: str, folder: Path) -> str:
    """A row of the table."""
    keras = start_keras()
    keras.utils.set_random_seed(0)
    pretrained = ARCHITECTURES[name].pretrained
    side = max(SIDE, pretrained.smallest) if pretrained else SIDE
    spec = ImageSpec(side, side)
    model = Classifier.from_name(TASK, spec, name)
    if pretrained and bundled_file(pretrained).exists():
        load_pretrained(model.backbone, pretrained, "auto")
    means = np.random.default_rng(0).normal(size=(3, model.features.width)).astype(np.float32)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    model = model.calibrated(Calibration(means=means))
    cells = []
    for form in EXPORTS.values():
        path = folder / f"{name}-{form.name}{form.suffix}"
        try:
            made = write_export(model, Metadata(TASK, spec, Thresholds(0.99, 0.9, 0.5)), form, path, held=images(spec))
            difference = "not run" if made.difference is None else f"{made.difference:.0e}"
            cells.append(f"{difference}, {made.bytes / 1e6:.1f} MB")
        except TellapartError as error:
            cells.append(f"refused: {error}")
    keras.backend.clear_session()
    return f"| {name} | {side} | " + " | ".join(cells) + " |"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exports", description=__doc__)
    parser.add_argument("names", nargs="*", help="architectures; all without any")
    names = parser.parse_args(arguments).names or list(ARCHITECTURES)
    print(f"{COUNT} images, seed 0, {datetime.now(UTC):%Y-%m-%d}.\n")
    print("| network | side | " + " | ".join(EXPORTS) + " |")
    print("|---|--:|" + "---|" * len(EXPORTS))
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            print(row_of(name, Path(folder)), flush=True)


if __name__ == "__main__":
    main()
