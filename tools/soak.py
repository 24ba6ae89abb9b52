"""The soak test: runs survive kill -9, full and read-only disks and the like, many times; results in docs/soak.md.

    python -m tools.soak --kills 50 --seed 0 --write

from the root of a checkout, about an hour on two cores. Every scenario is real: kill -9 at random moments, a full or
read-only file system, two processes, a clock that is set back; the result is compared, bit for bit, with that of an
undisturbed process. Full and read-only file systems are small ones in memory, which only root can mount: otherwise the
scenario is skipped, and the page says so.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import tellapart as ta
from tellapart.runs.versions import versions
from tests.command import RUN
from tools.soak_bench import (
    ON_BASE,
    SMALL,
    Bench,
    Hurt,
    can_mount,
    finish,
    killed,
    mounted,
    remount,
    same_file,
    same_runs,
    settings,
    size_of,
    start,
    train,
)

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "soak.md"
STREAM = 40_000
"""Images on the standard input of predict."""
DAY = 86_400
# Python's clock, set back by a day whenever the marker file appears, as a machine does that finds a time server. The
# class datetime itself cannot be replaced for all: compiled modules expect its layout.
SET_BACK = f"""
import os, time, datetime
real, marker = time.time, os.environ["SOAK_SET_BACK"]
time.time = lambda: real() - {DAY} * os.path.exists(marker)
class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(time.time(), tz)
import tellapart.runs.run
tellapart.runs.run.datetime = Clock
{RUN}
"""


@dataclass(frozen=True)
class Scenario:
    """run: does it and says what it did and what came out; raises Hurt or AssertionError."""

    name: str
    run: Callable[[Bench], str]
    needs_mount: bool = False


def kill_training(bench: Bench) -> str:
    return _kill_training(bench, SMALL)


def kill_features(bench: Bench) -> str:
    return _kill_training(bench, ON_BASE)


def _kill_training(bench: Bench, values: tuple[str, ...]) -> str:
    def again(place: Path) -> list[object]:
        if (place / "run" / "metrics.json").exists() and ta.open_run(place / "run").status == "done":
            return ["report", place / "run"]  # only its report was lacking
        there = (place / "run" / "run.json").exists()
        return ["train", "--resume", place / "run"] if there else [*train(bench, values), place / "run"]

    return killed(
        bench,
        lambda place: [*train(bench, values), place / "run"],
        again,
        lambda whole, place: same_runs(whole / "run", place / "run"),
    )


def kill_predict(bench: Bench) -> str:
    names = sorted(map(str, bench.images.rglob("*.png")))
    stream = bench.folder / "names"
    stream.write_text("".join(f"{names[number % len(names)]}\n" for number in range(STREAM)))

    def begin(place: Path) -> list[object]:
        return ["predict", bench.run, "-", "--resume", place / "rows.csv"]

    def same(whole: Path, place: Path) -> None:
        same_file(whole / "rows.csv", place / "rows.csv")

    return killed(bench, begin, begin, same, stream)


def kill_export(bench: Bench) -> str:
    def begin(place: Path) -> list[object]:
        return ["export", bench.run, "--to", "onnx", "--out", place / "model.onnx"]

    def again(place: Path) -> list[object]:
        if (place / "model.onnx").exists():
            ta.Predictor(place / "model.onnx")  # whole, or it does not open
        return begin(place)

    def same(whole: Path, place: Path) -> None:
        same_file(whole / "model.onnx", place / "model.onnx")

    return killed(bench, begin, again, same)


def full_disk(bench: Bench) -> str:
    """The run's folder on a disk with too little space for the run; then the space is increased."""
    told = through = 0
    needed = 2 * size_of(bench.run) + 64
    for share in range(1, 11):
        with mounted(bench.fresh() / "disk", needed * share // 10) as disk:
            cache, run = bench.fresh(), disk / "run"
            said = finish(start(train(bench), run, cache=cache), 0, 2)
            if not (run / "run.json").exists() or ta.open_run(run).status != "done":
                if "No space left" not in said and "disk is full" not in said:
                    raise Hurt(f"no message about the full disk: {said}")
                told += 1
            else:
                through += 1
            remount(disk, "size=1g")
            if not (run / "run.json").exists():
                finish(start(train(bench), run, cache=cache))
            elif ta.open_run(run).status == "done":
                finish(start(["report", run], cache=cache))
            else:
                finish(start(["train", "--resume", run], cache=cache))
            same_runs(bench.run, run)
    return (
        f"10 sizes: {told} times a clear message, and resumed once there was space; {through} times there was enough "
        "space; equal each time"
    )


def full_cache(bench: Bench) -> str:
    """The cache on a full disk: slower, with the same result."""
    for kilobytes in (4, 40, 100, 200):
        with mounted(bench.fresh() / "disk", kilobytes) as disk:
            run = bench.fresh() / "run"
            finish(start(train(bench), run, cache=disk))
            same_runs(bench.run, run)
    return "4 sizes: trained without the cache; equal each time"


def full_answers(bench: Bench) -> str:
    """predict and export to a full disk: existing files stay, and no partial file is left."""
    with mounted(bench.fresh() / "disk", 64) as disk:
        (disk / "rows.csv").write_text("before")
        (disk / "model.onnx").write_text("before")
        (disk / "filling").write_bytes(bytes(52 * 1024))
        for arguments in (
            ["predict", bench.run, *[bench.images] * 4, "--format", "json", "--out", disk / "rows.csv"],
            ["export", bench.run, "--to", "onnx", "--out", disk / "model.onnx"],
        ):
            said = finish(start(arguments, cache=bench.fresh()), 2)
            if "No space left" not in said:
                raise Hurt(f"no message about the full disk: {said}")
        kept = sorted(path.name for path in disk.iterdir())
        if kept != ["filling", "model.onnx", "rows.csv"] or (disk / "rows.csv").read_text() != "before":
            raise Hurt(f"the full disk holds {kept}")
    return "predict and export gave a clear message; existing files stayed, no partial file was left"


def read_only(bench: Bench) -> str:
    """A finished run and the cache on a read-only disk."""
    with mounted(bench.fresh() / "disk", 100_000) as disk:
        run = Path(shutil.copytree(bench.run, disk / "run"))
        (disk / "cache").mkdir()
        remount(disk, "ro")
        image, cache = next(bench.images.rglob("*.png")), disk / "cache"
        for arguments in (["predict", run, image], ["evaluate", run], ["runs", disk]):
            finish(start(arguments, cache=cache))
        out = bench.fresh()
        finish(start(["explain", run, image, "--out", out / "explained"], cache=cache))
        finish(start(train(bench), out / "run", cache=cache))
        same_runs(bench.run, out / "run")
        for arguments in (
            ["report", run],
            ["export", run, "--to", "keras"],
            ["explain", run, image],
            [*train(bench), disk / "new"],
            ["predict", run, image, "--out", disk / "rows.csv"],
            ["predict", run, image, "--resume", disk / "rows.csv"],
        ):
            said = finish(start(arguments, cache=cache), 2)
            if "ead-only" not in said and "cannot be written" not in said and "annot write" not in said:
                raise Hurt(f"no message about the read-only disk: {said}")
    return (
        "predict, evaluate, explain, runs and training elsewhere work; commands that would write there give a clear "
        "message"
    )


def two_processes(bench: Bench) -> str:
    """Two processes start at the same time with one empty cache."""
    for values in (SMALL, ON_BASE):
        alone = bench.fresh() / "run"
        finish(start(train(bench, values), alone, cache=bench.fresh()))
        for _ in range(3):
            cache, place = bench.fresh(), bench.fresh()
            both = [start(train(bench, values), place / name, cache=cache) for name in ("a", "b")]
            for process in both:
                finish(process)
            for name in ("a", "b"):
                same_runs(alone, place / name)
    return "6 pairs, from scratch and on a backbone: both equal to a single process, each time"


def clock_set_back(bench: Bench) -> str:
    """The clock is set back by a day during training, and before resuming; then images change."""
    images = Path(shutil.copytree(bench.images, bench.fresh() / "images"))
    arguments = ["train", images, *settings(SMALL), "--out"]
    place, cache = bench.fresh(), bench.fresh()
    marker = place / "set back"
    clock = {"code": SET_BACK, "environment": {"SOAK_SET_BACK": str(marker)}}
    for name, kill in (("through", False), ("resumed", True)):
        marker.unlink(missing_ok=True)
        run = place / name
        process = start(arguments, run, cache=cache, **clock)  # type: ignore[arg-type]
        while not (run / "history.jsonl").exists() and process.poll() is None:
            time.sleep(0.01)
        marker.touch()
        if kill:
            process.kill()
            process.communicate()
            process = start(["train", "--resume", run], cache=cache, **clock)  # type: ignore[arg-type]
        finish(process)
        same_runs(bench.run, run)
    seen = 0
    for number, path in enumerate(sorted(images.rglob("*.png"))[:5]):
        before = path.stat()
        content = bytearray(path.read_bytes())
        content[-20 - number] ^= 1
        path.write_bytes(content)
        os.utime(path, (before.st_atime - DAY, before.st_mtime - DAY))
        said = finish(
            start(["train", images, *settings(SMALL), "--out"], place / f"changed {number}", cache=cache), 0, 1
        )
        changed = (
            ta.open_run(place / f"changed {number}").catalog.digest != ta.open_run(place / "through").catalog.digest
        )
        seen += changed or "truncated" in said
    if seen != 5:
        raise Hurt(f"of 5 images that changed with an older time, {seen} were detected")
    return (
        "set back by a day during training, and between a kill and --resume: equal; 5 of 5 images that changed with "
        "an older time were detected"
    )


SCENARIOS = (
    Scenario("kill -9 while training from scratch", kill_training),
    Scenario("kill -9 while computing features of a backbone", kill_features),
    Scenario("kill -9 while predicting a stream", kill_predict),
    Scenario("kill -9 while exporting", kill_export),
    Scenario("the run's disk is full", full_disk, needs_mount=True),
    Scenario("the cache's disk is full", full_cache, needs_mount=True),
    Scenario("the output's disk is full", full_answers, needs_mount=True),
    Scenario("a read-only folder", read_only, needs_mount=True),
    Scenario("two processes on one cache", two_processes),
    Scenario("the clock is set back", clock_set_back),
)


def soaked(bench: Bench, wanted: list[str]) -> list[tuple[str, str, str]]:
    """(scenario, outcome, seconds) of each, also printed."""
    rows, mountable = [], can_mount()
    for scenario in SCENARIOS:
        if wanted and not any(word in scenario.name for word in wanted):
            continue
        started = time.monotonic()
        if scenario.needs_mount and not mountable:
            outcome = "skipped: only root can mount a small file system"
        else:
            try:
                outcome = f"held. {scenario.run(bench)}"
            except AssertionError as error:
                outcome = f"FAILED. {error}"
        rows.append((scenario.name, outcome, f"{time.monotonic() - started:.0f}"))
        print(" | ".join(rows[-1]), flush=True)
    return rows


def page(rows: list[tuple[str, str, str]], kills: int, seed: int) -> str:
    table = "\n".join(f"| {name} | {' '.join(outcome.split())} | {seconds} |" for name, outcome, seconds in rows)
    made = ", ".join(f"{name} {version}" for name, version in versions().items())
    return f"""# Soak

Runs survive what is listed here: `python -m tools.soak --kills {kills} --seed {seed} --write`, from the root of a
checkout, on {datetime.now(UTC):%Y-%m-%d}, on {os.cpu_count()} cores of {platform.machine()}, with {made}.
This page is its output.

"Equal" means bit for bit the same as an undisturbed process: history, weights, metrics and predictions of a run, the
rows of a table, the bytes of an export. Kills are at random moments, uniform over the time of an undisturbed process.

| scenario | outcome | seconds |
|---|---|---|
{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description="Test that runs survive kills, full disks and the like.")
    parser.add_argument("--kills", type=int, default=50, help="of each of the first four scenarios")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=[], metavar="WORD", help="scenarios whose name holds one of these")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        rows = soaked(Bench(Path(folder), given.kills, random.Random(given.seed)), given.only)
    if given.write:
        fuzzing = "".join(PAGE.read_text("utf-8").partition("\n## Fuzzing\n")[1:])  # which tests.fuzz writes
        PAGE.write_text(page(rows, given.kills, given.seed) + fuzzing, encoding="utf-8")
    sys.exit(any(outcome.startswith("FAILED") for _, outcome, _ in rows))


if __name__ == "__main__":
    main()
