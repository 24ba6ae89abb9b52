"""The commands of this checkout beside those of another one, such as the commit before, by turns.

    git worktree add /tmp/before COMMIT && python -m benchmarks.beside /tmp/before DATA [--rounds 3] [--only NAME]

DATA: class folders. Each row of the table is a command from the shell: the median of wall time, of processor time of
all its processes, and of the most memory that one of them held, here over there. Both sides are warmed up first, each
with a cache of its own; `train, first` begins with an empty one each time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent.parent
COMMANDS: dict[str, list[str]] = {
    "--help": ["--help"],
    "check": ["check", "DATA"],
    "train": ["train", "DATA", "--out", "run-NUMBER"],
    "train, first": ["train", "DATA", "--out", "first-NUMBER"],
    "train --model cnn": [
        "train",
        "DATA",
        "--model",
        "cnn",
        "--epochs",
        "3",
        "--image-size",
        "64",
        "--out",
        "cnn-NUMBER",
    ],
    "predict, one image": ["predict", "run-0", "IMAGE"],
    "predict, all": ["predict", "run-0", "DATA"],
    "evaluate": ["evaluate", "run-0"],
    "explain": ["explain", "run-0", "IMAGE", "--out", "explained-NUMBER"],
    "report": ["report", "run-0"],
    "compare": ["compare", "run-0", "run-1"],
}
IMAGES = (".jpg", ".jpeg", ".png")


def timed(checkout: Path, folder: Path, words: list[str], cache: Path) -> tuple[float, float, float]:
    """Wall and processor seconds of one command, and megabytes. Raises RuntimeError where it fails."""
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "TELLAPART_CACHE": str(cache)}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "tellapart", *words],
        env=environment, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    said = process.stderr.read() if process.stderr else b""
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise RuntimeError(f"{checkout}: {' '.join(words)} failed.\n{said.decode()[-2000:]}")
    return time.perf_counter() - started, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("other", type=Path, help="another checkout")
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), metavar="NAME")
    asked = parser.parse_args()
    image = next(path for path in sorted(asked.data.rglob("*")) if path.suffix.lower() in IMAGES)
    print("| command | wall | processor | memory | processor, s | memory, MB |\n|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        sides = {"here": HERE, "there": asked.other.absolute()}
        for name in sides:
            (Path(temporary) / name).mkdir()
        for name, words in ((name, COMMANDS[name]) for name in asked.only):
            found: dict[str, list[tuple[float, ...]]] = {side: [] for side in sides}
            for number in range(asked.rounds + 1):
                for side in sorted(sides, reverse=bool(number % 2)):
                    places = {"DATA": str(asked.data.absolute()), "IMAGE": str(image.absolute())}
                    given = [places.get(word, word).replace("NUMBER", str(number)) for word in words]
                    folder = Path(temporary) / side
                    cache = folder / (f"cache-{number}" if name == "train, first" else "cache")
                    taken = timed(sides[side], folder, given, cache)
                    found[side] += [taken] if number else []
            medians = {
                side: [statistics.median(each) for each in zip(*taken, strict=True)] for side, taken in found.items()
            }
            ratios = [here / there for here, there in zip(medians["here"], medians["there"], strict=True)]
            told = [*(f"{ratio:.2f}" for ratio in ratios), f"{medians['here'][1]:.2f}", f"{medians['here'][2]:.0f}"]
            print(f"| {name} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
