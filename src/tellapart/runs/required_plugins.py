"""The plug-ins that a run needs: as recorded in run.json, and whether they are installed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tellapart.config import Config
from tellapart.errors import MissingPluginError
from tellapart.tables import Plugin, installed, origin

if TYPE_CHECKING:
    from tellapart.runs.run import RunFolder


def plugins_of(config: Config) -> tuple[Plugin, ...]:
    """What brought the backbone and the trackers of a configuration, where they are not built in."""
    used = [origin("backbones", config.model.name), *(origin("trackers", name) for name in config.train.track)]
    return tuple(plugin for plugin in used if plugin is not None)


def require_plugins(run: RunFolder) -> list[str]:
    """In words, each plug-in that the run goes on with and that is another, or of another version, than it began with.

    What run.json says is told and nothing else: nothing is installed, and no module is imported by its name. Raises
    MissingPluginError, with the package that the run names, where a plug-in is not here.
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
