"""The name of one of several files (train-00000-of-00004.parquet, val.txt) -> its split.

The names of shards that programs write: Hugging Face, TensorFlow Datasets, TF-Slim, WebDataset.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tellapart.data.catalog import Split
from tellapart.data.findings import Finding
from tellapart.data.sources.folders import split_named
from tellapart.data.sources.listing import counted
from tellapart.errors import some

_SUFFIX = re.compile(r"\.(parquet|tar|tfrecords?|txt|arrow)(?=$|-\d)", re.IGNORECASE)
_NUMBERS = re.compile(r"(?:[-_.]?\d+)?(?:[-_]of[-_]\d+)?$")


def stem_of(name: str) -> str:
    """The name without its suffix and the number of the shard.

    >>> stem_of("train-00000-of-00004.parquet"), stem_of("cifar10-test.tfrecord-00000-of-00001"), stem_of("000001.tar")
    ('train', 'cifar10-test', '')
    """
    found = _SUFFIX.search(name)
    if found:
        name = name[: found.start()] + name[found.end() :]
    return _NUMBERS.sub("", name)


def split_in_name(path: str) -> Split | None:
    """The split that the name of a shard or list says, else that of one of its folders.

    >>> split_in_name("flowers_validation_00000-of-00005.tfrecord"), split_in_name("data/test/0000.parquet")
    ('validation', 'test')
    >>> split_in_name("blood_test-train.tfrecord-00000-of-00001")
    'train'
    """
    *folders, name = path.split("/")
    stem = stem_of(name)
    words = [stem, *reversed(re.split(r"[-_.\s]", stem))]  # the name of the data set comes first
    return next(filter(None, map(split_named, (*words, *reversed(folders)))), None)


def parted(paths: Sequence[str], findings: list[Finding]) -> dict[str, str]:
    """Path -> split, "" for all if none is named; shards of another name beside train are left out, with a finding."""
    splits: dict[str, str] = {path: split_in_name(path) or "" for path in paths}
    others = tuple(path for path, split in splits.items() if not split)
    if "train" not in splits.values() or not others:
        return splits
    meaning = f"{counted(len(others), 'file')} named like no split: {some(others, 3)}."
    done = "Left out. To use them, name them like train, validation or test, or name one of them alone."
    findings.append(Finding("shard-not-used", "warning", others, meaning, done))
    return {path: split for path, split in splits.items() if split}
