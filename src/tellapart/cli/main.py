"""The command line: one file a command; each parses, calls one function of the API, prints.

Answers go to standard output, progress to standard error. Exit codes: cli/exit_codes.py.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import re
import sys
from typing import Annotated

import typer

from tellapart import __version__
from tellapart.cli.exit_codes import FAULT, STOPPED, WRONG, exit_codes
from tellapart.errors import TellapartError
from tellapart.files import harmless
from tellapart.models import backend

PANELS = {
    "Begin": ("demo", "layouts", "check", "train"),
    "Use and understand": ("predict", "evaluate", "explain", "report", "runs"),
    "Improve": ("compare", "ladder", "tune"),
    "Ship": ("export", "serve"),
    "What there is": ("models", "recipes", "fetch"),
}
COMMANDS = tuple(name for names in PANELS.values() for name in names)

_ROOM = "Make room there, or name another place; a run goes on with: tellapart train --resume RUN"
_MEMORY = "Lower the size of the pictures, --batch-size or train.batch_size, or end what else takes memory."
_RIGHTS = "Name another place, or let yourself write there."
DISK = {
    errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EROFS: _RIGHTS, errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS,
    errno.ENOMEM: _MEMORY,
}  # fmt: skip
"""What a person can mend about a disk or memory, in whatever part it is met."""

_debug = False
"""Whether a fault shows its whole traceback."""

app = typer.Typer(
    name="tellapart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a folder of labelled pictures to a classifier you can trust and ship.",
    epilog="Begin with: tellapart demo. With pictures of your own: tellapart check photos/ and tellapart train photos/",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"tellapart {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[  # noqa: ARG001 - its callback answers
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="TELLAPART_DEBUG", help="Show the traceback of a fault of tellapart.")
    ] = False,
) -> None:
    """Options before the command."""
    global _debug
    _debug = debug


def _paragraphs(text: str) -> str:
    """A docstring whose lines are broken where the terminal ends, not where the file does.

    >>> _paragraphs("One.\\n\\n    Two,\\n    on.")
    'One.\\n\\nTwo, on.'
    """
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))


for _panel, _names in PANELS.items():
    for _name in _names:
        _command = importlib.import_module(f"tellapart.cli.{_name}").command
        app.command(name=_name, help=_paragraphs(_command.__doc__), epilog=exit_codes(_name), rich_help_panel=_panel)(
            _command
        )


def run() -> None:
    """Entry point: an error that a user can mend is one message and exit code 2, a fault of ours one and 70."""
    # Pictures are worked on side by side; OpenCV's own threads, which wait in a loop, would only take from that.
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    backend.process_is_ours = True
    try:
        app()
    except TellapartError as error:
        print(f"tellapart: {harmless(str(error))}", file=sys.stderr)
        sys.exit(WRONG)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer makes a silent exit of Ctrl-C.
        if isinstance(end, SystemExit) and end.code != STOPPED:
            raise
        print("tellapart: stopped by Ctrl-C", file=sys.stderr)
        sys.exit(STOPPED)
    except BrokenPipeError:
        # The reader of the answer went away, as `| head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError as error:
        print(harmless(f"tellapart: the memory ran out ({str(error) or 'MemoryError'}). {_MEMORY}"), file=sys.stderr)
        sys.exit(WRONG)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is never exit code 1
        if isinstance(error, OSError) and error.errno in DISK:
            where = f"{error.filename}: " if error.filename else ""
            print(harmless(f"tellapart: {where}{os.strerror(error.errno)}. {DISK[error.errno]}"), file=sys.stderr)
            sys.exit(WRONG)
        from tellapart.cli.faults import tell

        tell(error, whole=_debug)
        sys.exit(FAULT)
    finally:
        # Python looks through every object once more as it ends: a second, where TensorFlow is loaded.
        gc.freeze()
