"""The plan of a prediction, in the storage of its answers: which images each part has. Written once, only extended.

Part 12 has its images in _plan/000012.parquet and its answers in part-000012.parquet. A part is done when its answers
are there: whoever predicts it again, such as after a machine was lost, writes the same file. Names that begin with _
are skipped by what reads the folder as one table (pyarrow, pandas, Spark).
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import astuple
from hashlib import blake2b
from itertools import chain

from tellapart.cluster.inputs import Item
from tellapart.cluster.storage import Storage

FOLDER = "_plan"
_COLUMNS = ("name", "place", "kind", "first", "last", "column")


def answers_file(part: int) -> str:
    """
    >>> answers_file(12)
    'part-000012.parquet'
    """
    return f"part-{part:06}.parquet"


class Plan:
    """size: images of a part. Archives and pieces of tables are parts of their own."""

    def __init__(self, storage: Storage, size: int) -> None:
        self._storage = storage
        self._size = size

    def parts(self) -> list[int]:
        return [int(name.partition(".")[0]) for name in self._storage.names(FOLDER)]

    def undone(self) -> tuple[list[int], list[int]]:
        """Parts without answers, and with."""
        there = set(self._storage.names())
        parts = self.parts()
        return [n for n in parts if answers_file(n) not in there], [n for n in parts if answers_file(n) in there]

    def read(self, part: int) -> list[Item]:
        from pyarrow import parquet

        table = parquet.read_table(io.BytesIO(self._storage.read(f"{FOLDER}/{part:06}.parquet")))
        columns = [table.column(name).to_pylist() for name in _COLUMNS]
        return [Item(os.fsdecode(name), os.fsdecode(place), *rest) for name, place, *rest in zip(*columns, strict=True)]

    def extend(self, items: Iterable[Item]) -> None:
        """Add parts for the images that the plan lacks; of one that is named twice it has two.

        As long as the images come in the order of the plan, none is held in memory.
        """
        parts = self.parts()
        known = chain.from_iterable(map(self.read, parts))
        for number, group in enumerate(self._grouped(_new(items, known)), start=parts[-1] + 1 if parts else 0):
            self._write(number, group)

    def _grouped(self, items: Iterable[Item]) -> Iterator[list[Item]]:
        group: list[Item] = []
        for item in items:
            if item.alone:
                yield [item]
                continue
            group.append(item)
            if len(group) == self._size:
                yield group
                group = []
        if group:
            yield group

    def _write(self, part: int, items: list[Item]) -> None:
        import pyarrow
        from pyarrow import parquet

        # Bytes, as a path need not be UTF-8.
        rows = [(os.fsencode(item.name), os.fsencode(item.place), *astuple(item)[2:]) for item in items]
        held = io.BytesIO()
        parquet.write_table(pyarrow.table(dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))), held)
        self._storage.write(f"{FOLDER}/{part:06}.parquet", held.getvalue())


def _new(items: Iterable[Item], known: Iterator[Item]) -> Iterator[Item]:
    left: Counter[bytes] | None = None
    for item in items:
        if left is None:
            expected = next(known, None)
            if expected == item:
                continue
            left = Counter(map(_key, known if expected is None else chain([expected], known)))
        key = _key(item)
        if left[key]:
            left[key] -= 1
        else:
            yield item


def _key(item: Item) -> bytes:
    return blake2b(repr(astuple(item)).encode("utf-8", "surrogateescape"), digest_size=16).digest()
