"""A long stream of paths through `tellapart predict RUN -`: its memory, sampled as the rows come.

The same few hundred images are repeated; one path in fifty is a broken file, one in seventy is missing. The network is
small and the images 32x32, as only the code around the network may grow with the stream.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from typing import IO

from benchmarks.benchmark import Figures, Setting
from benchmarks.start import console_script

COUNT = 200_000
SMOKE_COUNT = 2_000
DIFFERENT = 300
SAMPLE = 100
_TINY = ["model.name=cnn", "image.height=32", "image.width=32", "model.filters=[4]", "model.dense=[4]"]


def prepare(setting: Setting) -> None:
    import tellapart as ta

    config = ta.make_config(settings=[*_TINY, "train.epochs=1"])
    ta.train(setting.folder / "split", config=config, out=setting.work / "run")
    (setting.work / "broken.jpg").write_bytes(setting.images()[0].read_bytes()[:2000])


def whole(setting: Setting) -> Figures:
    return _stream(setting, SMOKE_COUNT if setting.smoke else COUNT)


def tenth(setting: Setting) -> Figures:
    return _stream(setting, (SMOKE_COUNT if setting.smoke else COUNT) // 10)


def _stream(setting: Setting, count: int) -> Figures:
    """Peak resident memory in MB (10^6 bytes); beside it that of the first tenth of the rows."""
    import psutil

    images = setting.images()
    images = images[:: max(1, len(images) // DIFFERENT)]
    paths = [os.fsencode(path) + b"\n" for path in images]
    broken, missing = (
        os.fsencode(setting.work / "broken.jpg") + b"\n",
        os.fsencode(setting.work / "missing.jpg") + b"\n",
    )

    def feed(pipe: IO[bytes]) -> None:
        with pipe:
            for number in range(count):
                odd = broken if number % 50 == 7 else missing if number % 70 == 9 else None
                pipe.write(odd or paths[number % len(paths)])

    command = [*console_script(), "predict", str(setting.work / "run"), "-", "--format", "csv"]
    started = time.perf_counter()
    memory, errors, rows = [], 0, -1  # the header is no row
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        watched = psutil.Process(process.pid)
        assert process.stdin is not None
        assert process.stdout is not None
        threading.Thread(target=feed, args=(process.stdin,)).start()
        for rows, line in enumerate(process.stdout):
            errors += rows > 0 and not line.endswith(b",\n")
            # Not at the very end, when the process may have ended.
            if rows % SAMPLE == 0 and rows < count - SAMPLE:
                memory.append(watched.memory_info().rss / 1e6)
    seconds = time.perf_counter() - started
    if rows != count or process.returncode != 1:
        raise RuntimeError(f"{rows} rows of {count} paths, exit code {process.returncode}.")
    early = memory[: max(1, len(memory) // 10)]
    return {
        "value": max(memory),
        "first tenth MB": max(early),
        "errors": float(errors),
        "paths/s": count / seconds,
    }
