"""A table (csv, tsv, parquet, DataFrame) that names pictures and their labels -> Source.

Which column is which is guessed from usual names, or said by data.path_column and data.label_column. Paths are
relative to data.root, else to the table's folder (a DataFrame: the current folder). A relative data.root is taken from
the table's folder if it is there, else from the current folder. The standard library reads csv; parquet needs the extra
`tables`.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.sources.folders import split_named, unlabelled_finding
from tellapart.data.sources.listing import Listing, counted, kind_of, label_text, natural_key
from tellapart.data.sources.source import Row, Source
from tellapart.errors import MissingExtraError, SourceError, unknown
from tellapart.files import expanded

if TYPE_CHECKING:
    import pandas

# Usual names, best first; compared in lower case with _ for spaces and dashes.
USUAL: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "file_path", "filepath", "image_path", "img_path", "picture_path", "file", "filename", "file_name"),
        *(
            "image_file",
            "image_name",
            "img_name",
            "image",
            "img",
            "picture",
            "photo",
            "image_id",
            "img_id",
            "id",
            "name",
        ),
    ),
    "label": (
        *(
            "label",
            "labels",
            "class",
            "class_name",
            "classname",
            "label_name",
            "category",
            "target",
            "species",
            "breed",
        ),
        *("y", "tag", "diagnosis"),
    ),
    "split": ("split", "subset", "partition", "set", "dataset", "fold"),
    "group": ("group", "group_id", "groups", "patient", "patient_id", "subject", "subject_id", "video", "video_id"),
}
MAX_ROWS = 20_000_000
"""Of a parquet table, whose bytes do not tell how many rows they are of."""
# Tried in this order for a name without a suffix, as in tables that hold an id.
_SUFFIXES = (".jpg", ".png", ".jpeg", ".JPG", ".PNG", ".JPEG", ".webp", ".tif", ".tiff", ".bmp", ".gif")


@dataclass(frozen=True)
class Table:
    """Columns of equal length by name; None or NaN is missing. uneven: lines with more cells than the header."""

    name: str
    folder: Path
    columns: Mapping[str, Sequence[Any]]
    uneven: tuple[str, ...] = ()


def is_frame(data: object) -> TypeGuard[pandas.DataFrame]:
    """Whether data is a pandas DataFrame; pandas is not imported to know it."""
    module = sys.modules.get("pandas")
    return module is not None and isinstance(data, module.DataFrame)


def read_frame(frame: pandas.DataFrame, config: DataConfig) -> Source:
    """Source from a DataFrame. Raises SourceError if columns cannot be told or no picture exists."""
    cells = frame.astype(object).where(frame.notna(), None)
    columns: dict[str, Sequence[Any]] = {}
    for position, name in enumerate(frame.columns):
        columns.setdefault(str(name), cells.iloc[:, position].tolist())
    return read_table(Table("DataFrame", Path.cwd(), columns), config)


def read_table_file(path: Path, config: DataConfig) -> Source:
    """Source from a csv, tsv or parquet file. Raises SourceError as read_table, and for a file that cannot be read."""
    return read_table(load_table(path), config)


def read_table_beside(listing: Listing, config: DataConfig) -> Source | str:
    """Source from the one table of a folder that names pictures of it, or why there is none.

    Raises SourceError if several tables do.
    """
    if config.label_pattern is not None:
        return "data.label_pattern says that labels are in the file names"
    if not listing.tables:
        return "there is no csv, tsv or parquet file"
    sources: dict[str, Source] = {}
    reasons = []
    for relative in listing.tables:
        try:
            sources[relative] = read_table_file(listing.root / relative, config)
        except SourceError as error:
            reasons.append(str(error))
    if not sources:
        return " ".join(reasons)
    if len(sources) > 1:
        raise SourceError(
            f"{listing.name} holds {len(sources)} tables that name pictures: {', '.join(sources)}. Name one of them."
        )
    ((relative, source),) = sources.items()
    named = {os.path.normpath(source.root / path) for path in _named_paths(source)}
    inside = os.path.join(os.path.normpath(source.root), "")  # noqa: PTH118 - as text, for the comparison
    beside = []
    for path in listing.pictures:
        whole = os.path.normpath(f"{listing.root}/{path}")
        if whole.startswith(inside) and whole not in named:
            beside.append(path)
    findings = (*source.findings, *unlabelled_finding(beside, f"not named in {relative}"))
    return replace(source, findings=findings)


def _named_paths(source: Source) -> Iterator[str]:
    yield from (row.path for row in source.rows)
    for finding in source.findings:
        yield from finding.paths


def read_table(table: Table, config: DataConfig) -> Source:
    """Rows of a table whose pictures exist, once each, in natural order of path.

    Findings: missing-file, unlabelled, repeated-row, conflicting-labels, conflicting-rows, uneven-row, split-not-used.
    Raises SourceError if the columns cannot be told or none of the pictures exists.
    """
    root = _root(table, config)
    names = _choose_columns(table, config)
    findings: list[Finding] = []
    labels = _labels(table.columns[names["label"]])
    splits = _splits(table, names.get("split"), findings)
    groups = [_text(value) for value in table.columns[names["group"]]] if "group" in names else [""] * len(labels)
    there: list[Row] = []
    missing: list[str] = []
    for number, value in enumerate(table.columns[names["path"]]):
        named = _path_text(value, table, names["path"])
        found = locate(root, named)
        if found:
            there.append(Row(found, labels[number], splits[number], groups[number]))
        else:
            missing.append(named or f"row {number + 1} names none")
    if not there:
        sample = f"the first is {missing[0]!r}" if missing else "it has no rows"
        raise SourceError(
            f"{table.name}: none of its {counted(len(missing), 'picture')} exists below {root}; {sample}. "
            "Say where they are with --root FOLDER, or which column names them with --path-column NAME."
        )
    if missing:
        meaning = f"{counted(len(missing), 'row')} of the table without a picture below {str(root)!r}."
        findings.append(Finding("missing-file", "error", tuple(missing), meaning, "Left out."))
    if table.uneven:
        meaning = (
            f"{counted(len(table.uneven), 'line')} with more cells than the header; a cell may hold the delimiter."
        )
        findings.append(Finding("uneven-row", "error", table.uneven, meaning, "Left out."))
    findings.extend(unlabelled_finding([row.path for row in there if not row.label], "in the table"))
    rows = _once(there, findings)
    told = ", ".join(f"{role} {name!r}" for role, name in names.items())
    layout = f"table {Path(table.name).name}: columns {told}"
    return Source(root, rows, layout, tuple(findings), ("path_column", "label_column", "root"))


def _root(table: Table, config: DataConfig) -> Path:
    if config.root is None:
        return table.folder
    given = expanded(config.root)
    for root in (table.folder / given, Path.cwd() / given):
        if root.is_dir():
            return root
    raise SourceError(f"data.root is {config.root!r}, which is no folder below {table.folder} or {Path.cwd()}.")


def _choose_columns(table: Table, config: DataConfig) -> dict[str, str]:
    """Role -> column name; path and label always, split and group if the table has them."""
    chosen = {}
    by_plain_name = {plain_name(name): name for name in reversed(list(table.columns))}
    asked = {"path": config.path_column, "label": config.label_column}
    for role, name in asked.items():
        if name is not None:
            if name not in table.columns and plain_name(name) not in by_plain_name:
                raise SourceError(f"{table.name}, data.{role}_column: {unknown('column', name, table.columns)}")
            chosen[role] = name if name in table.columns else by_plain_name[plain_name(name)]
    for role, usual in USUAL.items():
        free = [by_plain_name[name] for name in usual if by_plain_name.get(name, "") not in ("", *chosen.values())]
        if role not in chosen and free:
            chosen[role] = free[0]
    for role in asked:
        if role not in chosen:
            raise SourceError(_which_column(table, role, chosen))
    return {role: chosen[role] for role in USUAL if role in chosen}


def _which_column(table: Table, role: str, chosen: Mapping[str, str]) -> str:
    """What to say about columns that have other names than the usual; `chosen` are those that are known."""
    if not table.columns:
        return f"{table.name} is empty. It needs a first line that names the columns, such as path,label."
    names = ", ".join(map(repr, table.columns))
    first = next(iter(table.columns))
    options = " ".join(
        f'--{each}-column "{chosen[each]}"' if each in chosen else f"--{each}-column NAME" for each in ("path", "label")
    )
    what = {"path": "the picture", "label": "the class"}[role]
    return (
        f"{table.name} has the columns {names}; none is named as usual for {what} ({', '.join(USUAL[role][:5])} ...). "
        f"Say which it is, such as {first!r}: {options} (path_column and label_column in Python). "
        "If these are no names, the first line is missing: it must name the columns, such as path,label."
    )


def plain_name(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()


def _labels(values: Sequence[Any]) -> list[str]:
    """Class names; a whole column of integers, also written 1.0, becomes 1, and of booleans true or false."""
    texts = [label_text(_text(value)) for value in values]
    filled = {text for text in texts if text}
    if all(re.fullmatch(r"-?\d+(\.0+)?", text) for text in filled):
        return [text.partition(".")[0] for text in texts]
    if filled <= {"True", "False", "TRUE", "FALSE", "true", "false"}:
        return [text.lower() for text in texts]
    return texts


def _text(value: Any) -> str:
    """A cell as text, "" for a missing one."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    text = str(value).strip()
    return text.lower() if text in ("True", "False") and not isinstance(value, str) else text


def _path_text(value: Any, table: Table, column: str) -> str:
    if isinstance(value, (dict, list, bytes)):
        raise SourceError(
            f"{table.name}: column {column!r} holds {type(value).__name__}, expected paths of picture files."
        )
    return _text(value)


def _splits(table: Table, column: str | None, findings: list[Finding]) -> list[str]:
    """The split of each row, "" where the table says none. Other words than those of splits: a finding, all ""."""
    cells = [_text(value) for value in table.columns[column]] if column else []
    strange = sorted({cell for cell in cells if cell and not split_named(cell)})
    if strange:
        meaning = f"Column {column!r} holds {', '.join(map(repr, strange[:3]))}; expected train, validation and test."
        findings.append(Finding("split-not-used", "warning", (), meaning, "Pictures are split anew."))
    if strange or not column:
        return [""] * len(next(iter(table.columns.values())))
    return [split_named(cell) or "" for cell in cells]


def locate(root: Path, named: str) -> str:
    """Path of an existing file relative to root with forward slashes (absolute if elsewhere), "" if there is none.

    Tried beside the name itself: forward for back slashes, the other Unicode forms, a suffix for a name without one.
    """
    if not named:
        return ""
    slashed = named.replace("\\", "/")
    names = dict.fromkeys((named, slashed, *(unicodedata.normalize(form, slashed) for form in ("NFC", "NFD"))))
    suffixes = ("",) if kind_of(slashed) == "picture" else ("", *_SUFFIXES)
    place = f"{root}/"
    for name in names:
        for suffix in suffixes:
            whole = os.path.normpath(name + suffix if os.path.isabs(name) else place + name + suffix)  # noqa: PTH117 - speed
            if os.path.isfile(whole):  # noqa: PTH113 - a Path for each of many rows costs more than the look
                return _relative(whole, root)
    return ""


def _relative(whole: str, root: Path) -> str:
    inside = os.path.normpath(root) + os.sep
    path = whole[len(inside) :] if whole.startswith(inside) else whole
    return path.replace(os.sep, "/")


def _once(there: list[Row], findings: list[Finding]) -> tuple[Row, ...]:
    """Each picture once; rows of one picture that differ are left out, all of them."""
    by_path: dict[str, set[Row]] = {}
    repeated = set()
    for row in there:
        rows = by_path.setdefault(row.path, set())
        if row in rows:
            repeated.add(row.path)
        rows.add(row)
    kept: list[Row] = []
    other_label, other_row = set(), set()
    for path, rows in by_path.items():
        if len({row.label for row in rows}) > 1:
            other_label.add(path)
        elif len(rows) > 1:
            other_row.add(path)
        else:
            kept.extend(row for row in rows if row.label)
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
            findings.append(Finding(kind, severity, ordered, f"{counted(len(paths), 'picture')} {meaning}.", done))  # type: ignore[arg-type]
    return tuple(sorted(kept, key=lambda row: natural_key(row.path)))


def load_table(path: Path) -> Table:
    try:
        if path.suffix.lower() == ".parquet":
            return _load_parquet(path)
        return _load_text(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from None


def _load_parquet(path: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ModuleNotFoundError as error:
        if error.name != "pyarrow":
            raise
        raise MissingExtraError("Reading a parquet table", "tables") from None
    try:
        file = parquet.ParquetFile(path)
        if file.metadata.num_rows > MAX_ROWS:
            raise SourceError(f"{path} has {file.metadata.num_rows:,} rows; at most {MAX_ROWS:,} are read.")
        columns = file.read().to_pydict()
    # ValueError: a name or a cell that is no UTF-8; ArithmeticError: a time that Python's clock does not know.
    except (ArrowException, ValueError, ArithmeticError) as error:
        raise SourceError(f"{path} is not a parquet table, or it is damaged: {error}") from None
    return Table(str(path), path.parent, columns)


def _load_text(path: Path) -> Table:
    """csv or tsv with any of the usual delimiters. Undecodable bytes survive, as they may be part of file names."""
    data = path.read_bytes()
    utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = data.decode("utf-16", "replace") if utf16 else data.decode("utf-8-sig", "surrogateescape")
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max("\t,;|" if path.suffix.lower() == ".tsv" else ",;\t|", key=lambda mark: len(_cells(first, mark)))
    columns: list[list[str]] = []
    uneven = []
    header: list[str] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                columns = [[] for _ in header]
            elif any(cell.strip() for cell in cells[len(header) :]):
                uneven.append(f"{path.name} line {reader.line_num}")
            else:
                for position, column in enumerate(columns):
                    column.append(cells[position] if position < len(cells) else "")
    except csv.Error as error:
        raise SourceError(f"{path} is not a readable table: line {reader.line_num}, {error}.") from None
    named: dict[str, list[str]] = {}
    for name, column in zip(header, columns, strict=True):
        named.setdefault(name, column)
    return Table(str(path), path.parent, named, tuple(uneven))


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
