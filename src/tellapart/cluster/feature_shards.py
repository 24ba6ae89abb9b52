"""Features in shared storage: a folder for each backbone and ImageSpec, in it shards, an Arrow file each.

A shard has the keys of its images, the same as the cache of one machine has, and a column for each part of their
features, so that a head reads only the parts that it takes. Its name follows from its keys: whoever computes it twice
writes the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xxhash
from numpy.typing import NDArray

from tellapart.cluster.storage import Storage, reason
from tellapart.errors import SourceError
from tellapart.parallel import in_order
from tellapart.training.sharded import Shard, Sharded

SUFFIX = ".arrow"
_KEY = "key"
_SUM = b"tellapart.checksum"


def shard_name(keys: Sequence[str]) -> str:
    """
    >>> shard_name(["a", "b"]) == shard_name(["a", "b"]) != shard_name(["b", "a"])
    True
    """
    return hashlib.blake2b("\n".join(keys).encode(), digest_size=16).hexdigest() + SUFFIX


def write_shard(
    store: Storage, folder: str, keys: Sequence[str], features: NDArray[np.float16], widths: Sequence[int]
) -> str:
    """features: (keys, sum of widths). Returns the name of the file, which appears whole."""
    import pyarrow

    columns: dict[str, Any] = {_KEY: pyarrow.array(list(keys), pyarrow.string())}
    fields = [pyarrow.field(_KEY, pyarrow.string())]
    for number, part in enumerate(np.split(features, np.cumsum(widths)[:-1], axis=1)):
        flat = np.ascontiguousarray(part).reshape(-1)
        columns[str(number)] = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(flat), part.shape[1])
        fields.append(pyarrow.field(str(number), columns[str(number)].type, metadata={_SUM: _checksum(flat)}))
    schema = pyarrow.schema(fields)
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pyarrow.record_batch(list(columns.values()), schema=schema))
    name = shard_name(keys)
    store.write(f"{folder}/{name}", sink.getvalue().to_pybytes())
    return name


def keys_in(store: Storage, folder: str, name: str) -> list[str]:
    """The keys of a shard; none of one that is damaged, which is then computed anew."""
    from pyarrow import ArrowException

    try:
        found: list[str] = _read(store, f"{folder}/{name}", [0]).column(0).to_pylist()
    except (ArrowException, OSError, ValueError, LookupError):
        return []
    return found


class Index:
    """Which shards of a folder have which keys."""

    def __init__(self, store: Storage, folder: str) -> None:
        self.store, self.folder = store, folder
        self._names: list[str] = []
        self._places: dict[str, tuple[int, int]] = {}
        names = [name for name in store.names(folder) if name.endswith(SUFFIX)]
        for name, keys in zip(names, in_order(lambda name: keys_in(store, folder, name), names), strict=True):
            self.add(name, keys)

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def add(self, name: str, keys: Iterable[str]) -> None:
        """A shard that was written since."""
        number = len(self._names)
        self._names.append(name)
        for row, key in enumerate(keys):
            self._places.setdefault(key, (number, row))

    def sharded(self, keys: Sequence[str], widths: tuple[int, ...]) -> Sharded:
        """The features of these images, in this order; all of them are there."""
        places = np.array([self._places[key] for key in keys], np.intp).reshape(-1, 2)
        order = np.argsort(places[:, 0], kind="stable")
        numbers, starts = np.unique(places[order, 0], return_index=True)
        groups = np.split(order, starts[1:])
        made: list[Shard] = [
            _Shard(self.store, f"{self.folder}/{self._names[number]}", rows, places[rows, 1], widths)
            for number, rows in zip(numbers.tolist(), groups, strict=True)
        ]
        return Sharded(made, widths)


@dataclass(frozen=True, eq=False)
class _Shard:
    """rows: of the split; lines: (n,), where they are in the file."""

    store: Storage
    name: str
    rows: NDArray[np.intp]
    lines: NDArray[np.intp]
    widths: tuple[int, ...]

    def read(self, parts: Sequence[int]) -> NDArray[np.float16]:
        """As Shard has it. Raises SourceError for a shard that is gone or damaged."""
        from pyarrow import ArrowException

        where = f"{self.name} in {self.store.address}"
        try:
            table = _read(self.store, self.name, [part + 1 for part in parts])
            found = []
            for number, part in enumerate(parts):
                flat = table.column(number).chunk(0).flatten().to_numpy()
                if _checksum(flat) != table.schema.field(number).metadata[_SUM]:
                    raise ValueError("its checksum is another")
                found.append(flat.reshape(-1, self.widths[part])[self.lines])
        except (ArrowException, OSError, ValueError, LookupError, TypeError) as error:
            raise SourceError(
                f"{where} cannot be read: {reason(error)}. If it is damaged, remove it: the same command computes it."
            ) from None
        return found[0] if len(found) == 1 else np.concatenate(found, axis=1)


def _read(store: Storage, name: str, columns: Sequence[int]) -> Any:
    """A table of those columns, in their order; only they are read."""
    from pyarrow import ipc

    wanted = sorted(columns)
    with store.open(name) as opened:
        options = ipc.IpcReadOptions(included_fields=wanted, use_threads=False)
        table = ipc.open_file(opened, options=options).read_all()
    return table.select([wanted.index(column) for column in columns])


def _checksum(flat: NDArray[np.float16]) -> bytes:
    return xxhash.xxh3_64_hexdigest(np.ascontiguousarray(flat).view(np.uint8).data).encode()
