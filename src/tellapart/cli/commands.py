"""The table of commands by name, in the panels of `tellapart --help`. Each is in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tellapart.errors import ConfigError
from tellapart.tables import Table

PANELS = {
    "Get started": ("demo", "layouts", "check", "train"),
    "Use and understand": ("predict", "evaluate", "explain", "report", "runs"),
    "Improve": ("studio", "compare", "ladder", "tune"),
    "Ship": ("export", "optimize", "serve", "features", "push", "pull"),
    "Models, recipes and data": ("models", "recipes", "fetch"),
}
PLUGINS = "Plug-ins"
"""The panel of commands that plug-ins bring."""


@dataclass(frozen=True)
class Command:
    """function: its parameters are the command's, as Typer reads them; its docstring is the help. None: the function
    `command` in the file of this folder with the command's name. codes: exit codes specific to the command, in words.
    """

    name: str
    panel: str = PLUGINS
    function: Callable[..., Any] | None = None
    codes: Mapping[int, str] = field(default_factory=dict)


COMMANDS: Table[Command] = Table(
    "commands",
    "command",
    Command,
    ConfigError,
    [Command(name, panel) for panel, names in PANELS.items() for name in names],
)
