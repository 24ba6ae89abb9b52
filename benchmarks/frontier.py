"""Test accuracy against wall time from the shell: ours with and without a time budget, and how others fine-tune.

    python -m benchmarks.frontier

runs every way on every set of images beside the checkout, or on those that are named, seed after seed. Each way is a
command of its own on the same splits, which a seed draws, and on the same weights: EfficientNet-Lite0 at 224x224.

A seed takes at most 44 minutes a set for the four ways with a time (less where nothing is left to gain), and what the
others take: a minute for ours, some minutes each for keras and fastai. On the seven sets of the project that is most of
six hours. It can be stopped at any time: each result is appended to the file of results at once, what is in it is not
measured again, and the same command goes on. A way that fails is told and left for the next time. At the end, or at
Ctrl-C, the table of what the file holds is printed and the figure is written; `--seeds 0` does that alone. On a machine
that does other work the times mean nothing, and those of two processors are not compared: a set is measured on one.

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
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from typing import Literal, NamedTuple

import tellapart as ta
from benchmarks.images import link
from benchmarks.start import console_script
from tellapart.data.catalog import Split
from tellapart.models.runtime import processor
from tellapart.report.charts import Axis, Chart, chart_drawing, grid, nice_axis
from tellapart.words import duration, percent

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
HERE = Path(__file__)
BESIDE = HERE.resolve().parents[2] / "shared" / "data"
RESULTS = HERE.resolve().parents[1] / "docs" / "frontier.jsonl"
"""What docs/benchmarks.md shows."""


@dataclass(frozen=True)
class Result:
    """accuracy: on the test split, 0..1, of n images. seconds: wall time of the command, on that processor."""

    data: str
    way: str
    seed: int
    accuracy: float
    n: int
    seconds: float
    processor: str


class Asked(NamedTuple):
    """A command to measure."""

    folder: Path
    way: str
    seed: int


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


OTHERS: dict[str, int | Literal["muted"]] = {"before": "muted", "keras": 1, "fastai": 2}
"""How the points beside our curve are drawn."""
TICKS = ((1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3600, "1 h"))


def lay_out(data: Path, seed: int, folder: Path) -> Path:
    """The images in split and class folders, as links, by the splits that tellapart draws with this seed."""
    catalog = ta.read(data, config=ta.make_config(seed=seed))
    rows = ((split, image.label, image.path) for split in SPLITS for image in catalog.split(split).images)
    return link(catalog.root, rows, folder / data.name)


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
        return Result(data.name, way, seed, answer["accuracy"], answer["n"], round(seconds, 1), processor())


def read(file: Path) -> list[Result]:
    """What was measured; a last line that a kill broke off is left out."""
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    return [Result(**json.loads(line)) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def append(file: Path, found: Result) -> None:
    whole = file.read_text(encoding="utf-8") if file.exists() else ""
    if whole and not whole.endswith("\n"):
        file.write_text(whole[: whole.rfind("\n") + 1], encoding="utf-8")
    with file.open("a", encoding="utf-8") as opened:
        opened.write(json.dumps(asdict(found)) + "\n")


def missing(results: Iterable[Result], folders: Sequence[Path], ways: Sequence[str], seeds: int) -> list[Asked]:
    """What is not measured yet, seed after seed, so that every set and way has as many."""
    done = {(each.data, each.way, each.seed) for each in results}
    wanted = [Asked(folder, way, seed) for seed in range(seeds) for folder in folders for way in ways]
    return [each for each in wanted if (each.folder.name, each.way, each.seed) not in done]


def processors(results: Iterable[Result]) -> dict[str, str]:
    """The one that each set of images was measured on."""
    return {each.data: each.processor for each in results}


def measure_all(asked: Sequence[Asked], file: Path) -> int:
    """Appends each result to the file; returns how many failed. Ctrl-C ends it."""
    failed = 0
    for number, each in enumerate(asked, start=1):
        name = f"{number} of {len(asked)}: {each.folder.name} {each.way} seed {each.seed}"
        try:
            found = measured(each.way, each.folder, each.seed)
        except KeyboardInterrupt:
            print("stopped; the same command goes on", file=sys.stderr)
            break
        except (RuntimeError, ValueError, LookupError, ta.TellapartError) as error:
            failed += 1
            print(f"{name} failed: {error}", file=sys.stderr, flush=True)
            continue
        append(file, found)
        print(f"{name}: {percent(found.accuracy)} in {duration(found.seconds)}", file=sys.stderr, flush=True)
    return failed


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
    measured_on = processors(results)
    lines = [f"| images | processor | {' | '.join(ways)} |", "|" + "---|" * (len(ways) + 2)]
    for data, each in sorted(found.items()):
        lines.append(f"| {data} | {measured_on[data]} | {' | '.join(_cell(each.get(way, [])) for way in ways)} |")
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
        low, high = min(seconds) / 1.5, max(seconds) * 1.5
        ticks = [(each, words) for each, words in TICKS if low < each < high]
        across = Axis(low, high, ticks, "time from the shell", logarithmic=True)
        chart = Chart(data, across, nice_axis(min(values), max(values), lambda value: percent(value, None)))
        curve = sorted(point for way, point in points.items() if way not in OTHERS)
        chart.line(curve, 0, "tellapart")
        for way, (at, value) in points.items():
            told = f"{way}: {percent(value)} in {duration(at)}"
            chart.dot(at, value, OTHERS.get(way, 0), told, way if way in OTHERS else "")
        made.append(chart)
    return made


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.frontier", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "folders", nargs="*", type=Path, metavar="FOLDER", help="sets of images; all beside the checkout"
    )
    parser.add_argument("--ways", default=",".join(WAYS), help="of them, separated by commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--figure", type=Path, help="SVG, of the sets that are named; by default beside the results")
    given = parser.parse_args(arguments)
    ways = given.ways.split(",")
    if unknown := set(ways) - set(WAYS):
        parser.error(f"no way is called {', '.join(sorted(unknown))}; there are {', '.join(WAYS)}")
    if "fastai" in ways and not os.environ.get("FASTAI_PYTHON"):
        ways.remove("fastai")
        print("without fastai: FASTAI_PYTHON names no Python that has it", file=sys.stderr)
    folders = given.folders or sorted(folder for folder in BESIDE.glob("*") if folder.is_dir())
    if given.seeds and not folders:
        parser.error(f"there are no images at {BESIDE}; name folders of images")
    results = read(given.results)
    names, here = [folder.name for folder in folders], processor()
    there = [f"{name} on {on}" for name, on in processors(results).items() if name in names and on != here]
    if given.seeds and there:
        parser.error(f"this is {here}, and measured were {', '.join(there)}; name other folders, or other --results")
    failed = measure_all(missing(results, folders, ways, given.seeds), given.results)
    results = read(given.results)
    if results:
        print(table(results))
        title = "Test accuracy against time"
        figure = given.figure or given.results.with_suffix(".svg")
        shown = [found for found in results if found.data in names] or results
        figure.write_text(chart_drawing(title, grid(charts(shown), title)).svg, encoding="utf-8")
        print(f"figure written to {figure}", file=sys.stderr)
    if failed:
        sys.exit(f"{failed} failed, as told above; the same command tries them again")


if __name__ == "__main__":
    main()
