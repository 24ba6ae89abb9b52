"""An internal error -> a short message, and a file to attach to a report."""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

from tellapart.files import terminal_safe
from tellapart.tables import passed_through


def tell(error: Exception, *, whole: bool) -> None:
    """Print to standard error what happened, with the whole traceback or the name of the file that holds it."""
    from tellapart.runs.versions import command_line, versions

    made = ", ".join(f"{name} {version}" for name, version in versions().items())
    text = "".join([f"{command_line()}\n{made}\n\n", *traceback.format_exception(error)])
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f", {Path(frame.filename).name} line {frame.lineno}, in {frame.name}" for frame in last)
    plugin = passed_through(error)
    whose = f"internal error in the plug-in {plugin}" if plugin else "internal error"
    lines = [f"tellapart: {whose}: {type(error).__name__}: {error}{place}"]
    if whole:
        lines += [text.rstrip(), "To report it, send all of this text."]
    else:
        lines.append(_kept(text))
    ours = "Open an issue in the repository; if a file from someone else caused the error, follow SECURITY.md instead."
    lines.append("Send it to the author of the plug-in." if plugin else ours)
    print(terminal_safe("\n".join(lines)), file=sys.stderr)


def _kept(text: str) -> str:
    """Where the text was saved, in words."""
    try:
        # An unpredictable name, readable by this user alone: a traceback holds names of files.
        with tempfile.NamedTemporaryFile(
            "w", prefix="tellapart-fault-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
    except OSError as error:
        return f"To report it, run the command again as tellapart --debug ... and send its output ({error.strerror})."
    return f"To report it, send {file.name}: command, versions and traceback. tellapart --debug ... prints them here."
