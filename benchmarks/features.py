"""What the head uses: the averages of the top map alone, compared with the features chosen on the validation split.

`python -m benchmarks.features FOLDER ... --seeds 5` trains both on each folder with each seed and prints the table of
docs/how-to/backbones.md: test accuracy, mean over the seeds with the lowest and the highest, and what was chosen. A
seed draws the splits, so that both see the same images.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections import Counter
from pathlib import Path

import tellapart as ta
from tellapart.words import percent

WAYS = {"top": "top", "chosen": "auto"}


def trained(data: Path, features: str, seed: int, out: Path) -> ta.Run:
    settings = [f"seed={seed}", f"model.features={features}", "model.name=efficientnet-lite0"]
    return ta.train(data, settings=settings, out=out)


def row_of(data: Path, seeds: range) -> str:
    """A row of the table."""
    reached: dict[str, list[float]] = {way: [] for way in WAYS}
    chosen: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for way, features in WAYS.items():
                run = trained(data, features, seed, Path(folder) / f"{way}-{seed}")
                reached[way].append(run.metrics["test"]["accuracy"]["value"])
            chosen[run.config.model.options["features"]] += 1
        sizes = ", ".join(f"{len(run.catalog.split(split)):,}" for split in ("train", "validation", "test"))
        counted = f"{data.name}: {len(run.task.classes)} classes; {sizes}"
    cells = [
        f"{percent(statistics.mean(values))} ({percent(min(values))} to {percent(max(values))})"
        for values in reached.values()
    ]
    told = ", ".join(f"{name} {count}x" for name, count in chosen.most_common())
    return f"| {counted} | {' | '.join(cells)} | {told} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--seeds", type=int, default=5)
    asked = parser.parse_args()
    print("| images: classes; train, validation, test | top alone | chosen | what |\n|---|---|---|---|", flush=True)
    for folder in asked.folders:
        print(row_of(folder, range(asked.seeds)), flush=True)


if __name__ == "__main__":
    main()
