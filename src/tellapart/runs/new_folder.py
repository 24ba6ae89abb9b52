"""The folder for a new run, ladder or search: empty, and reserved for this process."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from tellapart.errors import RunError
from tellapart.files import is_draft
from tellapart.runs.lock import LOCK


@contextmanager
def writing_into(folder: Path) -> Iterator[None]:
    """Raise a RunError if the folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise RunError(f"Cannot write into {folder}: {error.strerror}. Give another --out.") from None


def require_free(path: Path, noun: str = "run", command: str = "train") -> None:
    """Raise RunError if the place of a new run, or of another output of `tellapart COMMAND`, is taken. Leftovers of a
    process that was killed while creating it do not count."""
    if path.exists() and (not path.is_dir() or any(map(_counts, path.iterdir()))):
        raise RunError(
            f"{path} exists and is not empty. Give another --out, remove it, or, if it is an interrupted "
            f"{noun}, resume it: tellapart {command} --resume {shlex.quote(str(path))}"
        )


def _counts(found: Path) -> bool:
    return found.name != LOCK and not is_draft(found.name)


@contextmanager
def new_place(out: str | os.PathLike[str] | None, name: str) -> Iterator[Path]:
    """The folder for a new result: `out`, else an empty folder reserved for this process among runs/NAME-1, runs/NAME-2
    ...; removed again if nothing is created."""
    if out:
        yield Path(out)
        return
    place = _fresh_folder(Path("runs"), name)
    try:
        yield place
    finally:
        with suppress(OSError):
            place.rmdir()


def _fresh_folder(folder: Path, name: str) -> Path:
    with writing_into(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            with suppress(FileExistsError):
                (folder / f"{name}-{number}").mkdir()
                break
    return folder / f"{name}-{number}"
