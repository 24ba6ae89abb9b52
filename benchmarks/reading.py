"""Reading images of each format here beside another checkout, such as the commit before, by turns.

    python -m benchmarks.reading CHECKOUT DATA [--rounds 3] [--images 200]

DATA: class folders of photographs. Each row of the table is a format that they are saved in and a size they are read
at: the processor time of a first start (every file read, checked, decoded and cached, and delivered in batches) for
each image, and the median of the rounds' ratios here over there, so that 0.80 is a fifth less. Imports are not counted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

HERE = Path(__file__).parent.parent
SIZES = (128, 224)
FORMATS: dict[str, Callable[[Path, Path], object]] = {
    "JPEG, as it is": lambda path, place: shutil.copyfile(path, place.with_suffix(".jpg")),
    "PNG": lambda path, place: Image.open(path).convert("RGB").save(place.with_suffix(".png")),
    "PNG of 16 bits": lambda path, place: cv2.imwrite(
        str(place.with_suffix(".png")), np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 257
    ),
    "WebP": lambda path, place: Image.open(path).convert("RGB").save(place.with_suffix(".webp")),
}
MEASURED = """
import os, sys, time
import numpy as np
from tellapart.config import DataConfig
from tellapart.data import batches, scan
from tellapart.data.cache import PixelCache
from tellapart.data.sources import open_row, read_source
from tellapart.task import ImageSpec
config, spec = DataConfig(), ImageSpec(int(sys.argv[2]), int(sys.argv[2]), 3)
used = time.process_time()
source = read_source(sys.argv[1], config)
with PixelCache(spec) as cache:
    found = scan.scan(source, config, cache=cache)
    images = batches.Images(source.root, found, spec, open_row=open_row, cache=cache, bounds=config)
    for first in range(0, len(found), 32):
        images.take(np.arange(first, min(first + 32, len(found))))
print((time.process_time() - used) / len(found) * 1000)
"""


def measured(checkout: Path, data: Path, side: int) -> float:
    """Processor milliseconds for each image. Raises RuntimeError where it fails."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "TELLAPART_CACHE": cache}
        command = [sys.executable, "-c", MEASURED, str(data), str(side)]
        done = subprocess.run(command, env=environment, cwd=cache, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{checkout}: {done.stderr[-2000:]}")
    return float(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout")
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=200)
    asked = parser.parse_args()
    images = sorted(path for path in asked.data.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    print("| format | read at | processor ms an image, there | here | here over there |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        for number, (name, save) in enumerate(FORMATS.items()):
            folder = Path(temporary) / str(number)
            for place, path in enumerate(images[:: max(1, len(images) // asked.images)][: asked.images]):
                label = folder / ("ab"[place % 2])
                label.mkdir(parents=True, exist_ok=True)
                save(path, label / str(place))
            for side in SIZES:
                rounds = []
                for turn in range(asked.rounds):
                    order = [HERE, asked.other.absolute()] if turn % 2 else [asked.other.absolute(), HERE]
                    taken = {checkout: measured(checkout, folder, side) for checkout in order}
                    rounds.append((taken[asked.other.absolute()], taken[HERE]))
                there, here = (statistics.median(column) for column in zip(*rounds, strict=True))
                ratio = statistics.median(ours / theirs for theirs, ours in rounds)
                print(f"| {name} | {side}x{side} | {there:.2f} | {here:.2f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
