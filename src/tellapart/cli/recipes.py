"""`tellapart recipes [NAME]`: the ready experiments."""

from __future__ import annotations

from typing import Annotated

import typer

from tellapart.cli import options
from tellapart.cli.console import show, show_json, table


def command(
    name: Annotated[
        str | None, typer.Argument(help="One recipe: its configuration as TOML.", show_default=False)
    ] = None,
    format: options.FormatOption = options.Format.table,
) -> None:
    """List the recipes, or print one as TOML, to start a configuration of one's own from."""
    from tellapart.recipes import load_recipe, recipe_names

    if name is not None:
        recipe = load_recipe(name)
        if format is options.Format.json:
            show_json(recipe.to_dict())
        else:
            print(recipe.to_toml(), end="")
        return
    recipes = {each: load_recipe(each) for each in recipe_names()}
    if format is options.Format.json:
        show_json(
            [{"name": each, "title": recipe.title, "published": recipe.published} for each, recipe in recipes.items()]
        )
        return
    rows = table("recipe", "what it is", "published outcome")
    for each, recipe in recipes.items():
        rows.add_row(each, recipe.title, recipe.published)
    show(rows)
