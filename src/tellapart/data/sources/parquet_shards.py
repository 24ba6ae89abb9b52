"""parquet files with images inside, as Hugging Face's hub has them -> Source.

The split is in the names (train-00000-of-00004.parquet, data/test/0000.parquet), or in a column. Class names are those
of the ClassLabel in the schema's metadata; -1 is no label. No image is read here: a row's path is FILE#ROW.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.sources.columns import USUAL, Columns, cell_text, plain_name, read_labels, read_splits
from tellapart.data.sources.folders import unlabelled_finding
from tellapart.data.sources.listing import Listing, counted, label_text
from tellapart.data.sources.parquet_images import ImageColumns, has_bytes, image_columns, open_parquet
from tellapart.data.sources.shard_names import parted
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.data.sources.table_file import MAX_ROWS, LabelTable
from tellapart.errors import SourceError, some, unknown

_TAKEN = ("path_column", "label_column")


def read_parquet_file(path: Path, config: DataConfig) -> Source | str:
    """Source from one file, or why it holds no images."""
    return _read(path.parent, [path.name], str(path), config)


def read_parquet_shards(listing: Listing, config: DataConfig) -> Source | str:
    """Source from the parquet files of a folder, or why they hold no images."""
    if config.label_pattern is not None:
        return "data.label_pattern means that labels are in the file names"
    paths = [path for path in listing.tables if path.lower().endswith(".parquet")]
    if not paths:
        return "there is no parquet file"
    return _read(listing.root, paths, listing.name, config)


@dataclass(frozen=True)
class _Shard:
    path: str
    file: Any
    columns: ImageColumns


def _read(root: Path, paths: Sequence[str], name: str, config: DataConfig) -> Source | str:
    shards = [_Shard(path, file := open_parquet(root / path), image_columns(file.schema_arrow)) for path in paths]
    shards = [shard for shard in shards if shard.columns.images]
    if not shards:
        return "no parquet file has a column of images (bytes, or a struct with bytes)"
    if sum(shard.file.metadata.num_rows for shard in shards) > MAX_ROWS:
        raise SourceError(f"{name} has more than {MAX_ROWS:,} rows.")
    findings: list[Finding] = []
    splits = parted([shard.path for shard in shards], findings)
    rows: list[LabelledPath] = []
    named: dict[str, None] = {}
    for shard in shards:
        if shard.path in splits:
            found, told = _rows(root, shard, splits[shard.path], config, findings)
            rows += found
            named.setdefault(told)
    findings = list(dict.fromkeys(findings))
    findings += unlabelled_finding([row.path for row in rows if not row.label], "in the parquet files")
    by = "; splits by file name" if any(splits.values()) else ""
    layout = f"images in {counted(len(splits), 'parquet file')}: {'; '.join(named)}{by}"
    return Source(root, tuple(row for row in rows if row.label), layout, tuple(findings), _TAKEN)


def _rows(
    root: Path, shard: _Shard, split: str, config: DataConfig, findings: list[Finding]
) -> tuple[list[LabelledPath], str]:
    """The rows of a file, and its columns in words."""
    from pyarrow import ArrowException

    image, suffix = _image_column(shard, config)
    label = _label_column(shard, config)
    known = {plain_name(column): column for column in reversed(shard.columns.others)}
    roles = {
        role: next((known[usual] for usual in USUAL[role] if known.get(usual, label) != label), "")
        for role in ("split", "group")
    }
    _require_bytes(root / shard.path, shard.file, image)
    try:
        cells = shard.file.read(columns=[column for column in {label, *roles.values()} if column]).to_pydict()
    except (ArrowException, ValueError, ArithmeticError, OSError) as error:
        raise SourceError(f"{root / shard.path} is damaged: {error}. Copy or download it again.") from None
    table = LabelTable(str(root / shard.path), root, {**cells, "": [None] * shard.file.metadata.num_rows})
    if names := shard.columns.classes.get(label):
        labels = [_named(value, names, root / shard.path, label) for value in cells[label]]
    else:
        labels, _ = read_labels(table, Columns({"path": "", "label": label}), findings)
    splits = [split] * len(labels)
    if not split and roles["split"]:
        splits = read_splits(table, Columns({"path": "", "label": label, "split": roles["split"]}), findings)
    groups = [cell_text(cell) for cell in cells[roles["group"]]] if roles["group"] else [""] * len(labels)
    path = shard.path
    rows = [
        LabelledPath(f"{path}#{number}{suffix}", *each)
        for number, each in enumerate(zip(labels, splits, groups, strict=True))
    ]
    told = f"image {image!r}, label {label!r}" + (f" of {len(names)} names" if names else "")
    return rows, told + "".join(f", {role} {column!r}" for role, column in roles.items() if column)


def _image_column(shard: _Shard, config: DataConfig) -> tuple[str, str]:
    """The column of images, and what a row's member says of it: nothing for the first. Raises SourceError if several
    may be meant, or the requested one holds none."""
    images = shard.columns.images
    if config.path_column is None:
        usual = [name for name in images if plain_name(name) in USUAL["path"]]
        if len(images) > 1 and len(usual) != 1:
            raise SourceError(
                f"{shard.path} has {len(images)} columns of images: {', '.join(map(repr, images))}. "
                "Choose one with --path-column NAME (path_column in Python)."
            )
        image = usual[0] if usual else images[0]
    elif config.path_column in images:
        image = config.path_column
    else:
        raise SourceError(f"{shard.path}, data.path_column: {unknown('column of images', config.path_column, images)}")
    return image, "" if image == images[0] else f":{image}"


def _label_column(shard: _Shard, config: DataConfig) -> str:
    """Raises SourceError if the column of the class cannot be determined, or it holds several labels a row."""
    columns = shard.columns
    if config.label_column is not None:
        if config.label_column not in columns.others:
            names = (*columns.others, *columns.several)
            raise SourceError(f"{shard.path}, data.label_column: {unknown('column', config.label_column, names)}")
        return config.label_column
    plain = {plain_name(name): name for name in reversed(columns.others)}
    found = next((plain[usual] for usual in USUAL["label"] if usual in plain), "")
    if not found and len(columns.classes) == 1:
        found = next((name for name in columns.classes if name in columns.others), "")
    if found:
        return found
    several = [name for name in columns.several if plain_name(name) in (*USUAL["label"], "objects")]
    if several:
        raise SourceError(
            f"{shard.path}: column {several[0]!r} holds several labels or boxes a row, and an image has one label "
            "here. Write one label a row into a column named label; of boxes, crop each to an image of its class."
        )
    options = tuple(columns.classes) or columns.others
    raise SourceError(
        f"{shard.path} has no column with a usual name for the class. Choose one of {some(options, 10) or 'none'} with "
        "--label-column NAME (label_column in Python)."
    )


def _named(value: Any, names: Sequence[str], path: Path, column: str) -> str:
    """The class of a ClassLabel's number; "" for none, which is also written as -1."""
    if value is None or value == -1:
        return ""
    if not isinstance(value, int) or not 0 <= value < len(names):
        raise SourceError(f"{path}: column {column!r} holds the class {value!r}, but {len(names)} classes are named.")
    return label_text(names[value].strip())


def _require_bytes(path: Path, file: Any, image: str) -> None:
    """Raises SourceError for a file whose images are all elsewhere: struct without bytes."""
    if file.metadata.num_rows and not has_bytes(file, path, image):
        raise SourceError(
            f"{path}: column {image!r} holds paths but no bytes of images. Write it with the images inside "
            "(push_to_hub of Hugging Face does; to_parquet after datasets.table.embed_table_storage), or name the "
            "folder of the images."
        )
