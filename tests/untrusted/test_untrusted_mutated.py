"""model.onnx with bytes changed at random: only tellapart's own errors come out, and the process goes on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tellapart as ta
from tests.command import PATIENCE

pytest.importorskip("keras")

FILES = 300

PROGRAM = """
import random, resource, sys
from collections import Counter
from pathlib import Path
import numpy as np
from tellapart.errors import ExportError, TellapartError
from tellapart.inference.predictor import Predictor

resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
whole, path, numbers = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2]), random.Random(11)
ends = Counter()
for number in range(int(sys.argv[3])):
    content = bytearray(whole)
    for _ in range(numbers.choice((1, 2, 4, 8))):
        # The graph's structure stands at the beginning, what the file says of itself at the end.
        place = numbers.choice((numbers.randrange(3500), -1 - numbers.randrange(4000), numbers.randrange(len(whole))))
        content[place] = numbers.choice((numbers.randrange(256), content[place] ^ 1 << numbers.randrange(8), 0, 255))
    path.write_bytes(content)
    print(number, flush=True)
    try:
        predictor = Predictor(path, threads=1)
        image = np.full(predictor.spec.shape, 90, np.uint8)
        (said,) = predictor.predict_named([("image", image)])
        assert said.error or abs(sum(said.probabilities.values()) - 1) < 1e-6, said
        if predictor.tells_places:
            predictor.class_activation(image[None])
    except TellapartError as error:
        ends["ExportError" if isinstance(error, ExportError) else type(error).__name__] += 1
    else:
        ends["answers"] += 1
print(ends["answers"], ends["ExportError"], sum(ends.values()))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="bounds memory by setrlimit")
def test_only_errors_of_ours_come_out_of_changed_files(plain_run: ta.Run, tmp_path: Path) -> None:
    words = [sys.executable, "-c", PROGRAM, plain_run.onnx_file, tmp_path / "model.onnx", str(FILES)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, f"after file {done.stdout.splitlines()[-1:]}: {done.stderr[-2000:]}"
    answered, refused, tried = map(int, done.stdout.split()[-3:])
    assert (answered + refused, tried) == (FILES, FILES)
    assert answered > FILES // 10
    assert refused > FILES // 10
