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
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tellapart import __version__
from tellapart.cli.commands import COMMANDS, Command
from tellapart.cli.exit_codes import FAULT, STOPPED, WRONG, exit_codes
from tellapart.errors import TellapartError
from tellapart.files import terminal_safe
from tellapart.models import backend
from tellapart.tables import Plugin, installed

_ROOM = "Free some disk space, or choose another location. To continue a run: tellapart train --resume RUN"
_MEMORY = "Reduce the image size, --batch-size or train.batch_size, or close other programs that use memory."
_RIGHTS = "Choose another location, or get write permission there."
DISK = {
    errno.ENOSPC: _ROOM, errno.EDQUOT: _ROOM, errno.EROFS: _RIGHTS, errno.EACCES: _RIGHTS, errno.EPERM: _RIGHTS,
    errno.ENOMEM: _MEMORY,
}  # fmt: skip
"""What a user can do about a disk or memory error, wherever it occurs."""

_debug = False
"""Whether an internal error shows its whole traceback."""


class _Commands(TyperGroup):
    """The built-in commands, in `commands`; those of plug-ins are listed by name, and loaded when called."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(dict.fromkeys((*super().list_commands(ctx), *(plugin.name for plugin in _plugins()))))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        there = super().get_command(ctx, cmd_name)
        named = None if there else next((plugin for plugin in _plugins() if plugin.name == cmd_name), None)
        return _unloaded(named) if named else there

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands:
            named = [plugin.name for plugin in _plugins()]
            if args[0] in named:
                self.add_command(_made(COMMANDS.find(args[0])), args[0])
            # A mistyped name is compared with these too.
            for name in named:
                self.commands.setdefault(name, self.get_command(ctx, name))
        return super().resolve_command(ctx, args)


def _plugins() -> list[Plugin]:
    names = set(COMMANDS.names())
    return [plugin for plugin in installed(COMMANDS.kind) if plugin.name in names]


def _unloaded(plugin: Plugin) -> Any:
    def command() -> None:
        """A placeholder in the list of commands."""

    return _made(Command(plugin.name, function=command), f"From the plug-in {plugin}.")


def _made(command: Command, help: str = "") -> Any:
    """A plug-in's command, made by Typer."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, context_settings=_CONTEXT)
    _add(alone, command, help)
    return typer.main.get_command(alone)


def _add(to: typer.Typer, command: Command, help: str = "") -> None:
    name = command.name
    function = command.function or importlib.import_module(f"tellapart.cli.{name}").command
    to.command(
        name=name,
        help=help or _paragraphs(function.__doc__ or ""),
        epilog=exit_codes(name, command.codes),
        rich_help_panel=command.panel,
    )(function)


_VERSION = "tellapart.version"
_CONTEXT = {"help_option_names": ["-h", "--help"]}


def _note_version(context: typer.Context, wanted: bool) -> None:
    context.meta[_VERSION] = wanted


def _show_versions(context: typer.Context, plugins: bool) -> None:
    """Called after the option above, which comes first if both are given."""
    if plugins or context.meta.get(_VERSION):
        print(f"tellapart {__version__}")
        if plugins:
            from tellapart.cli.plugins import show_plugins

            show_plugins()
        raise typer.Exit


def _common(
    version: Annotated[  # noqa: ARG001 - its callback answers, as that of the next
        bool, typer.Option("--version", callback=_note_version, is_eager=True, help="Show the version.")
    ] = False,
    plugins: Annotated[  # noqa: ARG001
        bool,
        typer.Option(
            "--plugins",
            callback=_show_versions,
            is_eager=True,
            help="Show the version and the installed plug-ins.",
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", envvar="TELLAPART_DEBUG", help="Show the full traceback of an internal error.")
    ] = False,
) -> None:
    """Options before the command."""
    global _debug
    _debug = debug


def _paragraphs(text: str) -> str:
    """A docstring whose lines wrap at the terminal's width, not as in the file.

    >>> _paragraphs("One.\\n\\n    Two,\\n    on.")
    'One.\\n\\nTwo, on.'
    """
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", text.strip()))


def app_of(names: Iterable[str]) -> typer.Typer:
    """The command line with these commands."""
    made = typer.Typer(
        name="tellapart",
        cls=_Commands,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings=_CONTEXT,
        help="From a folder of labelled images to a classifier you can trust and ship.",
        epilog="Start with: tellapart demo. With your own images: tellapart check photos/, then "
        "tellapart train photos/",
    )
    made.callback()(_common)
    for name in names:
        _add(made, COMMANDS[name])
    return made


def __getattr__(name: str) -> Any:
    """`app`: the command line with every command, for those who describe or test it."""
    if name != "app":
        raise AttributeError(f"module 'tellapart.cli.main' has no attribute {name!r}")
    globals()["app"] = app_of(COMMANDS)
    return globals()["app"]


def run() -> None:
    """Entry point: an error that a user can fix is one message and exit code 2; an internal error one message and
    70."""
    # Images are processed in parallel; OpenCV's own threads busy-wait and would only slow that down.
    os.environ.setdefault("OPENCV_FOR_THREADS_NUM", "1")
    # Looking for plug-ins of pydantic reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Imports make many objects that stay, and collecting them again and again takes time from a short command.
    gc.set_threshold(50_000, *gc.get_threshold()[1:])
    backend.process_is_ours = True
    try:
        # The files of the other commands are not even imported.
        app_of([sys.argv[1]] if sys.argv[1:2] and sys.argv[1] in COMMANDS else COMMANDS)()
    except TellapartError as error:
        print(f"tellapart: {terminal_safe(str(error))}", file=sys.stderr)
        sys.exit(WRONG)
    except (KeyboardInterrupt, SystemExit) as end:
        # Typer turns Ctrl-C into a silent exit.
        if isinstance(end, SystemExit) and end.code != STOPPED:
            raise
        print("tellapart: stopped by Ctrl-C", file=sys.stderr)
        sys.exit(STOPPED)
    except BrokenPipeError:
        # The reader of the output is gone, as with `| head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except MemoryError as error:
        print(terminal_safe(f"tellapart: out of memory ({str(error) or 'MemoryError'}). {_MEMORY}"), file=sys.stderr)
        sys.exit(WRONG)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is never exit code 1
        if isinstance(error, OSError) and error.errno in DISK:
            where = f"{error.filename}: " if error.filename else ""
            print(terminal_safe(f"tellapart: {where}{os.strerror(error.errno)}. {DISK[error.errno]}"), file=sys.stderr)
            sys.exit(WRONG)
        from tellapart.cli.crash_report import tell

        tell(error, whole=_debug)
        sys.exit(FAULT)
    finally:
        # At exit Python walks all objects once more: this takes a second if TensorFlow is loaded.
        gc.freeze()
