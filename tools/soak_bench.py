"""The parts of the soak test: processes to kill, small file systems, and whether two runs are the same."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import tellapart as ta
from tests.command import RUN
from tests.conftest import make_shapes
from tests.same_run import assert_same_run

SMALL = (
    "model.name=cnn", "image.height=32", "image.width=32", "model.filters=[8, 16]", "model.dense=[16]",
    "model.dropout=0.3", "train.batch_size=4", "train.epochs=40", "train.patience=0", "train.learning_rate=0.003",
    "augment=medium",
)  # fmt: skip
ON_BASE = (
    "model.name=efficientnet-lite0", "image.height=96", "image.width=96", "model.dense=[8]", "augment=light",
    "train.views=10", "train.epochs=3",
)  # fmt: skip


class Hurt(AssertionError):
    """A guarantee did not hold."""


@dataclass
class Bench:
    """The working folder. images: class folders of generated images; run: a finished, undisturbed run on them."""

    folder: Path
    kills: int
    chance: random.Random
    images: Path = field(init=False)
    run: Path = field(init=False)
    _count: int = 0

    def __post_init__(self) -> None:
        self.images = make_shapes(self.folder / "images")
        self.run = self.folder / "finished"
        finish(start(train(self), self.run, cache=self.fresh()))

    def fresh(self) -> Path:
        self._count += 1
        path = self.folder / f"{self._count}"
        path.mkdir()
        return path


def settings(values: tuple[str, ...]) -> list[str]:
    return [word for value in values for word in ("--set", value)]


def train(bench: Bench, values: tuple[str, ...] = SMALL) -> list[object]:
    return ["train", bench.images, *settings(values), "--out"]


def start(
    arguments: list[object],
    *more: object,
    cache: Path,
    stdin: Path | None = None,
    code: str = RUN,
    environment: dict[str, str] | None = None,
    user: str | None = None,
) -> subprocess.Popen[str]:
    """The command line in a process of its own."""
    words = [sys.executable, "-c", code, *map(str, arguments), *map(str, more)]
    with (stdin or Path(os.devnull)).open("rb") as given:
        return subprocess.Popen(
            words,
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TELLAPART_CACHE": str(cache)} | (environment or {}),
            user=user,
        )


def finish(process: subprocess.Popen[str], *wanted: int) -> str:
    """Wait for the end. Raises Hurt for another exit code than 0 or those wanted, and for a traceback."""
    said = process.communicate()[1]
    if process.returncode not in (wanted or (0,)) or "Traceback" in said:
        raise Hurt(f"exit code {process.returncode}: {said[-2000:]}")
    return said


def same_runs(whole: Path, other: Path) -> None:
    one, two = ta.open_run(whole), ta.open_run(other)
    assert_same_run(one, two)
    same_file(one.predictions_file, two.predictions_file)
    if one.metrics != two.metrics or two.status != "done":
        raise Hurt(f"{other} has other metrics than {whole}, or is {two.status}")
    left = [path.name for path in two.path.rglob(".*")]
    if left:
        raise Hurt(f"{other} still holds {left}")


def same_file(one: Path, other: Path) -> None:
    if one.read_bytes() != other.read_bytes():
        raise Hurt(f"{other} is not what {one} is")


def killed(
    bench: Bench,
    begin: Callable[[Path], list[object]],
    again: Callable[[Path], list[object]],
    same: Callable[[Path, Path], None],
    stdin: Path | None = None,
) -> str:
    """Kill at random moments, uniform over the time of an undisturbed process, and resume; when a process finishes,
    compare and start again, until the requested number of kills."""
    whole, started = bench.fresh(), time.monotonic()
    finish(start(begin(whole), cache=whole / "cache", stdin=stdin))
    seconds = time.monotonic() - started
    kills = chains = resumed = 0
    while kills < bench.kills:
        place, arguments = bench.fresh(), None
        while True:
            process = start(arguments or begin(place), cache=place / "cache", stdin=stdin)
            try:
                if kills < bench.kills:
                    process.wait(bench.chance.uniform(0, seconds))
                else:
                    process.wait()
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
                process.communicate()
                kills += 1
                left = again(place)
                resumed += left != begin(place)
                arguments = left
                continue
            finish(process)
            break
        same(whole, place)
        chains += 1
    went_on = f", {resumed} of them by continuing" if resumed else ""
    times = "once" if chains == 1 else f"{chains} times"
    done = f"work of {seconds:.1f} s was finished {times}"
    return f"{kills} kills until {done}, restarted after each{went_on}; equal each time"


@contextmanager
def mounted(place: Path, kilobytes: int) -> Iterator[Path]:
    """A file system of that size, in memory."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", place], check=True)


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1024


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        tried = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True, check=False)
        if tried.returncode == 0:
            subprocess.run(["umount", folder], check=True)
        return tried.returncode == 0
