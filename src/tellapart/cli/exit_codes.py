"""The exit codes of all commands: one table, shown by `--help` of each command and by the reference."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DONE, NEEDS_PERSON, WRONG, FAULT, STOPPED = 0, 1, 2, 70, 130
"""FAULT as sysexits.h has it, STOPPED as shells do."""

ALL = {
    DONE: "done",
    WRONG: "an error that the message explains",
    FAULT: "an internal error; the message says how to report it",
    STOPPED: "stopped by Ctrl-C",
}

OWN: dict[str, dict[int, str]] = {
    "check": {NEEDS_PERSON: "a finding needs a person's decision"},
    "train": {
        DONE: "the run is finished",
        NEEDS_PERSON: "with --strict: a finding needs a person's decision or the verdict is marked stop",
        STOPPED: "stopped by Ctrl-C; --resume continues",
    },
    "ladder": {STOPPED: "stopped by Ctrl-C; --resume continues"},
    "tune": {STOPPED: "stopped by Ctrl-C; --resume continues"},
    "predict": {NEEDS_PERSON: "an image could not be read or was left out"},
    "serve": {DONE: "stopped by Ctrl-C or SIGTERM, after finishing open requests"},
}
"""Codes with a meaning specific to one command."""


def exit_codes(command: str, own: Mapping[int, str] = MappingProxyType({})) -> str:
    """The last sentence of a command's help. own: codes specific to a plug-in's command.

    >>> exit_codes("check")
    "Exit codes: 0 done; 1 a finding needs a person's decision; 2 an error that the message explains; 70 an internal
    error; the message says how to report it; 130 stopped by Ctrl-C."
    """
    codes = ALL | OWN.get(command, {}) | dict(own)
    if command == "serve":
        del codes[STOPPED]
    return f"Exit codes: {'; '.join(f'{code} {codes[code]}' for code in sorted(codes))}."
