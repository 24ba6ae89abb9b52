"""From a folder to images in memory: our scan, with and without a cache, and image_dataset_from_directory.

Imports are not counted. Each gives all images once, 128x128, in batches of 32.
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

    tensorflow.constant(0)  # starts the runtime here, not in the measured time
    started, used = time.perf_counter(), time.process_time()
    data = keras.utils.image_dataset_from_directory(
        setting.folder / "all", image_size=(SIDE, SIDE), batch_size=BATCH, shuffle=False, verbose=False
    )
    count = sum(len(labels) for _, labels in data)
    return _figures(count, setting, started, used)


def _ours(setting: Setting, cache_folder: str) -> Figures:
    import numpy as np

    from tellapart.config import DataConfig
    from tellapart.data import batches, scan
    from tellapart.data.cache import PixelCache
    from tellapart.data.sources import open_row, read_source
    from tellapart.task import ImageSpec

    os.environ["TELLAPART_CACHE"] = cache_folder
    config, spec = DataConfig(), ImageSpec(SIDE, SIDE, 3)
    started, used = time.perf_counter(), time.process_time()
    source = read_source(setting.folder / "all", config)
    with PixelCache(spec) as cache:
        found = scan.scan(source, config, cache=cache)
        images = batches.Images(source.root, found, spec, open_row=open_row, cache=cache, bounds=config)
        rows = np.arange(len(found))
        count = sum(len(images.take(rows[first : first + BATCH])) for first in range(0, len(rows), BATCH))
    return _figures(count, setting, started, used)


def _figures(count: int, setting: Setting, started: float, used: float) -> Figures:
    """Wall time since `started`, and CPU time, of all threads, since `used`."""
    figures = {"value": time.perf_counter() - started, "processor s": time.process_time() - used}
    expected = len(setting.images())
    if count != expected:
        raise RuntimeError(f"{count} images came, {expected} were expected: the figure would mean nothing.")
    return figures
