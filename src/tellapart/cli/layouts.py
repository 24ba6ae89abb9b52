"""`tellapart layouts`: how labelled pictures can lie on the disk."""

from __future__ import annotations

from tellapart.cli.console import show


def command() -> None:
    """Show the layouts of labelled pictures that are understood."""
    from tellapart.data.sources import layouts

    show(layouts())
