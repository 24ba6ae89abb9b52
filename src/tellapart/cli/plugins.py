"""`tellapart --version --plugins`: what installed packages add to the tables, and which plug-ins are broken."""

from __future__ import annotations

import importlib
from typing import Any

from tellapart.cli.console import show, table
from tellapart.errors import PluginError, unknown
from tellapart.tables import GROUP, Plugin, Table, installed

TABLES = {
    "backbones": "tellapart.models.registry:ARCHITECTURES",
    "sources": "tellapart.data.sources:SOURCES",
    "checks": "tellapart.data.checks:CHECKS",
    "exports": "tellapart.inference.exports:EXPORTS",
    "trackers": "tellapart.training.trackers:TRACKERS",
    "commands": "tellapart.cli.commands:COMMANDS",
}
"""Every table that a plug-in can extend, by kind, and where it is defined."""


def table_of(kind: str) -> Table[Any]:
    """The table of a kind in TABLES."""
    module, _, name = TABLES[kind].partition(":")
    found: Table[Any] = getattr(importlib.import_module(module), name)
    return found


def show_plugins() -> None:
    """A line for each plug-in, after trying to load it; and why a broken one cannot be loaded."""
    plugins = installed()
    if not plugins:
        show("No plug-ins are installed.")
        return
    rows = table("name", "kind", "package", "version", "state")
    reasons = []
    for plugin in plugins:
        reason = _broken(plugin)
        reasons += [reason] if reason else []
        rows.add_row(plugin.name, plugin.kind, plugin.package, plugin.version, "broken" if reason else "loaded")
    show(rows)
    for reason in reasons:
        show(reason)


def _broken(plugin: Plugin) -> str:
    if plugin.kind not in TABLES:
        reason = unknown("group of entry points", f"{GROUP}{plugin.kind}", [f"{GROUP}{kind}" for kind in TABLES])
        return f"{plugin.name!r} of the plug-in {plugin} is ignored. {reason}"
    try:
        table_of(plugin.kind).load(plugin)
    except PluginError as error:
        return str(error)
    return ""
