"""All exceptions. A message tells what was given, what was expected and what to do.

TellapartError            everything a user can fix; the command line prints it and exits with 2
├── SourceError           what was named as data cannot be read as labelled images
├── FetchError            a file or collection cannot be downloaded, or is not the expected one
├── ImageError            one image cannot be decoded; `.reason` is one of REASONS
├── ConfigError           a configuration, recipe or option is wrong
├── ModelError            an architecture is unknown, or cannot be built for this task and image
│   └── UntrustedCodeError  building a network would run code that the user has not trusted
├── RunError              a run folder is missing, foreign, unfinished or damaged
├── TrainingError         training cannot start or cannot continue (not-a-number, one class ...)
├── ExportError           an exported file does not predict what the trained network predicts
├── PluginError           a plug-in is broken, or has a name that is taken or invalid
└── MissingExtraError     an optional dependency is not installed; names the extra and the command
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType


class TellapartError(Exception):
    """Something a user can fix; the message tells how.

    >>> try:
    ...     ta.read("no-such-folder/")
    ... except ta.TellapartError as error:
    ...     print(type(error).__name__)
    SourceError
    """


class SourceError(TellapartError):
    """What was named as data cannot be read as labelled images."""


class FetchError(TellapartError):
    """A file or collection cannot be downloaded, or is not the expected one."""


class ImageError(TellapartError):
    """One image cannot be decoded."""

    REASONS = (
        "empty",
        "not an image",
        "truncated",
        "too many pixels",
        "too slow",
        "too much memory",
        "too many bytes",
        "too many scans",
        "too many segments",
        "unreadable",
    )

    PASSING = frozenset(reason for reason in REASONS if reason.startswith("too ") or reason == "unreadable")
    """Reasons that depend on a limit or on the machine, and may not apply the next time."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(f"{reason}: {detail}" if detail else reason)

    @staticmethod
    def reason_of(text: str) -> str:
        """The reason of an error that was stored as text.

        >>> ImageError.reason_of(str(ImageError("too slow", "20 s")))
        'too slow'
        """
        return text.partition(":")[0]


class ConfigError(TellapartError):
    """A configuration, recipe or option is wrong."""


class ModelError(TellapartError):
    """An architecture is unknown, or cannot be built for this task and image."""


class UntrustedCodeError(ModelError):
    """Building a network would run code that the user has not trusted."""


class RunError(TellapartError):
    """A run folder is missing, foreign, unfinished or damaged."""


class MissingPluginError(RunError):
    """A run needs a plug-in that is not installed."""


class TrainingError(TellapartError):
    """Training cannot start, or cannot continue."""


class ExportError(TellapartError):
    """An exported file does not predict what the trained network predicts."""


class NoNumberError(ExportError):
    """A network's output for an image is not a number: its training failed, or its file is damaged."""


class PluginError(TellapartError):
    """A plug-in is broken, or has a name that is taken or invalid."""


class MissingExtraError(TellapartError):
    """An optional dependency is not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs an optional extra. Install it with: pip install 'tellapart[{extra}]'")


def require_extra(what: str, extra: str, *modules: str) -> None:
    """Raises MissingExtraError if one of the modules is not installed; none is imported."""
    if any(importlib.util.find_spec(module) is None for module in modules):
        raise MissingExtraError(what, extra)


def some(names: Sequence[str], most: int) -> str:
    """The names, or only the first ones.

    >>> some(["a", "b", "c"], 3), some(["a", "b", "c"], 1)
    ('a, b, c', 'a and 2 more')
    """
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def unknown(kind: str, given: str, known: Iterable[str], aliases: Mapping[str, str] = MappingProxyType({})) -> str:
    """The message for an unknown name, with the most similar ones. aliases: other names for known ones.

    >>> unknown("model", "cnm", ["cnn", "dense"])
    "There is no model 'cnm'. Did you mean 'cnn'? Known: cnn, dense."
    >>> unknown("format", "tflite", ["litert", "onnx"], {"tflite": "litert"})
    "There is no format 'tflite'. Did you mean 'litert'? Known: litert, onnx."
    """
    names = sorted(known)
    meant = aliases.get(given.strip().lower())
    near = [meant] if meant else difflib.get_close_matches(given, names, n=2)
    hint = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
    return f"There is no {kind} {given!r}.{hint} Known: {', '.join(names)}."
