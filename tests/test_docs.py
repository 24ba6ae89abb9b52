"""What the pages say exists."""

from __future__ import annotations

import importlib.util
import inspect
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import typer

import tellapart
from tellapart import plugins
from tellapart.cli.commands import COMMANDS
from tellapart.cli.main import app
from tellapart.config import Config
from tellapart.recipes import recipe_names

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = ROOT / "examples" / "plugin" / "pyproject.toml"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """tools/reference.py, which makes the pages of the reference."""
    spec = importlib.util.spec_from_file_location("reference", ROOT / "tools" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path, reference: ModuleType) -> None:
    made = [ROOT / "docs" / name for name in reference.PAGES]
    links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
    missing = [
        link
        for link in links
        if "://" not in link and not (page.parent / link).exists() and (page.parent / link).resolve() not in made
    ]
    assert not missing


def test_every_page_is_found_from_the_first() -> None:
    first = ROOT / "docs" / "index.md"
    linked = {(first.parent / link).resolve() for link in re.findall(r"\]\(([^)#]+)\)", first.read_text("utf-8"))}
    assert not {page for page in PAGES if page not in (first, ROOT / "README.md")} - linked


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_exists(page: Path) -> None:
    named = set(re.findall(r"^\s*(?:- `)?(?:.*&& )?tellapart ([a-z]+)", page.read_text(encoding="utf-8"), re.MULTILINE))
    of_the_example = tomllib.loads(PLUGIN.read_text(encoding="utf-8"))["project"]["entry-points"]["tellapart.commands"]
    assert named <= {*COMMANDS, *(of_the_example if page.name == "plugins.md" else ())}


def test_the_readme_shows_the_commands_of_every_day() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for command in ("demo", "check", "train", "predict", "compare", "serve"):
        assert f"tellapart {command}" in text


def test_the_page_of_recipes_has_a_row_for_each() -> None:
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    missing = [name for name in recipe_names() if f"| {name} |" not in text]
    assert not missing


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_and_option_says_what_it_does_and_is_in_the_reference(name: str, reference: ModuleType) -> None:
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    _, _, rest = reference.commands_page().partition(f"## tellapart {name}\n")
    section = rest.partition("\n## ")[0]
    assert command.help
    assert " ".join(command.help.split("\n\n")[0].split()) in section
    for parameter in command.params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
        for option in parameter.opts if parameter.param_type_name == "option" else ():
            assert f"`{option}`" in section


@pytest.mark.parametrize("name", [name for name in tellapart.__all__ if name != "__version__"])
def test_every_public_name_has_an_example_and_each_part_of_it_a_docstring(name: str) -> None:
    public = getattr(tellapart, name)
    assert ">>> " in (inspect.getdoc(public) or "")
    if inspect.isclass(public):
        parts = {part: value for part, value in vars(public).items() if not part.startswith("_")}
        told = {
            part: value for part, value in parts.items() if callable(value) or isinstance(value, property | classmethod)
        }
        assert not [part for part, value in told.items() if not value.__doc__]


def test_every_public_name_has_a_docstring_and_is_in_the_reference(reference: ModuleType) -> None:
    page = reference.python_page()
    for name in set(tellapart.__all__) - {"__version__"}:
        found = getattr(tellapart, name)
        assert (found.__doc__ or "").strip(), f"{name} has no docstring"
        assert f".{name}\n" in page
    for name in plugins.__all__:
        assert (getattr(plugins, name).__doc__ or "").strip(), f"{name} has no docstring"
        assert f".{name}\n" in page


def test_every_setting_is_in_the_reference(reference: ModuleType) -> None:
    page = reference.settings_page()
    for section, field in Config.model_fields.items():
        for key in getattr(field.annotation, "model_fields", {}):
            assert f"`{section}.{key}`" in page


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "tellapart train" in (tmp_path / "site" / "reference" / "commands" / "index.html").read_text("utf-8")
    assert "make_config" in (tmp_path / "site" / "reference" / "python" / "index.html").read_text("utf-8")
