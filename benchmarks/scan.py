"""From a folder to images in memory: our scan, with and without a cache, and image_dataset_from_directory.

Imports are not counted. Each gives all images once, in batches of 32.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

from benchmarks.benchmark import Figures, Setting
from benchmarks.network import SIDE

BATCH = 32
LARGE = 24
LARGE_SIZE = (4000, 3000)
BACKBONE = 224
"""Pixels a side that the default backbone takes."""


def first_start(setting: Setting, side: int = SIDE, folder: Path | None = None) -> Figures:
    """folder: class folders; None: all images."""
    with tempfile.TemporaryDirectory(dir=setting.work) as cache:
        return _ours(setting, cache, side, folder)


def second_start(setting: Setting) -> Figures:
    return _ours(setting, str(setting.work / "cache"))


def fill_cache(setting: Setting) -> None:
    _ours(setting, str(setting.work / "cache"))


def image_dataset(setting: Setting, side: int = SIDE, folder: Path | None = None) -> Figures:
    import keras
    import tensorflow

    tensorflow.constant(0)  # starts the runtime here, not in the measured time
    started, used = time.perf_counter(), time.process_time()
    data = keras.utils.image_dataset_from_directory(
        folder or setting.folder / "all", image_size=(side, side), batch_size=BATCH, shuffle=False, verbose=False
    )
    count = sum(len(labels) for _, labels in data)
    return _figures(count, setting, folder, started, used)


def first_start_backbone(setting: Setting) -> Figures:
    return first_start(setting, BACKBONE)


def image_dataset_backbone(setting: Setting) -> Figures:
    return image_dataset(setting, BACKBONE)


def first_start_large(setting: Setting) -> Figures:
    return first_start(setting, BACKBONE, setting.work / "large")


def image_dataset_large(setting: Setting) -> Figures:
    return image_dataset(setting, BACKBONE, setting.work / "large")


def enlarge(setting: Setting) -> None:
    """Some of the photographs at 12 megapixels, with the grain that a camera adds, in `large/CLASS/*`."""
    import numpy as np
    from PIL import Image

    size, count = ((400, 300), 4) if setting.smoke else (LARGE_SIZE, LARGE)
    grain = np.random.default_rng(0).normal(0, 4, (size[1], size[0], 1))
    images = setting.images()
    for path in images[:: max(1, len(images) // count)][:count]:
        whole = Image.open(path).convert("RGB").resize(size, Image.Resampling.BICUBIC)
        place = setting.work / "large" / path.parent.name / f"{path.stem}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((np.asarray(whole) + grain).clip(0, 255).astype(np.uint8)).save(place, quality=90)


def _ours(setting: Setting, cache_folder: str, side: int = SIDE, folder: Path | None = None) -> Figures:
    import numpy as np

    from tellapart.config import DataConfig
    from tellapart.data import batches, scan
    from tellapart.data.cache import PixelCache
    from tellapart.data.sources import open_row, read_source
    from tellapart.task import ImageSpec

    os.environ["TELLAPART_CACHE"] = cache_folder
    config, spec = DataConfig(), ImageSpec(side, side, 3)
    started, used = time.perf_counter(), time.process_time()
    source = read_source(folder or setting.folder / "all", config)
    with PixelCache(spec) as cache:
        found = scan.scan(source, config, cache=cache)
        images = batches.Images(source.root, found, spec, open_row=open_row, cache=cache, bounds=config)
        rows = np.arange(len(found))
        count = sum(len(images.take(rows[first : first + BATCH])) for first in range(0, len(rows), BATCH))
    return _figures(count, setting, folder, started, used)


def _figures(count: int, setting: Setting, folder: Path | None, started: float, used: float) -> Figures:
    """Wall time since `started`, and CPU time, of all threads, since `used`."""
    figures = {"value": time.perf_counter() - started, "processor s": time.process_time() - used}
    expected = len(setting.images() if folder is None else list(folder.glob("*/*")))
    if count != expected:
        raise RuntimeError(f"{count} images came, {expected} were expected: the figure would mean nothing.")
    return figures
