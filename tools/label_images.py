"""The built-in images under names that say nothing -> docs/label-1.webp to -4.webp: a person labels them by keys,
accepts what is obvious, and trains. Prints how long it took. Needs Chromium, and takes minutes: keys are pressed as
slowly as a person does.

python -m tools.label_images docs
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

import tellapart as ta
from tellapart.words import duration

if TYPE_CHECKING:
    from playwright.sync_api import Page

WIDTH, HEIGHT = 1200, 860
SECONDS = 2.0
"""Between two keys."""
LABELS = 75
GRIDS = 5
TRAINED = "() => document.getElementById('training').textContent.startsWith('Trained')"
PETS = Path(ta.__file__).parent / "data" / "builtin" / "pets"


class _Stills:
    def __init__(self, page: Page, out: Path) -> None:
        self._page, self._out, self._number = page, out, 0

    def take(self) -> None:
        time.sleep(1)  # for the last images
        self._number += 1
        file = self._out / f"label-{self._number}.webp"
        self._page.screenshot(path=file.with_suffix(".png"))
        with Image.open(file.with_suffix(".png")) as image:
            image.convert("RGB").save(file, quality=80, method=6)
        file.with_suffix(".png").unlink()


def main(out: Path) -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder:
        truth = _copy(Path(folder) / "photos")
        command = [sys.executable, "-m", "tellapart", "studio", "photos", "--no-browser", "--port", "0"]
        started = time.monotonic()
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder) as studio:
            assert studio.stderr is not None
            url = studio.stderr.readline().split(" on ")[1].split()[0]
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
                page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
                page.goto(url)
                page.locator("#one:not([hidden]) img").first.wait_for(timeout=120_000)
                stills = _Stills(page, out)
                stills.take()
                for count in range(LABELS):
                    _label(page, truth)
                    if count == 2 * LABELS // 3:
                        stills.take()
                keyed = time.monotonic()
                for number in range(GRIDS):
                    accepted = _accept(page, truth, stills if number == 0 else None)
                    if not accepted:
                        break
                labelled = time.monotonic()
                page.locator("#train").click()
                page.wait_for_function(TRAINED, timeout=600_000)
                trained = time.monotonic()
                page.locator("#learn").scroll_into_view_if_needed()
                stills.take()
                print(
                    page.inner_text("#progress"), page.inner_text("#accuracy"), page.inner_text("#training"), sep="\n"
                )
                browser.close()
            studio.terminate()
    steps = {"keys": keyed - started, "grids": labelled - keyed, "training": trained - labelled}
    print(*(f"{name} {duration(seconds)}" for name, seconds in steps.items()), sep=", ")


def _label(page: Page, truth: dict[str, str]) -> None:
    time.sleep(SECONDS)
    before, label = page.inner_text("#progress"), truth[page.inner_text("#images .name")]
    known = [one.get_attribute("data-label") for one in page.locator("#likely button").all()]
    if label in known:
        page.keyboard.press(str(known.index(label) + 1))
    else:
        page.keyboard.press("n")
        page.keyboard.type(label)
        page.keyboard.press("Enter")
    page.wait_for_function("(old) => document.getElementById('progress').textContent !== old", arg=before)


def _accept(page: Page, truth: dict[str, str], stills: _Stills | None) -> bool:
    """Cross out what is wrong in a grid, and accept the rest; whether there was one."""
    if page.locator("#to-grid").is_hidden():
        return False
    before = page.inner_text("#progress")
    page.keyboard.press("g")
    label = page.inner_text("#all-title").removeprefix("All ").removesuffix("?")
    for tile in page.locator("#grid button").all():
        if truth[(tile.get_attribute("aria-label") or "").removeprefix("Cross out ")] != label:
            tile.click()
    if stills:
        stills.take()
    time.sleep(5 * SECONDS)  # to look at them
    page.keyboard.press("a")
    page.wait_for_function("(old) => document.getElementById('progress').textContent !== old", arg=before)
    return True


def _copy(photos: Path) -> dict[str, str]:
    """Name -> breed: the photographs, shuffled, under the names that a camera gives."""
    photos.mkdir()
    every = sorted(PETS.glob("*/*.jpg"), key=lambda path: path.stat().st_size)
    names = {f"IMG_{number:04}.jpg": path for number, path in enumerate(every, start=1)}
    for name, path in names.items():
        shutil.copy(path, photos / name)
    return {name: path.parent.name for name, path in names.items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
