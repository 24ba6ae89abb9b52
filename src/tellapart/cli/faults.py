"""A fault of ours -> what a person reads of it, and a file that can be sent."""

from __future__ import annotations

import sys
import tempfile
import traceback
from pathlib import Path

from tellapart.files import harmless
from tellapart.tables import passed_through


def tell(error: Exception, *, whole: bool) -> None:
    """Say on standard error what happened, with the whole traceback, or with the file that holds it."""
    from tellapart.runs.versions import command_line, versions

    made = ", ".join(f"{name} {version}" for name, version in versions().items())
    text = "".join([f"{command_line()}\n{made}\n\n", *traceback.format_exception(error)])
    last = traceback.extract_tb(error.__traceback__)[-1:]
    place = "".join(f", {Path(frame.filename).name} line {frame.lineno}, in {frame.name}" for frame in last)
    plugin = passed_through(error)
    whose = f"a fault in the plug-in {plugin}" if plugin else "a fault of tellapart, not of yours"
    lines = [f"tellapart: {whose}: {type(error).__name__}: {error}{place}"]
    if whole:
        lines += [text.rstrip(), "To report it, send all of this."]
    else:
        lines.append(_kept(text))
    ours = "Open an issue of the repository; where a stranger's file brought it about, do as SECURITY.md says."
    lines.append("Send it to whoever wrote the plug-in." if plugin else ours)
    print(harmless("\n".join(lines)), file=sys.stderr)


def _kept(text: str) -> str:
    """Where the text lies now, in words."""
    try:
        # A name that nobody can foresee, and for this user's eyes alone: a traceback holds names of files.
        with tempfile.NamedTemporaryFile(
            "w", prefix="tellapart-fault-", suffix=".txt", delete=False, encoding="utf-8", errors="backslashreplace"
        ) as file:
            file.write(text)
    except OSError as error:
        return f"To report it, run the same again as tellapart --debug ... and send what it says ({error.strerror})."
    return f"To report it, send {file.name}: command, versions and traceback. tellapart --debug ... shows them here."
