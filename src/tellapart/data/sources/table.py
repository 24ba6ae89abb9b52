"""A table (csv, tsv, parquet, DataFrame) of images and their labels -> Source.

Paths are relative to data.root, else to the table's folder (for a DataFrame: the current folder). A relative data.root
is looked up in the table's folder, then in the current folder. Several tables are one source if each has a split, given
by its folder or its name: train/metadata.csv and test/metadata.csv, train.csv and test.csv.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.config import DataConfig
from tellapart.data.catalog import Split
from tellapart.data.findings import Finding
from tellapart.data.sources.columns import cell_text, choose_columns, read_labels, read_splits
from tellapart.data.sources.folders import split_named, unlabelled_finding
from tellapart.data.sources.image_paths import located, relative
from tellapart.data.sources.listing import Listing, counted, natural_key
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.data.sources.table_file import LabelTable, load_table, table_of_frame
from tellapart.errors import SourceError
from tellapart.files import expanded

if TYPE_CHECKING:
    import pandas

_FORM = "samplesubmission"
_TAKEN = ("path_column", "label_column", "root", "kind")


def read_frame(frame: pandas.DataFrame, config: DataConfig) -> Source:
    """Source from a DataFrame. Raises SourceError if columns cannot be determined or no image exists."""
    return read_table(table_of_frame(frame), config)


def read_table_file(path: Path, config: DataConfig) -> Source:
    """Source from a csv, tsv or parquet file. Raises SourceError as read_table, and for a file that cannot be read."""
    return read_table(load_table(path), config)


def read_table_beside(listing: Listing, config: DataConfig) -> Source | str:
    """Source from the tables of a folder that list its images, or why there is none.

    Raises SourceError if there are several and not all have a split.
    """
    if config.label_pattern is not None:
        return "data.label_pattern means that labels are in the file names"
    if not listing.tables:
        return "there is no csv, tsv or parquet file"
    sources: dict[str, Source] = {}
    reasons: dict[str, str] = {}
    for path in listing.tables:
        if re.sub(r"[\W_]", "", Path(path).stem).lower().startswith(_FORM):
            reasons[path] = f"{path} is a sample submission of Kaggle, without labels."
            continue
        try:
            sources[path] = read_table_file(listing.root / path, config)
        except SourceError as error:
            reasons[path] = str(error)
    if not sources:
        return " ".join(reasons.values())
    if len({source.several for source in sources.values()}) > 1:  # a split whose rows happen to have one label each
        config = config.model_copy(update={"kind": "multilabel"})
        sources = {path: read_table_file(listing.root / path, config) for path in sources}
    source = next(iter(sources.values())) if len(sources) == 1 else _together(listing, sources)
    beside = unlabelled_finding(list(_not_named(listing, source)), f"not named in {', '.join(sources)}")
    findings = [*source.findings, *beside]
    if reasons:
        meaning = f"{counted(len(reasons), 'other table')}: {' '.join(reasons.values())}"
        findings.append(Finding("table-not-used", "note", tuple(reasons), meaning, "Passed over."))
    return replace(source, findings=tuple(findings))


def _together(listing: Listing, sources: Mapping[str, Source]) -> Source:
    """One source from tables that each have a split."""
    splits = {path: _split_of(path) for path in sources}
    if not all(splits.values()) or "train" not in splits.values():
        raise SourceError(
            f"{listing.name} holds {len(sources)} tables of images: {', '.join(sources)}. Name one of them; "
            "or, if they are splits, call them or their folders train, validation and test."
        )
    there: list[LabelledPath] = []
    findings: list[Finding] = []
    for table, source in sources.items():
        there.extend(
            replace(row, path=_moved(row.path, source, listing), split=row.split or splits[table] or "")
            for row in source.rows
        )
        for finding in source.findings:
            paths = tuple(_moved(path, source, listing) for path in finding.paths)
            findings.append(replace(finding, paths=paths, meaning=f"{table}: {finding.meaning}"))
    several = any(source.several for source in sources.values())
    rows = once(there, findings, several=several)
    layout = f"{counted(len(sources), 'table')}, one a split: " + "; ".join(
        f"{path}: {source.layout.partition(': ')[2]}" for path, source in sources.items()
    )
    return Source(listing.root, rows, layout, tuple(findings), _TAKEN, several)


def _split_of(table: str) -> Split | None:
    """The split given by the folders of a table, or by its own name."""
    return next(filter(None, map(split_named, (*Path(table).parts[:-1], Path(table).stem))), None)


def _moved(path: str, source: Source, listing: Listing) -> str:
    """A path in one table, relative to the folder that contains all tables."""
    return relative(os.path.normpath(f"{source.root}/{path}") if not path.startswith("/") else path, listing.root)


def _not_named(listing: Listing, source: Source) -> Iterator[str]:
    """Images below the source's folder that are in no row and no finding."""
    named = {os.path.normpath(source.root / path) for path in _named_paths(source)}
    inside = os.path.join(os.path.normpath(source.root), "")  # noqa: PTH118 - as text, for the comparison
    for path in listing.images:
        whole = os.path.normpath(f"{listing.root}/{path}")
        if whole.startswith(inside) and whole not in named:
            yield path


def _named_paths(source: Source) -> Iterator[str]:
    yield from (row.path for row in source.rows)
    for finding in source.findings:
        yield from finding.paths


def read_table(table: LabelTable, config: DataConfig) -> Source:
    """Rows of a table whose images exist, without repetition, in natural order of path.

    Findings: missing-file, unlabelled, repeated-row, conflicting-labels, conflicting-rows, uneven-row, split-not-used,
    several-labels, multilabel, table-encoding. Raises SourceError if the columns cannot be determined, a cell has
    several labels where data.kind says one, or none of the images exists.
    """
    root = _root(table, config)
    columns = choose_columns(table, config)
    findings: list[Finding] = []
    labels, several = read_labels(table, columns, findings, config.kind)
    splits = read_splits(table, columns, findings)
    names = [_path_text(value, table, columns.names["path"]) for value in table.columns[columns.names["path"]]]
    groups = table.columns[columns.names["group"]] if "group" in columns.names else [None] * len(names)
    paths, where = located(root, names, table.name)
    there = [
        LabelledPath(path, label, split, cell_text(group))
        for path, label, split, group in zip(paths, labels, splits, groups, strict=True)
        if path
    ]
    missing = [
        name or f"{Path(table.name).name} row {number} names no image"
        for number, (name, path) in enumerate(zip(names, paths, strict=True), 1)
        if not path
    ]
    if not there:
        sample = f"the first is {missing[0]!r}" if missing else "it has no rows"
        raise SourceError(
            f"{table.name}: none of its {counted(len(missing), 'image')} exists below {root}; {sample}. "
            "Tell where they are with --root FOLDER, or which column names them with --path-column NAME."
        )
    if missing:
        meaning = f"{counted(len(missing), 'row')} of the table without an image below {str(root)!r}."
        findings.append(Finding("missing-file", "error", tuple(missing), meaning, "Left out."))
    if table.uneven:
        meaning = (
            f"{counted(len(table.uneven), 'line')} with more cells than the header; a cell may hold the delimiter."
        )
        findings.append(Finding("uneven-row", "error", table.uneven, meaning, "Left out."))
    if not several:
        findings.extend(unlabelled_finding([row.path for row in there if not row.label], "in the table"))
    rows = once(there, findings, several=several)
    name = Path(table.name).name + (f" ({table.encoding})" if table.encoding else "")
    layout = f"table {name}: columns {columns}" + (f"; images {where}" if where else "")
    if not (columns.flags or "split" in columns.names) and (parted := _by_folder(rows)):
        rows, layout = parted, f"{layout}; splits by folder"
    layout += "; several labels an image" if several else ""
    return Source(root, rows, layout, tuple(findings), _TAKEN, several)


def _by_folder(rows: tuple[LabelledPath, ...]) -> tuple[LabelledPath, ...]:
    """The rows with the splits that their folders are named after; empty if not all are, or none is for training."""
    splits = {top: split_named(top) for top in {row.path.partition("/")[0] for row in rows if "/" in row.path}}
    if len(splits) < 2 or not all(splits.values()) or "train" not in splits.values():
        return ()
    if any("/" not in row.path for row in rows):
        return ()
    return tuple(replace(row, split=splits[row.path.partition("/")[0]] or "") for row in rows)


def _root(table: LabelTable, config: DataConfig) -> Path:
    if config.root is None:
        return table.folder
    given = expanded(config.root)
    for root in (table.folder / given, Path.cwd() / given):
        if root.is_dir():
            return root
    raise SourceError(f"data.root is {config.root!r}, which is not a folder below {table.folder} or {Path.cwd()}.")


def _path_text(value: Any, table: LabelTable, column: str) -> str:
    if isinstance(value, (dict, list, bytes)):
        raise SourceError(
            f"{table.name}: column {column!r} holds {type(value).__name__}, expected paths of image files."
        )
    return cell_text(value)


def once(there: list[LabelledPath], findings: list[Finding], *, several: bool = False) -> tuple[LabelledPath, ...]:
    """Each image once; if rows of one image contradict each other, all of them are left out. several: whether an image
    may have several labels; then one may have none."""
    by_path: dict[str, set[LabelledPath]] = {}
    repeated = set()
    for row in there:
        rows = by_path.setdefault(row.path, set())
        if row in rows:
            repeated.add(row.path)
        rows.add(row)
    kept: list[LabelledPath] = []
    other_label, other_row = set(), set()
    for path, rows in by_path.items():
        if len({row.label for row in rows}) > 1:
            other_label.add(path)
        elif len(rows) > 1:
            other_row.add(path)
        else:
            kept.extend(row for row in rows if row.label or several)
    for paths, kind, severity, meaning, done in (
        (repeated - other_label - other_row, "repeated-row", "note", "named in several equal rows", "Kept once."),
        (other_label, "conflicting-labels", "error", "named with different labels", "All their rows are left out."),
        (
            other_row,
            "conflicting-rows",
            "error",
            "named with different splits or groups",
            "All their rows are left out.",
        ),
    ):
        if paths:
            ordered = tuple(sorted(paths, key=natural_key))
            findings.append(Finding(kind, severity, ordered, f"{counted(len(paths), 'image')} {meaning}.", done))  # type: ignore[arg-type]
    return tuple(sorted(kept, key=lambda row: natural_key(row.path)))
