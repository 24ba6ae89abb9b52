"""From a folder to pictures in memory: our scan, with and without a cache, and image_dataset_from_directory.

Imports are not counted. Every way hands out all pictures once, 128x128, in batches of 32.
"""

from __future__ import annotations

import os
import tempfile
import time

from benchmarks.benchmark import Figures, Setting
from benchmarks.network import SIDE

BATCH = 32


def first_start(setting: Setting) -> Figures:
    with tempfile.TemporaryDirectory(dir=setting.work) as cache:
        return _ours(setting, cache)


def second_start(setting: Setting) -> Figures:
    return _ours(setting, str(setting.work / "cache"))


def fill_cache(setting: Setting) -> None:
    _ours(setting, str(setting.work / "cache"))


def image_dataset(setting: Setting) -> Figures:
    import keras
    import tensorflow

    tensorflow.constant(0)  # the runtime starts here, not in the time that counts
    started = time.perf_counter()
    data = keras.utils.image_dataset_from_directory(
        setting.folder / "all", image_size=(SIDE, SIDE), batch_size=BATCH, shuffle=False, verbose=False
    )
    listed = time.perf_counter()
    count = sum(len(labels) for _, labels in data)
    _complete(count, setting)
    return {"value": time.perf_counter() - started, "listing": listed - started}


def _ours(setting: Setting, cache_folder: str) -> Figures:
    import cv2  # noqa: F401 - imported late by the package; not to be counted
    import numpy as np

    from tellapart.config import DataConfig
    from tellapart.data import batches, pixels, scan
    from tellapart.data.cache import PixelCache
    from tellapart.data.sources import open_row, read_source
    from tellapart.task import ImageSpec

    os.environ["TELLAPART_CACHE"] = cache_folder
    config, spec = DataConfig(), ImageSpec(SIDE, SIDE, 3)
    started = time.perf_counter()
    source = read_source(setting.folder / "all", config)
    with PixelCache(spec) as cache:
        found = scan.scan(source, max_pixels=config.max_pixels, cache=cache)
        scanned = time.perf_counter()
        pictures = batches.Pictures(
            source.root, found, spec, open_row=open_row, cache=cache, max_pixels=pixels.MAX_PIXELS
        )
        rows = np.arange(len(found))
        count = sum(len(pictures.take(rows[first : first + BATCH])) for first in range(0, len(rows), BATCH))
    _complete(count, setting)
    return {"value": time.perf_counter() - started, "scan": scanned - started}


def _complete(count: int, setting: Setting) -> None:
    expected = len(setting.pictures())
    if count != expected:
        raise RuntimeError(f"{count} pictures came, {expected} were expected: the figure would mean nothing.")
