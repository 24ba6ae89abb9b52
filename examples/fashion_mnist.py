"""Fashion-MNIST: ten kinds of clothes, 28x28 in grey, from the idx files as they are published.

    tellapart fetch fashion-mnist
    python examples/fashion_mnist.py FOLDER

The recipe fashion-conv, for one epoch here; docs/recipes.md has what it reaches in full.
"""

import sys
import tempfile
from pathlib import Path

import tellapart as ta

FOLDERS = (*sys.argv[1:2], "/usr/share/datasets/fashion-mnist")  # the second: Debian's dataset-fashion-mnist
data = next((path for path in FOLDERS if Path(path).is_dir()), None) or ta.fetch("fashion-mnist")
with tempfile.TemporaryDirectory() as folder:
    run = ta.train(
        data, out=Path(folder) / "run", recipe="fashion-conv", epochs=1, settings=["train.steps_per_epoch=200"]
    )
    evaluation, epochs = run.evaluate(), len(run.history)
print(f"test accuracy {evaluation.accuracy} on {evaluation.n:,} images after {epochs} short epoch")
assert evaluation.n == 10_000
assert evaluation.accuracy.low > 0.6
