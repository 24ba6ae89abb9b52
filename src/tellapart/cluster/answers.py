"""One part of the plan -> a parquet file of answers: what runs on each machine of a cluster."""

from __future__ import annotations

import math
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from lzma import LZMAError
from pathlib import Path
from typing import Any

from tellapart.cluster.inputs import Item
from tellapart.cluster.plan import Plan, answers_file
from tellapart.cluster.storage import Storage, file_system, local_copy, reason
from tellapart.config import DataConfig
from tellapart.data.address import Address, has_scheme, is_address
from tellapart.data.sources.listing import ignored, kind_of
from tellapart.data.sources.members import member_there
from tellapart.errors import ConfigError, ImageError, SourceError
from tellapart.files import printable
from tellapart.inference.inputs import Held
from tellapart.inference.prediction import Prediction
from tellapart.inference.predictor import Predictor
from tellapart.models.runtime import Device

MODEL = "_model.onnx"
ERRORS = b"tellapart.errors"
"""In the metadata of a parquet file: how many of its rows are errors."""
_ROWS = 1000  # held before they are written
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError, NotImplementedError, ValueError)


@dataclass(frozen=True)
class Work:
    """out: where plan, network and answers are. model: the network's SHA-256. threads: processor cores of a predictor.
    batch_size: None for what suits the device."""

    out: Storage
    model: str
    threads: int
    device: Device = "auto"
    batch_size: int | None = None
    bounds: DataConfig | None = None


class PartPredictor:
    """A network, ready to predict parts: Ray Data keeps one in each of its actors."""

    def __init__(self, work: Work) -> None:
        self._work = work
        self._plan = Plan(work.out, size=1)
        file = local_copy(work.out, MODEL, work.model)
        self._predictor = Predictor(file, threads=work.threads, device=work.device, bounds=work.bounds)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[int]]:
        """Part numbers -> how many rows and errors each has, once its file is written."""
        numbers = [int(number) for number in batch["part"]]
        counts = [self._predict(number) for number in numbers]
        return {"part": numbers, "rows": [rows for rows, _ in counts], "errors": [errors for _, errors in counts]}

    def _predict(self, number: int) -> tuple[int, int]:
        bounds = self._predictor.bounds
        images = (found for item in self._plan.read(number) for found in images_of(item, bounds.max_bytes))
        predictions = self._predictor.predict_named(images, batch_size=self._work.batch_size)
        with tempfile.TemporaryDirectory(prefix="tellapart-") as folder:
            file = Path(folder, "answers.parquet")
            counts = write(file, predictions, self._predictor.task.classes)
            self._work.out.put(file, answers_file(number))
        return counts


def columns(classes: tuple[str, ...]) -> list[str]:
    """As `predict --format csv` has them. A class called as another column is written `class NAME`.

    >>> columns(("cat", "error"))
    ['path', 'label', 'probability', 'verdict', 'distance', 'cat', 'class error', 'warning', 'error']
    """
    before, after = ["path", "label", "probability", "verdict", "distance"], ["warning", "error"]
    return [*before, *(f"class {name}" if name in {*before, *after} else name for name in classes), *after]


def write(file: Path, predictions: Iterable[Prediction], classes: tuple[str, ...]) -> tuple[int, int]:
    """Returns the number of rows, and of errors among them."""
    import pyarrow
    from pyarrow import parquet

    names = columns(classes)
    numbers = {"probability", "distance", *names[5:-2]}
    schema = pyarrow.schema([(name, pyarrow.float64() if name in numbers else pyarrow.string()) for name in names])
    coming = iter(predictions)
    rows = errors = 0
    with parquet.ParquetWriter(file, schema) as writer:
        while block := list(islice(coming, _ROWS)):
            cells = list(map(list, zip(*(_row(p, classes) for p in block), strict=True)))
            writer.write_table(pyarrow.table(dict(zip(names, cells, strict=True)), schema=schema))
            rows += len(block)
            errors += sum(bool(p.error) for p in block)
        writer.add_key_value_metadata({ERRORS: str(errors).encode()})
    return rows, errors


def counts_of(out: Storage, part: int) -> tuple[int, int]:
    """Rows and errors of a part that is done."""
    from pyarrow import ArrowException, parquet

    name = answers_file(part)
    try:
        with out.open(name) as opened:
            found = parquet.read_metadata(opened)
        return found.num_rows, int(dict(found.metadata or {})[ERRORS])
    except (ArrowException, LookupError, ValueError, TypeError):
        raise ConfigError(f"{name} in {out.address} is not complete, or not of tellapart. Remove it.") from None


def _row(p: Prediction, classes: tuple[str, ...]) -> list[Any]:
    each = (p.probabilities.get(name) for name in classes)
    said = [printable(p.path), printable(p.label), _number(p.probability), str(p.verdict), _number(p.distance)]
    return [*said, *each, printable(p.warning), printable(p.error)]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


@dataclass(frozen=True)
class Stored(Address):
    """An image in storage, read when its turn comes."""

    def read(self, max_bytes: int = 0, seconds: float = 0) -> bytes:  # noqa: ARG002 - storage has its own limit
        """One byte more than allowed tells that there are too many. Raises ImageError for one that is not there, and
        SourceError if the storage fails, which is not the image's fault."""
        files, path = file_system(self.url)
        try:
            content: bytes = files.cat_file(path, start=0, end=max_bytes + 1)
        except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
            raise ImageError("unreadable", reason(error)) from None
        except Exception as error:  # noqa: BLE001 - those of storage libraries share no class
            raise SourceError(f"{self.url} cannot be read: {reason(error)}.") from None
        return content


def images_of(item: Item, max_bytes: int) -> Iterator[tuple[str, Held]]:
    """(name, image) of each image of an item. An archive or table that breaks off gives an error after its images."""
    if item.kind == "error":
        yield item.name, ImageError(item.place)
    elif item.kind == "file":
        if is_address(item.place):
            yield item.name, Address(item.place)
        elif has_scheme(item.place):
            yield item.name, Stored(item.place)
        else:
            yield item.name, member_there(Path(), item.place) or Path(item.place)
    else:
        try:
            yield from (_rows if item.kind == "rows" else _members)(item, max_bytes)
        except SourceError:
            raise
        except (OSError, *_DAMAGED) as error:
            yield item.name, ImageError("unreadable", reason(error))


def _members(item: Item, max_bytes: int) -> Iterator[tuple[str, Held]]:
    """A tar is read from its beginning to its end, as it comes; its links and devices are skipped."""
    files, path = file_system(item.place)
    with files.open(path, "rb") as opened:
        if item.place.lower().endswith(".zip"):
            with zipfile.ZipFile(opened) as archive:
                for entry in archive.infolist():
                    if _wanted(entry.filename):
                        with archive.open(entry) as file:
                            yield f"{item.name}/{entry.filename}", file.read(max_bytes + 1)
            return
        with tarfile.open(fileobj=opened, mode="r|*") as shard:
            for member in shard:
                content = shard.extractfile(member) if member.isfile() and _wanted(member.name) else None
                if content is not None:
                    yield f"{item.name}/{member.name}", content.read(max_bytes + 1)
                shard.members = []  # type: ignore[attr-defined]  # tarfile keeps every member that it has seen


def _wanted(name: str) -> bool:
    return kind_of(name) == "image" and not any(map(ignored, name.split("/")))


def _rows(item: Item, max_bytes: int) -> Iterator[tuple[str, Held]]:
    from pyarrow import ArrowException, parquet

    files, path = file_system(item.place)
    try:
        with files.open(path, "rb") as opened:
            table = parquet.ParquetFile(opened)
            number = sum(table.metadata.row_group(group).num_rows for group in range(item.first))
            groups = list(range(item.first, item.last + 1))
            for batch in table.iter_batches(batch_size=64, row_groups=groups, columns=[item.column]):
                for cell in batch.column(0).to_pylist():
                    content = cell.get("bytes") if isinstance(cell, dict) else cell
                    number += 1
                    shown = f"{item.name.rpartition('#')[0]}#{number}"
                    if isinstance(content, bytes):
                        yield shown, content[: max_bytes + 1]
                    else:
                        yield shown, ImageError("empty", "the row holds no bytes")
    except ArrowException as error:
        raise ValueError(str(error)) from None
