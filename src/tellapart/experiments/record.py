"""The JSON file that says what a folder of several runs is, and how far it came. Read by: ladder, tune."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.errors import RunError
from tellapart.files import from_json, read_text, to_json, write_text
from tellapart.runs.run import require_free

FORMAT = 1


@dataclass(frozen=True)
class Kind:
    """noun: what such a folder is called. command: of tellapart; its name is the file's."""

    noun: str
    command: str

    def require_free(self, folder: Path) -> None:
        """Raises RunError where something is in the place already: to be asked before any picture is read."""
        require_free(folder, self.noun, self.command)

    def create(self, folder: Path, write: Callable[[], None]) -> None:
        """Write the first record. Raises RunError where something is in the place already."""
        self.require_free(folder)
        try:
            write()
        except OSError as error:
            raise RunError(f"Cannot write into {folder}: {error.strerror}. Give another --out.") from None

    def write(self, folder: Path, record: dict[str, Any]) -> None:
        text = to_json({self._mark: FORMAT, **record}, indent=1)
        write_text(self._file(folder), text + "\n")

    @contextmanager
    def reading(self, folder: Path) -> Iterator[dict[str, Any]]:
        """The record; what goes wrong with it inside the block is told as damage. Raises RunError."""
        try:
            record = from_json(read_text(self._file(folder)))
            if record.pop(self._mark) != FORMAT:
                raise RunError(f"{folder} was written by another version of tellapart. Begin a new {self.noun}.")
            yield record
        except FileNotFoundError:
            raise RunError(
                f"{folder} is no {self.noun}: it has no {self._file(folder).name}. "
                f"A {self.noun} is a folder that `tellapart {self.command}` wrote."
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{self._file(folder)} is damaged or not from tellapart ({error!r}).") from None

    @property
    def _mark(self) -> str:
        return f"tellapart_{self.command}"

    def _file(self, folder: Path) -> Path:
        return folder / f"{self.command}.json"
