"""What a command ends with: one table, which `--help` of each command and the reference show."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DONE, NEEDS_PERSON, WRONG, FAULT, STOPPED = 0, 1, 2, 70, 130
"""FAULT as sysexits.h has it, STOPPED as shells do."""

ALL = {
    DONE: "done",
    WRONG: "the request cannot be done, and the message says why",
    FAULT: "a fault of tellapart, and the message says how to report it",
    STOPPED: "stopped by Ctrl-C",
}

OWN: dict[str, dict[int, str]] = {
    "check": {NEEDS_PERSON: "something needs a person"},
    "train": {
        DONE: "a run was made",
        NEEDS_PERSON: "with --strict, a run was made, and a finding needs a person or the verdict stops",
        STOPPED: "stopped by Ctrl-C; --resume goes on",
    },
    "ladder": {STOPPED: "stopped by Ctrl-C; --resume goes on"},
    "tune": {STOPPED: "stopped by Ctrl-C; --resume goes on"},
    "predict": {NEEDS_PERSON: "an image could not be read, or was left out"},
    "serve": {DONE: "stopped by Ctrl-C or SIGTERM, with what was begun finished"},
}
"""What is particular to a command."""


def exit_codes(command: str, own: Mapping[int, str] = MappingProxyType({})) -> str:
    """The sentence that ends the help of a command. own: what is particular to one of a plug-in.

    >>> exit_codes("check")
    'Exit codes: 0 done; 1 something needs a person; 2 the request cannot be done, and the message says why; 70 a fault
    of tellapart, and the message says how to report it; 130 stopped by Ctrl-C.'
    """
    codes = ALL | OWN.get(command, {}) | dict(own)
    if command == "serve":
        del codes[STOPPED]
    return f"Exit codes: {'; '.join(f'{code} {codes[code]}' for code in sorted(codes))}."
