"""Trained recipes -> docs/recipes.md with curves, and the results that `tellapart recipes` shows.

    python tools/recipes_page.py --cats-dogs FOLDER --breeds FOLDER --fashion-mnist FOLDER \
        --horses-or-humans FOLDER --rock-paper-scissors FOLDER --inception-weights inception_v3_notop.weights.h5

About an hour on two cores. Existing runs (--out) are used, interrupted ones are resumed, so the page can be written
again in seconds. A recipe whose images are not given is listed as "not run". Every figure is read from the runs; only
the words are in this file.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tellapart as ta
from tellapart.evaluation.intervals import Estimate
from tellapart.recipes import load_recipe, recipe_names
from tellapart.report.charts import Axis, Chart, chart_drawing, grid, nice_axis
from tellapart.svg import Drawing
from tellapart.words import measured, percent

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "recipes.md"
FIGURE = ROOT / "docs" / "recipes.svg"
REACHED = ROOT / "src" / "tellapart" / "recipes" / "reached.json"
IMAGES = {
    "cats_dogs": "cats and dogs",
    "breeds": "three breeds of pets",
    "fashion_mnist": "Fashion-MNIST",
    "horses_or_humans": "horses or humans",
    "rock_paper_scissors": "rock, paper, scissors",
}


@dataclass(frozen=True)
class Row:
    """A recipe as it is run here: images, additional settings, and a note for readers."""

    recipe: str
    images: str = "cats_dogs"
    settings: tuple[str, ...] = ()
    weights: str | None = None
    note: str = ""
    run: str = ""
    own: bool = False
    """Run on the data set that the recipe is named after, in a separate table."""

    @property
    def folder(self) -> str:
        return self.run or self.recipe


_ONE_PASS = ("train.steps_per_epoch=20",)
_NOTE_ONE_PASS = "20 steps an epoch, one pass over the images at hand, where it says 100"
ROWS = (
    Row("pets-dense"),
    Row("pets-conv-16"),
    Row("pets-conv-32"),
    Row("pets-conv-32-32"),
    Row(
        "cats-dogs-64", note="its 75/25 split is kept within the training folder; the test folder stays the test split"
    ),
    Row("cats-dogs-a", settings=_ONE_PASS, note=_NOTE_ONE_PASS),
    Row("cats-dogs-b", settings=_ONE_PASS, note=_NOTE_ONE_PASS),
    Row("cats-dogs-b-augmented", settings=_ONE_PASS, note=_NOTE_ONE_PASS),
    Row(
        "cats-dogs-c",
        weights="none",
        note="the ImageNet weights of InceptionResNetV2 are not available here: **random weights**, which only test "
        "the path from image to prediction; `cats-dogs-inception` is the nearest with pretrained weights",
    ),
    Row(
        "cats-dogs-inception",
        weights="inception_weights",
        note="its head is trained on the frozen backbone for ten epochs, then the top two blocks are fine-tuned",
    ),
    Row("horses-humans", note="on cats and dogs, which are more images; on a part of its own data set: below"),
    Row(
        "rock-paper-scissors",
        "breeds",
        note="on three breeds of pets, which are more images; on a data set of its own kind: below",
    ),
    Row(
        "horses-humans",
        "horses_or_humans",
        settings=("data.group_by=name",),
        note="50 renderings a class of Laurence Moroney's set; a model is in one split with all its poses",
        run="horses-humans-own",
        own=True,
    ),
    Row(
        "rock-paper-scissors",
        "rock_paper_scissors",
        note="60 photographs a class of another set of hands, on green",
        run="rock-paper-scissors-own",
        own=True,
    ),
    Row("fashion-dense", "fashion_mnist"),
    Row("fashion-conv", "fashion_mnist"),
    Row("fashion-resnet", "fashion_mnist"),
    Row("fashion-conv", "fashion_mnist", settings=("train.precision=float32",), run="fashion-conv-float32"),
)
OWN_BEGINS, OWN_ENDS = "<!-- own sets -->", "<!-- end of own sets -->"
OPENING = """# Recipes and what they reached

Each recipe is a TOML file in `src/tellapart/recipes`; `tellapart recipes NAME` prints it. This page is written by
`python tools/recipes_page.py` from the runs of the commands below, without manual additions.

**Keep the number of images in mind.** The published results come from far more images (8,000 to 20,030
of cats and dogs; here 600 to 640 for training), were validated on the test set, and have no interval. Ours are of
the best epoch on a validation split; the test images were held out. With so few images, a network trained from
scratch is not far above guessing on cats and dogs, whatever its architecture: that is what the intervals say, and why
one uses a pretrained backbone. No difference between two of these recipes is shown unless their intervals show it.

Two published networks end in two sigmoid units or one softmax unit. tellapart cannot build these: two classes have one
sigmoid unit, more classes have softmax, and the loss follows.
"""


def main() -> None:
    """Train missing runs, then write the page, the figure and the table of the command line."""
    parser = argparse.ArgumentParser(description="Train every recipe and write docs/recipes.md.")
    for key, name in IMAGES.items():
        parser.add_argument(f"--{key.replace('_', '-')}", type=Path, metavar="FOLDER", help=f"images: {name}")
    parser.add_argument("--inception-weights", type=Path, metavar="FILE", help="InceptionV3 without its top")
    parser.add_argument("--out", type=Path, default=Path("recipe-runs"), help="folder of the runs")
    parser.add_argument("--own-alone", action="store_true", help="only the table of the recipes' own data sets")
    given = vars(parser.parse_args())
    missing = set(recipe_names()) - {row.recipe for row in ROWS}
    if missing:
        raise SystemExit(f"ROWS lacks {', '.join(sorted(missing))}: add a row for each.")
    if given["own_alone"]:
        own = {row.folder: _trained(row, given) for row in ROWS if row.own}
        before, _, rest = PAGE.read_text(encoding="utf-8").partition(OWN_BEGINS)
        after = rest.partition(OWN_ENDS)[2]
        PAGE.write_text(before + "\n".join(_own(own)) + after, encoding="utf-8")
        return
    runs = {row.folder: _trained(row, given) for row in ROWS}
    done = [(row, run) for row in ROWS if (run := runs[row.folder]) is not None]
    PAGE.write_text("\n".join(_page(runs)) + "\n", encoding="utf-8")
    _figure([(row, run) for row, run in done if not row.run]).save(FIGURE)
    reached = {row.recipe: _reached(row, run) for row, run in done if not row.run}
    REACHED.write_text(json.dumps(reached, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {PAGE}, {FIGURE} and {REACHED}.")


def _trained(row: Row, given: dict[str, Any]) -> ta.Run | None:
    """The run of a row: existing, resumed, or trained now; None if its images are not given."""
    path = given["out"] / row.folder
    weights = given.get(row.weights, row.weights) if row.weights else None
    if path.is_dir():
        if ta.open_run(path).status != "done":
            train("--resume", path)
        return ta.open_run(path)
    if given[row.images] is None or (row.weights and weights is None):
        return None
    chosen = [part for each in row.settings for part in ("--set", each)] + (["--weights", weights] if weights else [])
    train(given[row.images], "--recipe", row.recipe, "--out", path, *chosen)
    return ta.open_run(path)


def train(*arguments: str | Path) -> None:
    """`tellapart train`, as the page shows it. Raises SystemExit if it fails."""
    command = ["tellapart", "train", *map(str, arguments)]
    done = subprocess.run([sys.executable, "-m", *command], check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}.")


def _page(runs: dict[str, ta.Run | None]) -> Iterator[str]:
    shown = [row for row in ROWS if not row.run]
    yield OPENING
    yield from _table(shown, runs)
    yield ""
    yield from _own(runs)
    yield "\n## Curves\n\nAccuracy in each epoch; the dot is the epoch that was kept.\n"
    yield f"![Accuracy of training and validation of every recipe, by epoch]({FIGURE.name})"
    yield from _precision([run for row in ROWS if row.recipe == "fashion-conv" and (run := runs[row.folder])])
    yield "\n## The commands\n"
    yield "The speed is of two cores shared with other work, and only a rough guide.\n"
    yield from (_command(row, run) for row in ROWS if not row.own and (run := runs[row.folder]))


def _table(rows: Sequence[Row], runs: dict[str, ta.Run | None]) -> Iterator[str]:
    yield "| recipe | images: train, validation, test | published | validation, best epoch | test (95 % interval) |"
    yield "|---|---|---|---|---|"
    for row in rows:
        published, run = load_recipe(row.recipe).published or "-", runs[row.folder]
        if run is None:
            yield f"| {row.recipe} | not run | {published} | - | - |"
            continue
        counts = [sum(each.values()) for each in run.catalog.counts().values()]
        best = run.history[run.record.best_epoch - 1]
        yield (
            f"| {row.recipe} | {IMAGES[row.images]}: {', '.join(f'{count:,}' for count in counts)} "
            f"| {published} | {percent(best.val_accuracy)} in epoch {best.epoch} of "
            f"{len(run.history)} | {_percent(run.metrics['test']['accuracy'])} |"
        )
    yield ""
    yield from (f"- `{row.recipe}`: {row.note}." for row in rows if row.note)


def _own(runs: dict[str, ta.Run | None]) -> Iterator[str]:
    """The section of the recipes on their own data sets, between its two marks."""
    rows = [row for row in ROWS if row.own]
    yield f"{OWN_BEGINS}\n\n## On their own data sets\n"
    yield "Two or three dozen test images tell little: read the intervals. The validation images chose the epoch.\n"
    yield from _table(rows, runs)
    yield ""
    yield from (_command(row, run) for row in rows if (run := runs[row.folder]))
    yield f"\n{OWN_ENDS}"


def _precision(both: list[ta.Run]) -> Iterator[str]:
    if len(both) < 2:
        return
    yield "\n## Precision\n\n`fashion-conv`, once in each arithmetic (`--set train.precision=...`):\n"
    yield "| arithmetic | test (95 % interval) | log loss | images/s |\n|---|---|---|---|"
    for run in both:
        found = run.metrics["test"]
        yield (
            f"| {run.record.precision} | {_percent(found['accuracy'])} | {found['log_loss']['value']:.3f} "
            f"| {_speed(run):,.0f} |"
        )


def _command(row: Row, run: ta.Run) -> str:
    data = row.images.replace("_", "-")
    weights = [f"--weights {Path(run.config.model.weights).name}"] if row.weights else []
    extra = " ".join([*weights, *(f"--set {each}" for each in row.settings)])
    return (
        f"- `tellapart train {data} --recipe {row.recipe}{f' {extra}' if extra else ''}` (seed {run.record.seed}, "
        f"{run.record.created[:10]}, {run.record.parameters:,} parameters, {run.record.precision}, "
        f"{_speed(run):,.0f} images/s)"
    )


def _speed(run: ta.Run) -> float:
    return float(sum(row.images_per_second for row in run.history) / len(run.history))


def _percent(values: dict[str, float]) -> str:
    return measured(Estimate(values["value"], values["low"], values["high"]))


def _reached(row: Row, run: ta.Run) -> dict[str, Any]:
    training, _, test = (sum(each.values()) for each in run.catalog.counts().values())
    return {
        "accuracy": run.metrics["test"]["accuracy"],
        "images": IMAGES[row.images],
        "training_images": training,
        "test_images": test,
        "weights": "random" if run.config.model.weights == "none" else "",
        "date": run.record.created[:10],
    }


def _figure(shown: list[tuple[Row, ta.Run]]) -> Drawing:
    """Small multiples: one chart per recipe, all with the same scale."""
    charts = []
    y = Axis(0.25, 1, [(tick / 4, percent(tick / 4, 0)) for tick in range(1, 5)])
    for row, run in shown:
        x = nice_axis(1, len(run.history), lambda value: f"{value:g}", "epoch", 5, whole=True)
        chart = Chart(row.recipe, x, y, width=260, height=220)
        for kind, key in (("training", "accuracy"), ("validation", "val_accuracy")):
            chart.line([(each.epoch, each.figure(key)) for each in run.history], kind)
        best = run.record.best_epoch
        value = run.history[best - 1].val_accuracy
        chart.dot(best, value, "validation", f"kept: {percent(value)}")
        charts.append(chart)
    legend = [("training", "training"), ("validation", "validation")]
    return chart_drawing("Recipes", grid(charts, "Accuracy of each recipe by epoch", columns=5, legend=legend))


if __name__ == "__main__":
    main()
