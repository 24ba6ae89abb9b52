"""The command line and the settings -> pages of the reference; a hook of mkdocs, so the pages always match the code.

In: tellapart.cli.main.app, tellapart.config.Config, tellapart.__all__. Out: Markdown.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import typer
from pydantic import BaseModel

import tellapart
from tellapart import plugins
from tellapart.cli.main import app
from tellapart.config import Config
from tellapart.data.sources import SOURCES
from tellapart.tables import origin


def commands_page() -> str:
    """Every command with its arguments and options, as in `--help`."""
    group: Any = typer.main.get_command(app)
    parts = ["# Commands", "Answers go to standard output, progress to standard error."]
    for name, command in group.commands.items():
        arguments = [_placeholder(each) for each in command.params if each.param_type_name == "argument"]
        usage = " ".join(["tellapart", name, *arguments, "[OPTIONS]"])
        parts += [
            f"## tellapart {name}",
            _cell(command.help or "", "\n\n"),
            _cell(command.epilog or ""),
            f"```\n{usage}\n```",
        ]
        rows = [f"| {_names(each)} | {_cell(_said(each)[0])} | {_said(each)[1]} |" for each in command.params]
        if rows:
            parts.append("\n".join(["| | what it says | default |", "|---|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def settings_page() -> str:
    """Every setting of a config.toml, for `--set SECTION.KEY=VALUE`."""
    parts = [
        "# Settings",
        "In a run's `config.toml`, and for `--set section.key=value`. `None`: decided from the images or the model, "
        "and stored in the run. `tellapart models NAME` lists the options of one architecture.",
    ]
    for section, field in Config.model_fields.items():
        kind = field.annotation
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            continue
        rows = ["| setting | meaning | default |", "|---|---|---|"]
        for key, inner in kind.model_fields.items():
            default = inner.get_default(call_default_factory=True)
            rows.append(f"| `{section}.{key}` | {_cell(inner.description or '-')} | `{default!r}` |")
        parts += [f"## {section}", inspect.cleandoc(kind.__doc__ or ""), "\n".join(rows)]
    return "\n\n".join(parts) + "\n"


def layouts_page() -> str:
    """Every layout of labelled images, from the table that reads them."""
    parts = [
        "# Layouts",
        "What `tellapart layouts` shows: each layout is found by looking, in a folder, a zip, a tar, or at an address. "
        "They are tried in this order; `NAME:PLACE` reads a place with one of them. Packages may add others.",
    ]
    rows = ["| layout | for example | what is read |", "|---|---|---|"]
    rows += [
        f"| `{reader.name}` | `{_cell(reader.example)}` | {_cell(reader.about)} |"
        for reader in SOURCES.values()
        if origin(SOURCES.kind, reader.name) is None
    ]
    return "\n\n".join([*parts, "\n".join(rows)]) + "\n"


def python_page() -> str:
    """Every public name, its docstring taken from the code by mkdocstrings."""
    parts = ["# Python", "`import tellapart as ta`; these names are public, everything else may change."]
    parts += [f"::: {home}.{name}" for name, home in sorted(tellapart._HOMES.items(), key=lambda row: row[0].lower())]
    parts += ["# For plug-ins", "`from tellapart.plugins import ...`: decorators, and the classes of rows."]
    homes = {name: plugins._HOMES.get(name, "tellapart.plugins") for name in plugins.__all__}
    parts += [f"::: {home}.{name}" for name, home in homes.items() if name not in tellapart._HOMES]
    return "\n\n".join(parts) + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/layouts.md": layouts_page,
    "reference/python.md": python_page,
    "reference/settings.md": settings_page,
}


def on_files(files: Any, config: Any) -> Any:
    """Called by mkdocs."""
    from mkdocs.structure.files import File

    for path, make in PAGES.items():
        files.append(File.generated(config, path, content=make()))
    return files


def _placeholder(parameter: Any) -> str:
    name = str(parameter.name).upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_placeholder(parameter)}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _said(parameter: Any) -> tuple[str, str]:
    """(help, default); a default that depends on something is described in words."""
    text, told, value = parameter.help or "", getattr(parameter, "show_default", None), parameter.default
    if isinstance(told, str):
        return text, told
    return text, "" if value in (None, False, ()) or callable(value) else f"`{getattr(value, 'value', value)}`"


def _cell(text: str, line: str = " ") -> str:
    """Text for Markdown: one line in a table, `|` and `<` as they are."""
    paragraphs = [" ".join(each.split()) for each in re.split(r"\n\s*\n", text.strip())]
    return line.join(paragraphs).replace("|", "\\|").replace("<", "&lt;")
