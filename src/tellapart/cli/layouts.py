"""`tellapart layouts`: how labelled images can lie on the disk."""

from __future__ import annotations

from tellapart.cli.console import show


def command() -> None:
    """Show the layouts of labelled images that are understood."""
    from tellapart.data.sources import layouts

    show(layouts())
