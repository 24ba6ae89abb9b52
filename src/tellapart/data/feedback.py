"""What people say of a server's answers -> images and rows in a folder, and back: a queue for a person to look at.

Written by `serve --feedback`, read by the studio. images/DIGEST.SUFFIX: an image as it was sent. feedback.jsonl: a row
for each thing said, on the disk before `add` returns. labels.csv: what the studio decides of them (data.decisions).
"""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from tellapart.data.cache import content_digest
from tellapart.data.image_formats import PREFIX, format_of
from tellapart.errors import ConfigError, TellapartError
from tellapart.files import from_json, replacing, to_json
from tellapart.words import size

ROWS, IMAGES, LABELS = "feedback.jsonl", "images", "labels.csv"
"""Names in the folder."""

Said = Literal["right", "other", "none"]
SAID: tuple[Said, ...] = get_args(Said)
_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


class FullError(TellapartError):
    """The folder holds as much as it may."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """What was said of the answer for one image. path: in the folder. width, height: of the upright image. said: that
    the answer is right, that it is another class, or none of the classes. label: the class that is said; empty for
    none. answer, verdict, probabilities: of the server, by the run and the network with this SHA-256. time: UTC."""

    path: str
    width: int
    height: int
    said: Said
    label: str
    answer: str
    verdict: str
    probabilities: dict[str, float]
    run: str
    fingerprint: str
    time: str

    @property
    def digest(self) -> str:
        """Of the image's bytes."""
        return Path(self.path).stem


class FeedbackFolder:
    """A folder that grows by what people say, within limits. Any thread may call `add`."""

    def __init__(self, folder: Path, images: int, size: int) -> None:
        """images, size: the most images, and the most bytes of images and rows together. The folder is made, readable
        by its user alone. Raises ConfigError for one that cannot be made or read, or that holds rows of something
        else."""
        self.folder = folder
        self._images, self._bytes = images, size
        self._lock = threading.Lock()
        self._kept: dict[str, int] = {}
        self._rows = 0
        try:
            if not folder.exists():
                folder.mkdir(mode=0o700, parents=True)
            (folder / IMAGES).mkdir(exist_ok=True)
            self._load()
        except OSError as error:
            raise ConfigError(f"{folder} cannot keep feedback: {error.strerror}. Name another folder.") from None

    def add(self, content: bytes, said: Feedback) -> Feedback:
        """Keep an image and what is said of it; returns the row with its path, once both are on the disk. The same
        image again is kept once, and the later row counts. Raises FullError, OSError.

        content: of an image that could be decoded. said: with any path.
        """
        found = format_of(content[:PREFIX])
        assert found is not None, "only what was decoded is kept"
        digest = content_digest(content)
        row = replace(said, path=f"{IMAGES}/{digest}.{found.suffixes[0]}")
        line = (to_json(asdict(row), ascii=True) + "\n").encode()
        with self._lock:
            if _size(self.folder / ROWS) != self._rows:
                self._load()  # another server writes here too
            new = digest not in self._kept or not (self.folder / row.path).is_file()
            self._require_room(new, len(line) + (len(content) if new else 0))
            if new:
                with replacing(self.folder / row.path) as neighbour:
                    neighbour.write_bytes(content)
            _append(self.folder / ROWS, line)
            self._kept[digest] = len(content)
            self._rows = _size(self.folder / ROWS)
        return row

    def _require_room(self, new: bool, more: int) -> None:
        if new and len(self._kept) >= self._images:
            raise FullError(f"no more than {self._images:,} images are kept")
        if self._rows + sum(self._kept.values()) + more > self._bytes:
            raise FullError(f"no more than {size(self._bytes)} are kept")

    def _load(self) -> None:
        rows = read_feedback(self.folder)
        self._kept = {row.digest: _size(self.folder / row.path) for row in rows}
        self._rows = _size(self.folder / ROWS)


def read_feedback(folder: Path) -> tuple[Feedback, ...]:
    """The last thing said of each image, in the order in which the images came; of images that are still there, so that
    removing a file takes it back. A row that a crash cut off is passed over. Raises ConfigError for a file of something
    else."""
    found: dict[str, Feedback] = {}
    for number, line in enumerate(_lines(folder / ROWS), 1):
        try:
            values = from_json(line)
        except (ValueError, RecursionError):
            continue
        try:
            row = _row(values)
        except (ValueError, TypeError, AttributeError):
            raise ConfigError(f"{folder / ROWS}, line {number}, is not feedback that tellapart wrote.") from None
        found[row.path] = row
    return tuple(row for row in found.values() if (folder / row.path).is_file())


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None


def _row(values: Any) -> Feedback:
    """Raises ValueError or TypeError for what is none. A path leads to an image of the folder, and nowhere else."""
    row = Feedback(**values)
    texts = (row.path, row.label, row.answer, row.verdict, row.run, row.fingerprint, row.time)
    shares = [*row.probabilities, *row.probabilities.values()]
    name = row.path.removeprefix(f"{IMAGES}/")
    if (
        not all(isinstance(text, str) for text in texts)
        or not all(isinstance(share, str | int | float) for share in shares)
        or not all(isinstance(side, int) and side > 0 for side in (row.width, row.height))
        or row.said not in SAID
        or row.path != f"{IMAGES}/{Path(name).name}"
        or not name.replace(".", "").isalnum()
    ):
        raise ValueError("no row of feedback")
    return row


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _append(path: Path, line: bytes) -> None:
    """After a row that was cut off, on a line of its own."""
    handle = os.open(path, _FLAGS, 0o600)
    try:
        if os.lseek(handle, 0, os.SEEK_END):
            os.lseek(handle, -1, os.SEEK_END)
            line = line if os.read(handle, 1) == b"\n" else b"\n" + line
        if os.write(handle, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fsync(handle)
    finally:
        os.close(handle)
