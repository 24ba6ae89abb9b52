"""Test accuracy against wall time from the shell: ours with and without a time budget, and how others fine-tune.

    python -m benchmarks.frontier FOLDER ... --seeds 5 --results frontier.jsonl

Each way is a command of its own on the same splits, which a seed draws, and on the same weights: EfficientNet-Lite0 at
224x224. Every result is appended to the file at once, and a way that is in it already is not run again, so that hours
of measuring can be taken in pieces. `--table` prints the table of what the file holds, and `--figure PATH` draws it.

`before` is the default of tellapart 0.1: a linear head on the averages of the top map. `keras` is the transfer learning
that Keras documents (keras.io/guides/transfer_learning): a head on the frozen backbone, then the whole of it at 1e-5.
`fastai` is its `fine_tune`, with the Python that FASTAI_PYTHON names; without it the way is left out, and said so.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

import tellapart as ta
from benchmarks.start import console_script
from tellapart.data.catalog import Split
from tellapart.report.charts import Axis, Chart, chart_drawing, grid, nice_axis
from tellapart.words import duration, percent

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
HERE = Path(__file__)


@dataclass(frozen=True)
class Result:
    """accuracy: on the test split, 0..1, of n images. seconds: wall time of the command."""

    data: str
    way: str
    seed: int
    accuracy: float
    n: int
    seconds: float


def _ours(*options: str) -> Callable[[Path, Path, int], list[str]]:
    def command(images: Path, out: Path, seed: int) -> list[str]:
        common = ["--format", "json", "--seed", str(seed), "--out", str(out), "--model", "efficientnet-lite0"]
        return [*console_script(), "train", str(images), *common, *options]

    return command


def _peer(python: str, name: str) -> Callable[[Path, Path, int], list[str]]:
    return lambda images, _, seed: [python, str(HERE.with_name(f"frontier_{name}.py")), str(images), str(seed)]


WAYS: dict[str, Callable[[Path, Path, int], list[str]]] = {
    "before": _ours("--set", "model.features=top"),
    "default": _ours(),
    "--time 1m": _ours("--time", "1m"),
    "--time 3m": _ours("--time", "3m"),
    "--time 10m": _ours("--time", "10m"),
    "--time 30m": _ours("--time", "30m"),
    "keras": _peer(sys.executable, "keras"),
    "fastai": _peer(os.environ.get("FASTAI_PYTHON", ""), "fastai"),
}


def lay_out(data: Path, seed: int, folder: Path) -> Path:
    """The images in split and class folders, as links, by the splits that tellapart draws with this seed."""
    catalog = ta.read(data, config=ta.make_config(seed=seed))
    for split in SPLITS:
        for image in catalog.split(split).images:
            place = folder / data.name / split / image.label.replace("/", "-") / image.path.replace("/", "-")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to((catalog.root / image.path).resolve())
    return folder / data.name


def measured(way: str, data: Path, seed: int) -> Result:
    """One command, with nothing cached before."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images = lay_out(data, seed, folder)
        environment = {**os.environ, "TELLAPART_CACHE": str(folder / "cache"), "TF_CPP_MIN_LOG_LEVEL": "3"}
        command = WAYS[way](images, folder / "run", seed)
        started = time.perf_counter()
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}.\n{done.stderr[-2000:]}")
        answer = json.loads(done.stdout[done.stdout.index("{") :])
        if "metrics" in answer:
            answer = {"accuracy": answer["metrics"]["test"]["accuracy"]["value"], "n": answer["metrics"]["test"]["n"]}
        return Result(data.name, way, seed, answer["accuracy"], answer["n"], round(seconds, 1))


def read(file: Path) -> list[Result]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [Result(**json.loads(line)) for line in lines]


def by_way(results: Iterable[Result]) -> dict[str, dict[str, list[Result]]]:
    """By images and way, in the order of WAYS."""
    found: dict[str, dict[str, list[Result]]] = defaultdict(dict)
    for way in WAYS:
        for each in results:
            if each.way == way:
                found[each.data].setdefault(way, []).append(each)
    return found


def table(results: list[Result]) -> str:
    """A row for each set of images, a column for each way: mean accuracy, lowest and highest, and mean time."""
    found = by_way(results)
    ways = [way for way in WAYS if any(way in each for each in found.values())]
    lines = [f"| images | {' | '.join(ways)} |", "|" + "---|" * (len(ways) + 1)]
    lines += [f"| {data} | {' | '.join(_cell(each.get(way, [])) for way in ways)} |" for data, each in found.items()]
    return "\n".join(lines)


def _cell(runs: list[Result]) -> str:
    if not runs:
        return ""
    values = [run.accuracy for run in runs]
    spread = f" ({100 * min(values):.1f} to {100 * max(values):.1f})" if len(values) > 1 else ""
    return f"{percent(mean(values))}{spread} in {duration(mean(run.seconds for run in runs))}"


def charts(results: list[Result]) -> list[Chart]:
    """A chart for each set of images: accuracy against time on a logarithmic axis, our curve and the others' points."""
    made = []
    for data, ways in by_way(results).items():
        points = {way: (mean(r.seconds for r in runs), mean(r.accuracy for r in runs)) for way, runs in ways.items()}
        seconds, values = zip(*points.values(), strict=True)
        ticks = [(each, duration(each)) for each in (10, 60, 600) if min(seconds) / 2 < each < max(seconds) * 2]
        across = Axis(min(seconds) / 1.5, max(seconds) * 1.5, ticks, "from the shell", logarithmic=True)
        chart = Chart(data, across, nice_axis(min(values), max(values), lambda value: percent(value, None)))
        curve = sorted(point for way, point in points.items() if way.startswith(("default", "--time")))
        chart.line(curve, 0, "tellapart")
        for way, (at, value) in points.items():
            kind = 0 if way.startswith(("default", "--time")) else "muted"
            chart.dot(at, value, kind, f"{way}: {percent(value)} in {duration(at)}", "" if kind == 0 else way)
        made.append(chart)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--ways", default=",".join(WAYS), help="of them, separated by commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=Path("frontier.jsonl"))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--figure", type=Path)
    asked = parser.parse_args()
    ways = asked.ways.split(",")
    if unknown := set(ways) - set(WAYS):
        parser.error(f"no way is called {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    if "fastai" in ways and not os.environ.get("FASTAI_PYTHON"):
        ways.remove("fastai")
        print("without fastai: FASTAI_PYTHON names no Python that has it", file=sys.stderr)
    done = {(each.data, each.way, each.seed) for each in read(asked.results)}
    for seed in range(asked.seeds):
        for folder in asked.folders:
            for way in ways:
                if (folder.name, way, seed) in done:
                    continue
                found = measured(way, folder, seed)
                print(f"{found.data} {way} seed {seed}: {percent(found.accuracy)} in {found.seconds} s", flush=True)
                with asked.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(found)) + "\n")
    if asked.table:
        print(table(read(asked.results)))
    if asked.figure:
        title = "Test accuracy against time"
        drawn = chart_drawing(title, grid(charts(read(asked.results)), title))
        asked.figure.write_text(drawn.svg, encoding="utf-8")


if __name__ == "__main__":
    main()
