"""The plug-ins that a run needs: as recorded in run.json, and whether they are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tellapart.config import Config
from tellapart.errors import MissingPluginError
from tellapart.tables import Plugin, installed, origin

if TYPE_CHECKING:
    from tellapart.runs.run import RunFolder


def plugins_of(config: Config) -> tuple[Plugin, ...]:
    """The plug-ins that provide the backbone and the trackers of a configuration."""
    used = [origin("backbones", config.model.name), *(origin("trackers", name) for name in config.train.track)]
    return tuple(plugin for plugin in used if plugin is not None)


def require_plugins(run: RunFolder) -> list[str]:
    """A warning for each plug-in that differs, in name or version, from the one that the run was started with.

    Nothing is installed, and no module is imported because run.json names it. Raises MissingPluginError, which names
    the package recorded in the run, if a plug-in is not installed.
    """
    others = []
    for plugin in run.record.plugins:
        found = [each for each in installed(plugin.kind) if each.name == plugin.name]
        here = found[0] if found else origin(plugin.kind, plugin.name)
        if here is not None:
            if str(here) != str(plugin):
                others.append(f"{plugin.name!r} comes from {here} here, but came from {plugin} when {run.path} started")
            continue
        brought = f"the plug-in {plugin}" if plugin.package else f"the program {plugin.place}"
        raise MissingPluginError(
            f"{run.path} needs {plugin.name!r} ({plugin.kind}) from {brought}, which is not available here. "
            + ("Install it, if you trust its source." if plugin.package else "Resume from that program.")
        )
    return others
