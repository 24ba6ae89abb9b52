"""`tellapart layouts`: the supported layouts of labelled images on disk."""

from __future__ import annotations

from tellapart.cli.console import show


def command() -> None:
    """Show the supported layouts of labelled images."""
    from tellapart.data.sources import layouts

    show(layouts(about=True))
    show("Each can also be at an address: https://, s3://, gs://, az://, and hf:// of the Hugging Face hub.")
