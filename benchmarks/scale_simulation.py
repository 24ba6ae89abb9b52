"""`python -m benchmarks.scale_simulation`: what predicting very many images takes, simulated from measured times.

The seconds of a group of images are measured here, on one core, with the bundled backbone and images; a simulated part
draws its groups from them. Machines fail at random, stay away for a while, and the part they had is begun again after
Ray has noticed; some machines are slow throughout. Those rates are assumptions, given as options.
"""

from __future__ import annotations

import argparse
import heapq
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.process import ROOT
from tellapart.inference.predictor import Predictor

GROUP = 50
"""Images that are timed together."""


@dataclass(frozen=True)
class World:
    """machines: how many, of `cores`. mean_hours: between failures of one. away: seconds until it is back. noticed:
    seconds until its part is begun elsewhere. slow: share of machines that take twice as long."""

    machines: int
    cores: int
    mean_hours: float
    away: float
    noticed: float
    slow: float


@dataclass(frozen=True)
class Outcome:
    """hours: until the last part is done. ideal: what the same work takes without failures, slow machines and waiting.
    lost: seconds of work that failures threw away, as a share of all work. failures: how many. tail: hours in which
    fewer than half of the machines had work, at the end."""

    hours: float
    ideal: float
    lost: float
    failures: int
    tail: float


def simulate(parts: int, groups: int, measured: NDArray[np.float64], world: World, seed: int = 0) -> Outcome:
    """parts: how many, of `groups` groups each. measured: seconds of a group on one core; a part uses the cores of a
    machine.

    >>> still = World(10, 1, 1e9, 0, 0, 0)
    >>> simulate(100, 1, np.array([36.0]), still)
    Outcome(hours=0.1, ideal=0.1, lost=0.0, failures=0, tail=0.0)
    """
    generator = np.random.default_rng(seed)
    # The sum of many draws is nearly normal; of few it is drawn as it is.
    mean, spread = measured.mean() * groups, measured.std() * np.sqrt(groups)
    if groups > 30:
        seconds = generator.normal(mean, spread, parts).clip(mean / 2)
    else:
        seconds = generator.choice(measured, (parts, groups)).sum(axis=1)
    seconds = seconds / world.cores
    pace = np.where(generator.random(world.machines) < world.slow, 2.0, 1.0)
    fails = generator.exponential(world.mean_hours * 3600, world.machines)
    free = [(0.0, machine) for machine in range(world.machines)]
    waiting: list[tuple[float, float]] = []  # begun again: when, and its seconds
    ended: list[float] = []
    following, lost, failures = 0, 0.0, 0
    while following < parts or waiting:
        now, machine = heapq.heappop(free)
        if waiting and (waiting[0][0] <= now or following == parts):
            since, work = heapq.heappop(waiting)
            now = max(now, since)
        else:
            work = float(seconds[following])
            following += 1
        until = now + work * pace[machine]
        if fails[machine] < until:
            broken = max(float(fails[machine]), now)
            failures, lost = failures + 1, lost + broken - now
            heapq.heappush(waiting, (broken + world.noticed, work))
            until = broken + world.away
            fails[machine] = until + generator.exponential(world.mean_hours * 3600)
        else:
            ended.append(until)
        heapq.heappush(free, (until, machine))
    last = np.sort(ended)[-(world.machines // 2) :]
    work = float(seconds.sum())
    tail = (last[-1] - last[0]) / 3600 if len(ended) > world.machines else 0.0
    return Outcome(float(max(ended)) / 3600, work / world.machines / 3600, lost / work, failures, float(tail))


def group_seconds(groups: int) -> tuple[NDArray[np.float64], float]:
    """The processor seconds of each of so many groups of images, and the mean size of an image in bytes."""
    images = sorted((ROOT / "src/tellapart/data/builtin/pets").rglob("*.jpg"))
    with tempfile.TemporaryDirectory(prefix="tellapart-benchmarks-") as folder:
        run = Path(folder) / "run"
        train = [sys.executable, "-m", "tellapart", "train", "builtin:pets", "--out", str(run)]
        subprocess.run(train, check=True, capture_output=True)
        predictor = Predictor(run / "model.onnx", threads=1)
        given = ((str(path), path) for path in islice(cycle(images), GROUP * (groups + 1)))
        seconds, started = [], 0.0
        for number, _ in enumerate(predictor.predict_named(given), start=1):
            if number % GROUP == 0:
                seconds.append(time.process_time() - started)
                started = time.process_time()
    return np.array(seconds[1:]), float(np.mean([path.stat().st_size for path in images]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=100, help=f"groups of {GROUP} images to measure")
    parser.add_argument("--mean-hours", type=float, default=200.0, help="between failures of a machine")
    parser.add_argument("--away", type=float, default=600.0, help="seconds until a machine is back")
    parser.add_argument("--noticed", type=float, default=30.0, help="seconds until Ray begins its part elsewhere")
    parser.add_argument("--slow", type=float, default=0.02, help="share of machines at half the speed")
    given = parser.parse_args()
    measured, size = group_seconds(given.groups)
    rate = GROUP / measured.mean()
    low, high = GROUP / np.quantile(measured, [0.95, 0.05])
    print(
        f"{rate:.0f} images a second and core ({low:.0f} to {high:.0f} in nine groups of ten), "
        f"{size:,.0f} bytes an image"
    )
    print(
        "| images | machines of 16 cores | part | core-hours | TB read | hours, ideal | hours | lost | failures "
        "| tail, min |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for images, machines, part in (
        (10**8, 10, 2000),
        (10**8, 100, 2000),
        (10**8, 100, 100_000),
        (10**10, 1000, 20_000),
        (10**10, 1000, 1_000_000),
    ):
        world = World(machines, 16, given.mean_hours, given.away, given.noticed, given.slow)
        found = simulate(images // part, part // GROUP, measured, world)
        print(
            f"| {images:,} | {machines:,} | {part:,} | {images / rate / 3600:,.0f} | {images * size / 1e12:,.1f} "
            f"| {found.ideal:.1f} | {found.hours:.1f} | {100 * found.lost:.2f} % | {found.failures:,} "
            f"| {60 * found.tail:.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
