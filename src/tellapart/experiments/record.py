"""The folder of a study of several runs, and the JSON file with its state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.errors import RunError
from tellapart.files import from_json, to_json
from tellapart.runs.inside import Inside
from tellapart.runs.lock import one_writer
from tellapart.runs.place import require_free, writing_into
from tellapart.runs.run import RunFolder

FORMAT = 1


@dataclass
class FolderOfRuns(Inside):
    """On disk. record: what its JSON file holds."""

    path: Path
    record: dict[str, Any]

    def run(self, name: str) -> RunFolder:
        return RunFolder(self.place(name))


@dataclass(frozen=True)
class Kind:
    """noun: what such a folder is called. command: of tellapart; its name is the file's."""

    noun: str
    command: str

    def require_free(self, folder: Path) -> None:
        """Raises RunError where something is in the place already: to be asked before any image is read."""
        require_free(folder, self.noun, self.command)

    def create(self, folder: FolderOfRuns, write: Callable[[], None]) -> None:
        """Write the first record. Raises RunError where something is in the place already."""
        self.require_free(folder.path)
        with writing_into(folder.path):
            folder.path.mkdir(parents=True, exist_ok=True)
            with one_writer(folder):
                self.require_free(folder.path)  # of two that begin at once one comes first
                write()

    def write(self, folder: FolderOfRuns, record: dict[str, Any]) -> None:
        folder.write_text(self._file(folder), to_json({self._mark: FORMAT, **record}, indent=1) + "\n")

    @contextmanager
    def reading(self, path: Path) -> Iterator[dict[str, Any]]:
        """The record of the folder at this path; what goes wrong with it inside the block is told as damage. Raises
        RunError."""
        folder = FolderOfRuns(path, {})
        try:
            record = from_json(folder.read_text(self._file(folder)))
            if record.pop(self._mark) != FORMAT:
                raise RunError(f"{path} was written by another version of tellapart. Begin a new {self.noun}.")
            yield record
        except FileNotFoundError:
            raise RunError(
                f"{path} is no {self.noun}: it has no {self._file(folder).name}. "
                f"A {self.noun} is a folder that `tellapart {self.command}` wrote."
            ) from None
        except (NotADirectoryError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise RunError(f"{self._file(folder)} is damaged or not from tellapart ({error!r}).") from None

    @property
    def _mark(self) -> str:
        return f"tellapart_{self.command}"

    def _file(self, folder: FolderOfRuns) -> Path:
        return folder.place(f"{self.command}.json")
