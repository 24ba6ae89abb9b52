"""Runs of recipes -> docs/recipes.md: what each reached beside the published outcome.

    python tools/recipes_page.py RUNS_FOLDER > docs/recipes.md

Every figure is read from the runs; nothing is written by hand but the words in this file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import tellapart as ta
from tellapart.recipes import load_recipe, recipe_names

OPENING = """# Recipes and what they reached

Each recipe is a TOML file in `src/tellapart/recipes`; `tellapart recipes NAME` prints it. This page is written by
`python tools/recipes_page.py runs` from the runs of the commands below, and states nothing else.

**Read it with the number of pictures in mind.** The published outcomes come from far more pictures (8,000 to 20,030
of cats and dogs; here 600 to 640 train), were validated on the test set, and give no interval. Ours are of the best
epoch on a validation split; the test pictures chose nothing. With so few pictures a network trained from nothing
is not far above guessing on cats and dogs, whatever its shape: that is what the intervals say, and what a pretrained
base is for. Nothing here tells two of these recipes apart unless their intervals do.

Two published networks end in two sigmoid units or one softmax unit. Ours cannot be built so: two classes have one
sigmoid unit, more have softmax, and the loss follows.
"""
NEAREST = {
    "horses-humans": "its pictures are not to be had here: cats and dogs, the nearest two classes",
    "rock-paper-scissors": "its pictures are not to be had here: three breeds of pets, the nearest three classes",
    "cats-dogs-c": "the ImageNet weights of InceptionResNetV2 are not to be had here: **random weights**, which prove "
    "the path from picture to prediction and nothing else; `cats-dogs-inception` is the nearest with its own",
    "cats-dogs-inception": "its head is trained on the frozen base for ten epochs, then the top two blocks learn too",
    "cats-dogs-64": "its 75/25 split is kept within the training folder; the test folder stays the test split",
}
PRECISIONS = ("fashion-conv", "fashion-conv-float32")
NAMES = {"cats-dogs": "cats and dogs", "pets-three-breeds": "three breeds of pets", "fashion-mnist": "Fashion-MNIST"}


def percent(values: dict[str, float]) -> str:
    return f"{100 * values['value']:.1f} % ({100 * values['low']:.1f} to {100 * values['high']:.1f})"


def main() -> None:
    runs = {run.path.name: run for run in ta.list_runs(sys.argv[1])}
    print(OPENING)
    print("| recipe | pictures: train, validation, test | published | validation, best epoch | test (95 % interval) |")
    print("|---|---|---|---|---|")
    notes, commands = [], []
    for name in recipe_names():
        recipe, run = load_recipe(name), runs.get(name)
        if run is None or run.status != "done":
            print(f"| {name} | not run | {recipe.published or '-'} | - | - |")
            continue
        counts = [sum(row.values()) for row in run.catalog.counts().values()]
        data = run.catalog.root.name
        best = run.history[run.record["best_epoch"] - 1]
        print(
            f"| {name} | {NAMES.get(data, data)}: {', '.join(f'{count:,}' for count in counts)} "
            f"| {recipe.published or '-'} | {100 * best['val_accuracy']:.1f} % in epoch {best['epoch']} of "
            f"{len(run.history)} | {percent(run.metrics['test']['accuracy'])} |"
        )
        if name in NEAREST:
            notes.append(f"- `{name}`: {NEAREST[name]}.")
        extra = run.record["command"].partition("--recipe")[2].split()
        changed = " ".join(part for part in extra[1:] if part == "--set" or "=" in part)
        if run.config.model.weights != "auto":
            changed = f"--weights {Path(run.config.model.weights).name} {changed}".strip()
        seen = sum(row["pictures_per_second"] for row in run.history) / len(run.history)
        commands.append(
            f"- `tellapart train {data} --recipe {name}{' ' + changed if changed else ''}` (seed {run.record['seed']}, "
            f"{run.record['created'][:10]}, {run.record['parameters']:,} parameters, {run.record['precision']}, "
            f"{seen:,.0f} pictures/s)"
        )
    print("\n" + "\n".join(notes))
    both = [runs[name] for name in PRECISIONS if name in runs and runs[name].status == "done"]
    if len(both) == len(PRECISIONS):
        print("\n## Precision\n\n`fashion-conv`, once in each arithmetic (`--set train.precision=...`):\n")
        print("| arithmetic | test (95 % interval) | log loss | pictures/s |\n|---|---|---|---|")
        for run in both:
            found, seen = run.metrics["test"], [row["pictures_per_second"] for row in run.history]
            print(
                f"| {run.record['precision']} | {percent(found['accuracy'])} | {found['log_loss']['value']:.3f} "
                f"| {sum(seen) / len(seen):,.0f} |"
            )
    print("\n## The commands\n")
    print("The speed is of a machine that was busy with other work, and only says what to expect.\n")
    print("\n".join(commands))


if __name__ == "__main__":
    main()
