"""The lines of docs/serve.md that call curl, as they stand there, with a photograph as large as a telephone's."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tests.serve.conftest import Server

PAGE = Path(__file__).resolve().parents[2] / "docs" / "serve.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_lines_of_the_page_work_with_photographs_of_a_telephone(
    serve: Callable[..., Server], shapes_run: Path, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
    photograph = Image.fromarray(noise).resize((4000, 3000))
    for name in ("cat.jpg", "a.jpg", "b.jpg"):
        photograph.save(tmp_path / name, quality=88)
    assert (tmp_path / "a.jpg").stat().st_size > 3_000_000
    lines = re.findall(r"^(?:curl|printf) .*/v1/predict.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(lines) == 3
    server = serve(f"pets={shapes_run}")
    for line in lines:
        asked = f"set -o pipefail; {line.replace('http://127.0.0.1:8000', server.url)}"
        told = subprocess.run(["bash", "-c", asked], cwd=tmp_path, capture_output=True, check=True)
        rows = json.loads(told.stdout)["predictions"]
        assert rows
        assert all(row["label"] in ta.open_run(shapes_run).task.classes for row in rows)
