"""`tellapart recipes [NAME]`: list the recipes, or print one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from tellapart.cli import options
from tellapart.cli.console import show, show_json, table
from tellapart.words import measured


def command(
    name: Annotated[
        str | None, typer.Argument(help="A recipe, to print its configuration as TOML.", show_default=False)
    ] = None,
    format: options.FormatOption = options.OutputFormat.table,
) -> None:
    """List the recipes, or print one as TOML, as a start for your own configuration."""
    from tellapart.recipes import load_recipe, reached, recipe_names

    if name is not None:
        recipe = load_recipe(name)
        if format is options.OutputFormat.json:
            show_json(recipe.to_dict())
        else:
            print(recipe.to_toml(), end="")
        return
    recipes = {each: load_recipe(each) for each in recipe_names()}
    outcomes = reached()
    if format is options.OutputFormat.json:
        show_json(
            [
                {"name": each, "title": recipe.title, "published": recipe.published, "reached": outcomes.get(each)}
                for each, recipe in recipes.items()
            ]
        )
        return
    rows = table("recipe", "what it is", "published outcome", "reached here: test accuracy (95 % interval)")
    for each, recipe in recipes.items():
        rows.add_row(each, recipe.title, recipe.published or "-", _said(outcomes.get(each)))
    show(rows)


def _said(outcome: dict[str, Any] | None) -> str:
    """The outcome of a recipe, as a table shows it."""
    from tellapart.evaluation.intervals import Estimate

    if outcome is None:
        return "not run"
    found = Estimate.from_dict(outcome["accuracy"])
    weights = f"; {outcome['weights']} weights" if outcome["weights"] else ""
    return f"{measured(found)}, {outcome['training_images']:,} of {outcome['images']}{weights}"
