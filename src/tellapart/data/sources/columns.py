"""Table -> the meaning of its columns: image path, label, split and group of each row.

Columns are recognised by their usual names, or selected by data.path_column and data.label_column. If there is no label
column and all other columns hold 0 and 1, each is a class; where a row has several 1s, images have several labels.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tellapart.config import DataConfig
from tellapart.data.findings import Finding
from tellapart.data.sources.folders import split_named
from tellapart.data.sources.listing import label_text
from tellapart.data.sources.several import joined, read_cells
from tellapart.data.sources.table_file import HOW_TO_CONVERT, LabelTable, as_windows, undecoded
from tellapart.errors import SourceError, some, unknown

# Usual names, best first; compared in lower case with _ for spaces and dashes.
USUAL: dict[str, tuple[str, ...]] = {
    "path": (
        *("path", "file_path", "filepath", "image_path", "img_path", "file", "filename", "file_name"),
        *("image_file", "image_name", "img_name", "image", "img", "photo", "image_id", "img_id", "id_code"),
        *("id", "name"),
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
        *("y", "tag", "tags", "diagnosis"),
    ),
    "split": ("split", "subset", "partition", "set", "dataset", "fold", "kfold", "fold_id"),
    "group": ("group", "group_id", "groups", "patient", "patient_id", "subject", "subject_id", "video", "video_id"),
}
_FLAGS = (
    (("is_test",), "test", "train"),
    (("is_valid", "is_validation", "is_val"), "validation", "train"),
    (("is_train", "is_training"), "train", "test"),
)
"""Boolean columns that give the split, and the splits for true and false; the first true one decides, else the last."""
_TRUTH = {**dict.fromkeys(("1", "1.0", "true"), True), **dict.fromkeys(("0", "0.0", "false"), False)}
MAX_FOLDS = 20
_NO_NAMES = frozenset(("", "unnamed:_0", "index"))  # of the index column, as pandas writes it


@dataclass(frozen=True)
class Columns:
    """names: role -> column, always path, label unless `classes` has one column per class. flags: boolean columns that
    give the split."""

    names: Mapping[str, str]
    classes: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()

    def __str__(self) -> str:
        told = [f"{role} {name!r}" for role, name in self.names.items()]
        if self.flags:
            told.append("split " + " and ".join(map(repr, self.flags)))
        if self.classes:
            told.append(f"a class each {some(list(map(repr, self.classes)), 5)}")
        return ", ".join(told)


def choose_columns(table: LabelTable, config: DataConfig) -> Columns:
    """Raises SourceError if the column of the image or its class cannot be determined."""
    chosen: dict[str, str] = {}
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
    flags: list[str] = []
    if "split" not in chosen:
        found = [next((by_plain_name[name] for name in names if name in by_plain_name), "") for names, _, _ in _FLAGS]
        flags = [name for name in found if name not in ("", *chosen.values())]
    classes: tuple[str, ...] = ()
    if "path" in chosen and "label" not in chosen:
        classes = _one_hot(table, {*chosen.values(), *flags}, config.kind)
    for role in asked:
        if role not in chosen and not (role == "label" and classes):
            raise SourceError(_which_column(table, role, chosen))
    return Columns({role: chosen[role] for role in USUAL if role in chosen}, classes, tuple(flags))


def _one_hot(table: LabelTable, others: set[str], kind: str | None) -> tuple[str, ...]:
    """The columns that are one class each: all except `others` hold 0 and 1, and most rows have a 1. Else empty. kind:
    data.kind.

    Raises SourceError if rows have several, where an image is to have one label.
    """
    classes = []
    for name, cells in table.columns.items():
        if name in others or plain_name(name) in _NO_NAMES:
            continue
        values = {cell_text(cell).lower() for cell in cells}
        if not values - {""} <= _TRUTH.keys():
            return ()
        if values - {""}:
            classes.append(name)
    if len(classes) < 2:
        return ()
    ones = _ones(table, classes)
    several = [number for number, held in enumerate(ones) if len(held) > 1]
    if several and kind == "multiclass":
        raise SourceError(
            f"{table.name} has no column with a usual class name, and in its columns of 0 and 1 "
            f"{'one row has' if len(several) == 1 else f'{len(several)} rows have'} several 1s: row "
            f"{several[0] + 1} is {' and '.join(map(repr, ones[several[0]][:3]))}. An image has one label here: keep "
            "one 1 per row, omit the row, name the class column with --label-column NAME (label_column in Python), or "
            "let images have several labels with --kind multilabel."
        )
    labelled = sum(map(bool, ones))
    return tuple(classes) if kind == "multilabel" or 2 * labelled > len(ones) else ()


def _ones(table: LabelTable, classes: Sequence[str]) -> list[list[str]]:
    """For each row, the columns that hold a 1."""
    held: list[list[str]] = [[] for _ in table.columns[classes[0]]]
    for name in classes:
        for row, cell in zip(held, table.columns[name], strict=True):
            if _TRUTH.get(cell_text(cell).lower()):
                row.append(name)
    return held


def _which_column(table: LabelTable, role: str, chosen: Mapping[str, str]) -> str:
    """A message about unknown column names; `chosen` are those already recognised."""
    if not table.columns:
        return f"{table.name} is empty. It needs a header line that names the columns, such as path,label."
    names = some(list(map(repr, table.columns)), 30)
    first = next(iter(table.columns))
    options = " ".join(
        f'--{each}-column "{chosen[each]}"' if each in chosen else f"--{each}-column NAME" for each in ("path", "label")
    )
    what = {"path": "the image", "label": "the class"}[role]
    return (
        f"{table.name} has the columns {names}; none has a usual name for {what} ({', '.join(USUAL[role][:5])} ...). "
        f"Name it, such as {first!r}: {options} (path_column and label_column in Python). "
        "If these are not column names, the header line is missing: it must name the columns, such as path,label."
    )


def plain_name(name: str) -> str:
    return re.sub(r"[\s-]+", "_", name.strip()).casefold()


def cell_text(value: Any) -> str:
    """A cell as text, "" for a missing one; a list as it would be typed."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if not isinstance(value, str) and hasattr(value, "tolist"):  # an array, as pandas returns lists in parquet
        value = value.tolist()
    if isinstance(value, (list, tuple, set)):
        return str([str(each) for each in value])
    text = str(value).strip()
    return text.lower() if text in ("True", "False") and not isinstance(value, str) else text


def read_labels(
    table: LabelTable, columns: Columns, findings: list[Finding], kind: str | None = "multiclass"
) -> tuple[list[str], bool]:
    """The class of each row, "" for none, and whether rows may have several, joined as `a|b`; a column of integers,
    also written as 1.0, becomes 1; booleans become true or false. kind: data.kind, by which several are refused, asked
    for, or found.

    Raises SourceError for cells with several labels where they are refused, and for text whose encoding is unclear.
    """
    if columns.classes:
        ones = _ones(table, columns.classes)
        several = kind == "multilabel" or any(len(held) > 1 for held in ones)
        parts = [tuple(label_text(name.strip()) for name in held) for held in ones]
    else:
        column = columns.names["label"]
        texts = _in_letters([cell_text(value) for value in table.columns[column]], table, findings)
        read = read_cells(texts, f"{table.name}, column {column!r}", kind, findings)
        parts = [tuple(map(label_text, held)) for held in read.parts]
        several = read.several
    named = _plain({name for held in parts for name in held if name})
    labels = [tuple(named[name] for name in held if name) for held in parts]
    return (joined(labels, table.name, findings), True) if several else ([*map("".join, labels)], False)


def _plain(names: set[str]) -> dict[str, str]:
    """Each label as it is called: whole numbers without .0, booleans in small letters."""
    if all(re.fullmatch(r"-?\d+(\.0+)?", name) for name in names):
        return {name: name.partition(".")[0] for name in names}
    if names <= {"True", "False", "TRUE", "FALSE", "true", "false"}:
        return {name: name.lower() for name in names}
    return {name: name for name in names}


def _in_letters(texts: list[str], table: LabelTable, findings: list[Finding]) -> list[str]:
    """Labels that are not UTF-8, decoded."""
    odd = {text for text in texts if undecoded([text])}
    read = {text: as_windows(text) for text in odd}
    for text, meant in read.items():
        if meant is None:
            raise SourceError(
                f"{table.name} is not UTF-8, and the encoding of its label '{label_text(text)}' cannot be "
                f"determined. To have it read, {HOW_TO_CONVERT}"
            )
    if read:
        sample = ", ".join(map(repr, sorted(filter(None, read.values()))[:3]))
        meaning = f"{table.name} is not UTF-8; its labels are read as Windows-1252, such as {sample}."
        findings.append(Finding("table-encoding", "note", (), meaning, f"If they look wrong, {HOW_TO_CONVERT}"))
    return [read.get(text) or text for text in texts]


def read_splits(table: LabelTable, columns: Columns, findings: list[Finding]) -> list[str]:
    """The split of each row, "" if the table gives none. If the column has words other than split names: a finding, and
    all ""."""
    number = len(table.columns[columns.names["path"]])
    if columns.flags:
        return _flagged(table, columns.flags, findings) or [""] * number
    column = columns.names.get("split")
    cells = [cell_text(value) for value in table.columns[column]] if column else []
    if folds := _folds(cells):
        findings.append(_folds_used(column, list(folds)))
        return [folds.get(_whole(cell), "") for cell in cells]
    strange = sorted({cell for cell in cells if cell and not split_named(cell)})
    if strange:
        findings.append(_split_not_used(f"{column!r}", strange, "train, validation and test"))
    if strange or not column:
        return [""] * number
    return [split_named(cell) or "" for cell in cells]


def _whole(cell: str) -> str:
    """A fold as a whole number: 1.0 is 1, as pandas writes numbers beside empty cells; "" for other text."""
    return str(int(float(cell))) if re.fullmatch(r"\d{1,3}(\.0+)?", cell) else ""


def _folds(cells: Sequence[str]) -> dict[str, str]:
    """Fold -> split, if the cells are the numbers of three to MAX_FOLDS folds: the first is for testing, the second for
    validation. Else empty."""
    filled = {cell for cell in cells if cell}
    numbers = sorted({int(whole) for cell in filled if (whole := _whole(cell))})
    if not all(map(_whole, filled)) or not 3 <= len(numbers) <= MAX_FOLDS:
        return {}
    return {str(fold): ("test", "validation", "train")[min(place, 2)] for place, fold in enumerate(numbers)}


def _folds_used(column: str | None, folds: Sequence[str]) -> Finding:
    meaning = (
        f"Column {column!r} numbers {len(folds)} folds: {folds[0]} is the test split, {folds[1]} the validation split."
    )
    return Finding("folds", "note", (), meaning, "The others are for training. For other splits, rename the column.")


def _flagged(table: LabelTable, flags: Sequence[str], findings: list[Finding]) -> list[str]:
    """The split of each row from boolean columns; empty if they contain other values."""
    told: list[list[str]] = [[] for _ in table.columns[flags[0]]]
    for names, true, false in _FLAGS:
        for column in (flag for flag in flags if plain_name(flag) in names):
            cells = [cell_text(value).lower() for value in table.columns[column]]
            if strange := sorted({cell for cell in cells if cell and cell not in _TRUTH}):
                findings.append(_split_not_used(repr(column), strange, "true and false, or 1 and 0"))
                return []
            for row, cell in zip(told, cells, strict=True):
                if cell and "true" not in row:
                    row[:] = ["true", true] if _TRUTH[cell] else ["false", false]
    return [row[1] if row else "" for row in told]


def _split_not_used(column: str, strange: list[str], expected: str) -> Finding:
    meaning = f"Column {column} holds {', '.join(map(repr, strange[:3]))}; expected {expected}."
    return Finding("split-not-used", "warning", (), meaning, "Images are split at random instead.")
