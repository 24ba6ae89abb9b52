"""`python -m benchmarks [NAME ...]`: measure, and print a table per benchmark; `--json` for machines."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Benchmark, Setting
from benchmarks.images import default_data, stage
from benchmarks.measure import Row, measure
from benchmarks.process import ROOT
from benchmarks.table import BENCHMARKS
from tellapart.models.runtime import processor
from tellapart.parallel import cores

LIBRARIES = ("tellapart", "tensorflow", "keras", "numpy", "pillow", "opencv-python-headless", "onnxruntime")
SMOKE_IMAGES = 30


def main(arguments: list[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["gpu"]:  # it has its own rows, and works without half of the libraries
        from benchmarks import gpu

        gpu.main(arguments[1:])
        return
    given = _parser().parse_args(arguments)
    wrong = set(given.names) - {row.name for row in BENCHMARKS}
    if wrong:
        _parser().error(f"no benchmark is called {', '.join(sorted(wrong))}; there are {_names()}")
    if given.repeats < 1 or given.epochs < 2:
        _parser().error("--repeats is at least 1, --epochs at least 2: the first is the warm-up")
    chosen = [row for row in BENCHMARKS if not given.names or row.name in given.names]
    limit = given.images or (SMOKE_IMAGES if given.smoke else None)
    repeats = 1 if given.smoke else given.repeats
    with tempfile.TemporaryDirectory(prefix="tellapart-benchmarks-") as temporary:
        folder = Path(temporary)
        count = stage(given.data, folder / "images", limit)
        about = {**_machine(), "data": given.data, "images": count, "repeats": repeats}
        if not given.json:
            print("  ".join(f"{name} {value}" for name, value in about.items()))
        measured = {}
        setting = Setting(folder / "images", folder, 2 if given.smoke else given.epochs, given.smoke)
        for benchmark in chosen:
            work = folder / benchmark.name
            work.mkdir()
            rows = measure(benchmark, replace(setting, work=work), repeats, _tell)
            measured[benchmark.name] = {
                "title": benchmark.title,
                "unit": benchmark.unit,
                "rows": [row.to_dict() for row in rows],
            }
            if not given.json:
                _show(benchmark, rows)
    if given.json:
        print(json.dumps({**about, "benchmarks": measured}, indent=2))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Speed and memory beside the peers.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"default: all of {_names()}; alone: gpu")
    parser.add_argument("--data", default=default_data(ROOT), help="what `tellapart train` takes  [%(default)s]")
    parser.add_argument("--repeats", type=int, default=3, help="the figures are medians of these  [%(default)s]")
    parser.add_argument("--epochs", type=int, default=3, help="of a training, the first being warm-up  [%(default)s]")
    parser.add_argument("--images", type=int, help="use so many of the images, the same share of each class")
    parser.add_argument("--smoke", action="store_true", help="see that all runs: few images, once, one process")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _names() -> str:
    return ", ".join(row.name for row in BENCHMARKS)


def _machine() -> dict[str, Any]:
    versions = {name: metadata.version(name) for name in LIBRARIES}
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": processor(),
        "cores": cores(),
        "python": platform.python_version(),
        **versions,
    }


def _show(benchmark: Benchmark, rows: list[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{benchmark.name}: {benchmark.title}", title_justify="left", box=box.SIMPLE)
    table.add_column("way")
    for name in (benchmark.unit, "all repeats", "ours is", "target", "beside"):
        table.add_column(name, justify="right")
    for row in rows:
        repeats = " ".join(_number(value) for value in row.values)
        ratio = "" if row.ratio is None else f"{row.ratio:.2f} x"
        beside = row.missing or ", ".join(f"{name} {_number(value)}" for name, value in row.beside.items())
        table.add_row(row.way, "" if row.median is None else _number(row.median), repeats, ratio, _target(row), beside)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def _target(row: Row) -> str:
    if row.met is None:
        return ""
    wanted = f"<= {row.bound:g}" if row.bound is not None else f">= {row.target:g} x"
    return f"{wanted} {'met' if row.met else 'MISSED'}"


def _number(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
