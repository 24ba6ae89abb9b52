"""The built-in images -> docs/report.png: the head of a report as a browser shows it. Needs Chromium.

python tools/report_image.py docs/report.png
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

import tellapart as ta

WIDTH, HEIGHT = 1200, 1500
COLOURS = 128
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={WIDTH},{HEIGHT}")


def main(out: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = ta.train("builtin:pets", out=Path(folder) / "pets", command="tellapart train builtin:pets")
        shot = Path(folder) / "report.png"
        page = run.report_file.absolute().as_uri()
        subprocess.run(["chromium", *FLAGS, f"--screenshot={shot}", page], check=True, capture_output=True)
        with Image.open(shot) as image:
            image.convert("RGB").quantize(COLOURS).save(out, optimize=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
