"""Three breeds of pets with a network trained from nothing: few images, so the interval is wide, and says so."""

import tempfile
from pathlib import Path

import tellapart as ta

with tempfile.TemporaryDirectory() as folder:
    run = ta.train("builtin:pets", out=Path(folder) / "run", model="cnn", image_size=48, epochs=12, seed=0)
    evaluation = run.evaluate()

for row in evaluation.per_class:
    print(f"{row.label:12} precision {row.precision}  recall {row.recall}  of {row.support} images")
print(f"test accuracy {evaluation.accuracy}; guessing gives a third")
assert len(evaluation.per_class) == 3
assert evaluation.accuracy.value > 1 / 3
assert evaluation.accuracy.high - evaluation.accuracy.low > 0.1, "72 images cannot say it more exactly"
