"""The built-in images, a few under wrong labels -> docs/studio.png: the studio as a browser shows it. Needs Chromium.

python -m tools.studio_image docs/studio.png
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

import tellapart as ta

WIDTH, HEIGHT = 1200, 860
COLOURS = 128
PETS = Path(ta.__file__).parent / "data" / "builtin" / "pets"
BREEDS = ("Bengal", "american_bulldog")
WRONG = 4
"""Images of each breed that are labelled as the other."""


def main(out: Path) -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        photos, run = Path(folder) / "photos", Path(folder) / "pets"
        _copy(photos)
        ta.train(photos, out=run)
        command = [sys.executable, "-m", "tellapart", "studio", str(run), "--no-browser", "--port", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as studio:
            assert studio.stderr is not None
            url = studio.stderr.readline().split(" on ")[1].split()[0]
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
                page.goto(f"{url}&kind=suspect")
                page.locator("#near:not([hidden]) img").first.wait_for(timeout=120_000)
                time.sleep(1)  # for the last images
                page.screenshot(path=Path(folder) / "studio.png")
                browser.close()
            studio.terminate()
        with Image.open(Path(folder) / "studio.png") as image:
            image.convert("RGB").quantize(COLOURS).save(out, optimize=True)


def _copy(photos: Path) -> None:
    for breed, other in (BREEDS, BREEDS[::-1]):
        for number, path in enumerate(sorted((PETS / breed).glob("*.jpg"))):
            place = photos / (other if number % 20 == 7 and number < 20 * WRONG else breed)
            place.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place / path.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
