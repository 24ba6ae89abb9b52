"""What a plug-in imports: the row classes, and a decorator for each table.

A decorator makes a row from a function and adds it to its table, for the running program; it raises PluginError if the
name is taken or invalid. The function's name then refers to the row, so that an entry point of the group
`tellapart.KIND` can name it (docs/how-to/plugins.md). Modules are only imported when used.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tellapart.cli.commands import Command
    from tellapart.config import DataConfig
    from tellapart.data.catalog import ImageRecord
    from tellapart.data.checks import Check
    from tellapart.data.findings import Finding
    from tellapart.data.sources.listing import Listing
    from tellapart.data.sources.reader import Reader
    from tellapart.data.sources.source import LabelledPath, Source
    from tellapart.inference.export_formats import ExportFormat, Shipment
    from tellapart.models.registry import Architecture
    from tellapart.models.scratch import Options
    from tellapart.training.tracker_backends import Tracker, TrackerKind

_HOMES = {
    "Architecture": "tellapart.models.registry",
    "Check": "tellapart.data.checks",
    "Command": "tellapart.cli.commands",
    "DataConfig": "tellapart.config",
    "Finding": "tellapart.data.findings",
    "ExportFormat": "tellapart.inference.export_formats",
    "Listing": "tellapart.data.sources.listing",
    "Options": "tellapart.models.scratch",
    "ImageRecord": "tellapart.data.catalog",
    "Reader": "tellapart.data.sources.reader",
    "LabelledPath": "tellapart.data.sources.source",
    "Shipment": "tellapart.inference.export_formats",
    "Source": "tellapart.data.sources.source",
    "Tracker": "tellapart.training.tracker_backends",
    "TrackerKind": "tellapart.training.tracker_backends",
}

__all__ = [
    "Architecture",
    "Check",
    "Command",
    "DataConfig",
    "ExportFormat",
    "Finding",
    "ImageRecord",
    "LabelledPath",
    "Listing",
    "Options",
    "Reader",
    "Shipment",
    "Source",
    "Tracker",
    "TrackerKind",
    "backbone",
    "check",
    "command",
    "export",
    "folder_source",
    "source",
    "tracker",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'tellapart.plugins' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def backbone(
    name: str, *, summary: str, side: int, options: type[Options] | None = None
) -> Callable[[Callable[[Any, Any], Any]], Architecture]:
    """A network trained from scratch: images and options -> features, before the head.

    The function takes the Keras tensor of images, (batch, height, width, channels), scaled to 0..1, and an instance of
    `options`, whose fields are settings (`--set model.FIELD=VALUE`). It returns features, (batch, n), or a map, (batch,
    height, width, n), whose averages are the features. side: of the images in pixels, unless a size is given. Its
    layers must be in models.keras_file.LAYERS, which can be exported to ONNX.

    >>> @backbone("cnn", summary="all pixels, as they are", side=32)
    ... def flat(images, options):
    ...     from keras import layers
    ...     return layers.Flatten(name="flatten")(images)
    Traceback (most recent call last):
    tellapart.errors.PluginError: The model 'cnn' cannot be added: the name is taken.
    """

    from tellapart.models.features import TOP, FeatureSet, Pool
    from tellapart.models.registry import ARCHITECTURES, Architecture
    from tellapart.models.scratch import Options

    def add(body: Callable[[Any, Any], Any]) -> Architecture:
        def maps(images: Any, options: Any) -> dict[str, Any]:
            return {TOP: body(images, options)}

        row = Architecture(name, summary, side, options or Options, maps, lambda _: FeatureSet((Pool(TOP),)))
        return ARCHITECTURES.add(row, body.__module__)

    return add


def source(
    name: str, *, example: str, suffixes: tuple[str, ...]
) -> Callable[[Callable[[Path, DataConfig], Source | str]], Reader]:
    """A file format for labelled images: a path -> a Source, or why it is none, in words.

    suffixes: of such files, in lower case with the dot; a file with another suffix is read as `NAME:FILE`.
    """

    from tellapart.data.sources import SOURCES
    from tellapart.data.sources.reader import Reader

    def add(read: Callable[[Path, DataConfig], Source | str]) -> Reader:
        return SOURCES.add(Reader(name, example, None, read, suffixes), read.__module__)

    return add


def folder_source(name: str, *, example: str) -> Callable[[Callable[[Listing, DataConfig], Source | str]], Reader]:
    """A layout of a folder: its listing -> a Source, or why it has another layout, in words. It is tried after the
    built-in ones, or alone with `NAME:FOLDER`."""

    from tellapart.data.sources import SOURCES
    from tellapart.data.sources.reader import Reader

    def add(read: Callable[[Listing, DataConfig], Source | str]) -> Reader:
        return SOURCES.add(Reader(name, example, read), read.__module__)

    return add


def check(name: str) -> Callable[[Callable[[Sequence[ImageRecord]], Iterable[Finding]]], Check]:
    """A check of images: those of a catalog, with label, split, size and error -> findings. It runs whenever images are
    read, after the built-in ones."""

    from tellapart.data.checks import CHECKS, Check

    def add(find: Callable[[Sequence[ImageRecord]], Iterable[Finding]]) -> Check:
        return CHECKS.add(Check(name, find), find.__module__)

    return add


def command(name: str, *, codes: Mapping[int, str] = MappingProxyType({})) -> Callable[[Callable[..., Any]], Command]:
    """A command, `tellapart NAME`: its parameters as Typer reads them, its docstring the help. codes: exit codes
    specific to the command, in words."""

    from tellapart.cli.commands import COMMANDS, Command

    def add(function: Callable[..., Any]) -> Command:
        return COMMANDS.add(Command(name, function=function, codes=codes), function.__module__)

    return add


def export(
    name: str,
    *,
    suffix: str,
    runtime: str,
    run: Callable[[Path], Callable[[Any], dict[str, Any]]],
    needs: tuple[str, str] | None = None,
) -> Callable[[Callable[[Shipment, Path], None]], ExportFormat]:
    """A format of `tellapart export`: the function writes the network of a Shipment to a path that does not exist yet.

    suffix: of the file, empty for a folder. run: opens the written file in its own `runtime`, as a function of uint8
    images; the result is compared with Keras, and the file is deleted if they differ. needs: the module of the runtime,
    and the extra of tellapart that installs it.
    """
    from tellapart.inference.export_formats import ExportFormat
    from tellapart.inference.exports import EXPORTS

    def add(write: Callable[[Shipment, Path], None]) -> ExportFormat:
        return EXPORTS.add(ExportFormat(name, suffix, runtime, write, run, needs=needs), write.__module__)

    return add


def tracker(name: str) -> Callable[[Callable[[], Tracker]], TrackerKind]:
    """A destination of `train --track NAME`: a class with the methods of Tracker, instantiated for each run."""
    from tellapart.training.tracker_backends import TrackerKind
    from tellapart.training.trackers import TRACKERS

    def add(make: Callable[[], Tracker]) -> TrackerKind:
        return TRACKERS.add(TrackerKind(name, make), make.__module__)

    return add
