"""A csv, tsv, JSON Lines, Excel or parquet file, or a DataFrame -> columns of cells by name, not yet interpreted.

csv and JSON Lines are read by the standard library; parquet and Excel need the extra `tables`. Text is UTF-8, or UTF-16
or UTF-32 if a byte order mark or its zero bytes show it. Bytes that are not UTF-8 are kept as Python's surrogate
escapes, as they may be part of file names; in labels they are decoded by `as_windows`.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import sys
import warnings
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from tellapart.errors import ConfigError, MissingExtraError, SourceError, require_extra
from tellapart.files import from_json

if TYPE_CHECKING:
    import pandas

MAX_ROWS = 20_000_000
"""Limit for a parquet table, whose size in bytes does not limit its rows."""
MAX_EXCEL_BYTES = 500_000_000
MAX_COLUMNS = 10_000
# UTF-32 first: its mark begins with that of UTF-16. All except UTF-8 read their own mark.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LOG = {"path", "action", "label", "decision"}  # columns of data.decisions, to which `tellapart studio` appends
_FIRST = 100_000  # characters of the first line that determine the delimiter; csv itself refuses longer cells
_PACKED = (b"PK\3\4", b"\x1f\x8b", b"\xd0\xcf\x11\xe0", b"PAR1")
HOW_TO_CONVERT = (
    "save it as UTF-8 (a spreadsheet: save as, CSV UTF-8; a shell: iconv -f ENCODING -t UTF-8 OLD.csv > NEW.csv, "
    "where ENCODING is that of the program that wrote it), and name the new file."
)
# Letters of Western European words in Windows-1252. It gives nearly every byte a meaning, so text of any other encoding
# would be accepted: a byte only counts as a letter next to an ASCII letter.
_WESTERN = re.compile(r"[A-Za-z][À-ÖØ-öø-ÿ]{1,2}|[À-ÖØ-öø-ÿ]{1,2}[A-Za-z]")


@dataclass(frozen=True)
class LabelTable:
    """Columns of equal length by name; None or NaN is missing. uneven: lines with more cells than the header. encoding:
    in words, empty for UTF-8 and for parquet."""

    name: str
    folder: Path
    columns: Mapping[str, Sequence[Any]]
    uneven: tuple[str, ...] = ()
    encoding: str = ""


def is_frame(data: object) -> TypeGuard[pandas.DataFrame]:
    """Whether data is a pandas DataFrame; does not import pandas."""
    module = sys.modules.get("pandas")
    return module is not None and isinstance(data, module.DataFrame)


def table_of_frame(frame: pandas.DataFrame) -> LabelTable:
    """Of columns with the same name the first is used; paths are relative to the current folder."""
    cells = frame.astype(object).where(frame.notna(), None)
    columns: dict[str, Sequence[Any]] = {}
    for position, name in enumerate(frame.columns):
        columns.setdefault(str(name), cells.iloc[:, position].tolist())
    return LabelTable("DataFrame", Path.cwd(), columns)


def load_table(path: Path) -> LabelTable:
    """Raises SourceError for a file that cannot be read as its suffix claims, MissingExtraError for a parquet or Excel
    table without the extra."""
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _load_parquet(path)
        if suffix in (".xlsx", ".xlsm"):
            return _load_excel(path)
        if suffix in (".jsonl", ".ndjson"):
            return _load_lines(path)
        return _load_text(path)
    except OSError as error:
        raise SourceError(f"{path} cannot be read: {error.strerror or error}.") from None


def _load_parquet(path: Path) -> LabelTable:
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
    # ValueError: a name or a cell that is not UTF-8; ArithmeticError: a time outside Python's range.
    except (ArrowException, ValueError, ArithmeticError) as error:
        raise SourceError(f"{path} is not a parquet table, or it is damaged: {error}") from None
    return LabelTable(str(path), path.parent, columns)


def _load_excel(path: Path) -> LabelTable:
    """The first sheet that has rows; every text as it is written, also NA and None."""
    require_extra("Reading an Excel table", "tables", "pandas", "openpyxl")
    try:
        with zipfile.ZipFile(path) as bundle:
            size = sum(info.file_size for info in bundle.infolist())  # no member is unpacked beyond its own
        if size > MAX_EXCEL_BYTES:
            raise SourceError(
                f"{path} unpacks to {size:,} bytes; at most {MAX_EXCEL_BYTES:,} are read. Save it as csv."
            )
        import pandas

        with warnings.catch_warnings(), pandas.ExcelFile(path, engine="openpyxl") as book:
            warnings.simplefilter("ignore")  # openpyxl's, on styles and validation that it does not know
            for sheet in book.sheet_names:
                frame = book.parse(sheet, dtype=object, keep_default_na=False, na_values=[""])
                if len(frame):
                    return replace(table_of_frame(frame), name=str(path), folder=path.parent)
    except SourceError:
        raise
    # It raises what the XML parser, the zip and its own many parts raise.
    except Exception as error:  # noqa: BLE001
        raise SourceError(f"{path} is not an Excel table, or it is damaged: {error}. Save it as csv (UTF-8).") from None
    raise SourceError(f"{path} has no sheet with a header and rows.")


def _load_lines(path: Path) -> LabelTable:
    """JSON Lines: an object a line; a key that a line lacks is a missing cell."""
    columns: dict[str, list[Any]] = {}
    number = 0
    for line_number, line in enumerate(_decoded(path)[0].splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = from_json(line)
        except (ValueError, RecursionError) as error:
            raise SourceError(f"{path}, line {line_number} is not JSON: {error}.") from None
        if not isinstance(row, dict):
            raise SourceError(f'{path}, line {line_number} is JSON but not an object, such as {{"file_name": ...}}.')
        for name in row.keys() - columns.keys():
            columns[name] = [None] * number
        for name, column in columns.items():
            column.append(row.get(name))
        number += 1
        if len(columns) > MAX_COLUMNS:
            raise SourceError(f"{path} has more than {MAX_COLUMNS:,} keys by line {line_number}; it is not a table.")
    return LabelTable(str(path), path.parent, columns)


def _load_text(path: Path) -> LabelTable:
    """csv or tsv with any of the usual delimiters."""
    text, encoding = _decoded(path)
    first = next((line for line in text.splitlines() if line.strip()), "")[:_FIRST]
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
                header = [_as_name(cell.strip()) for cell in cells]
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
    if named.keys() >= _LOG:
        named = _labels_of(path)
    return LabelTable(str(path), path.parent, named, tuple(uneven), encoding)


def _labels_of(path: Path) -> dict[str, list[str]]:
    """The labels that stand in a file of decisions: the last of each image, without those that were undone."""
    from tellapart.data.corrections import read_corrections

    try:
        rows = [row for row in read_corrections(path) if row.action == "relabel"]
    except ConfigError as error:
        raise SourceError(str(error)) from None
    return {"path": [row.path for row in rows], "label": [row.label for row in rows]}


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])


def _decoded(path: Path) -> tuple[str, str]:
    """The text of a file, and its encoding in words if it is not UTF-8."""
    data = path.read_bytes()
    codec = next((codec for mark, codec in _MARKS if data.startswith(mark)), "")
    if not codec and b"\0" in data:
        if data.startswith(_PACKED):
            raise SourceError(
                f"{path} is not text but a packed file, such as an Excel table. Save it as CSV UTF-8, and name that."
            )
        codec = _wide(data)
    if codec in ("", "utf-8-sig"):
        return data.decode(codec or "utf-8", "surrogateescape"), ""
    words = codec[:6].upper()
    try:
        return data.decode(codec), words
    except UnicodeDecodeError as error:
        raise SourceError(
            f"{path} begins as {words} and is damaged at byte {error.start:,}: it may be truncated, or contain lines "
            f"in another encoding. To fix it, {HOW_TO_CONVERT}"
        ) from None


def _wide(data: bytes) -> str:
    """UTF-16 without a mark: every other byte of ASCII text is zero. Else empty."""
    zeros = data[0::2].count(0), data[1::2].count(0)
    half = len(data) / 2
    if zeros[1] > 0.4 * half and zeros[0] <= 0.01 * half:
        return "utf-16-le"
    if zeros[0] > 0.4 * half and zeros[1] <= 0.01 * half:
        return "utf-16-be"
    return ""


def _as_name(cell: str) -> str:
    """The name of a column as typed by people."""
    return cell.encode("utf-8", "surrogateescape").decode("utf-8" if undecoded([cell]) == "" else "cp1252", "replace")


def undecoded(texts: Iterable[str]) -> str:
    """The first text with bytes that are not UTF-8, "" if there is none."""
    return next((text for text in texts if any("\udc80" <= letter <= "\udcff" for letter in text)), "")


def as_windows(text: str) -> str | None:
    r"""A text with bytes that are not UTF-8, decoded as Windows-1252; None if that is not clearly right.

    >>> as_windows("K\udce4tzchen"), as_windows("caf\udce9"), as_windows("\udcea\udcee\udcf8\udcea\udce0")
    ('Kätzchen', 'café', None)
    """
    try:
        read = text.encode("utf-8", "surrogateescape").decode("cp1252")
    except UnicodeDecodeError:
        return None
    return read if _WESTERN.sub("", read).isascii() else None
