"""What the pages say exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tellapart.cli.main import COMMANDS
from tellapart.recipes import recipe_names

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page: Path) -> None:
    named = set(re.findall(r"^\s*(?:- `)?(?:.*&& )?tellapart ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= set(COMMANDS)


def test_the_readme_shows_the_commands_of_every_day() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("demo", "check", "train", "evaluate", "predict"):
        assert f"tellapart {command}" in text


def test_the_page_of_recipes_has_a_row_for_each() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    missing = [name for name in recipe_names() if f"| {name} |" not in text]
    assert not missing
