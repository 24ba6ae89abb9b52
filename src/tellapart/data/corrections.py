"""corrections.csv: changes to labels, groups and membership of images, without touching an image file.

`check --deep --write` proposes one, a person edits it, `train --corrections` applies it to the rows of a source before
they are split. Columns: path, action (relabel, drop, regroup, keep), label, group, reason. A file that `decisions`
appends to has the column decision too: there the later row counts, and the action undo takes back those of its number.
"""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Literal, get_args

from tellapart.data.findings import Finding
from tellapart.data.sources.source import Source
from tellapart.errors import ConfigError, unknown
from tellapart.files import from_cell, replacing, write_csv
from tellapart.task import labels_of

Action = Literal["relabel", "drop", "regroup", "keep"]
ACTIONS: tuple[Action, ...] = get_args(Action)
COLUMNS = ("path", "action", "label", "group", "reason")
UNDO = "undo"
_DONE: dict[str, str] = {"relabel": "relabelled", "drop": "dropped", "regroup": "regrouped", "keep": "kept"}
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Correction:
    """One row. label: the new class, for relabel; group: for regroup; reason: in words, for the person who decides. A
    `keep` changes nothing: a person has looked at the image, and its label is right."""

    path: str
    action: Action
    label: str = ""
    group: str = ""
    reason: str = ""


def write_corrections(path: Path, corrections: Iterable[Correction]) -> None:
    """Write the csv atomically."""
    with replacing(path) as neighbour:
        write_csv(neighbour, [COLUMNS, *map(attrgetter(*COLUMNS), corrections)])


def read_corrections(path: Path) -> tuple[Correction, ...]:
    """The rows of a corrections.csv, as saved by a person or a spreadsheet: columns in any order, comma or semicolon.

    Raises ConfigError that names each wrong line.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"The corrections {path} cannot be read: {error.strerror}.") from None
    # Lines end as csv defines it: a file name may contain what Unicode considers a line break.
    lines = io.StringIO(content.decode("utf-8-sig", "surrogateescape"), newline="")
    first = lines.readline()
    lines.seek(0)
    rows = csv.DictReader(lines, delimiter=";" if ";" in first and "," not in first else ",")
    given = [name.strip() for name in rows.fieldnames or ()]
    rows.fieldnames = given
    if not {"path", "action"} <= set(given):
        raise ConfigError(
            f"{path} is not a table of corrections: its columns are {', '.join(given) or 'none'}; expected "
            f"{', '.join(COLUMNS)}, of which path and action are required."
        )
    log = "decision" in given
    corrections: list[tuple[str, Correction]] = []
    wrong = []
    for row in rows:
        cells = {column: from_cell(row.get(column) or "") for column in COLUMNS}
        number = (row.get("decision") or "").strip()
        if not any(cells.values()):
            continue
        if log and cells["action"].strip() == UNDO:
            corrections = [one for one in corrections if not number or one[0] != number]
            continue
        problem = _problem(cells)
        if problem:
            wrong.append(f"line {rows.line_num}: {problem}")
            continue
        corrections.append((number, _correction(cells)))
    found = [one for _, one in corrections]
    _refuse(path, wrong if log else [*wrong, *_contradictions(found)])
    return effective(found) if log else tuple(found)


def _correction(cells: dict[str, str]) -> Correction:
    action = next(action for action in ACTIONS if action == cells["action"].strip())
    label, group = (unicodedata.normalize("NFC", cells[name].strip()) for name in ("label", "group"))
    return Correction(cells["path"], action, label, group, cells["reason"])


def effective(corrections: Iterable[Correction]) -> tuple[Correction, ...]:
    """What counts of decisions in the order in which they were made: of an image the last relabel or drop, the last
    regroup, and a keep where it is neither relabelled nor dropped.

    >>> effective([Correction("1.jpg", "drop"), Correction("1.jpg", "relabel", "cat"), Correction("1.jpg", "keep")])
    (Correction(path='1.jpg', action='relabel', label='cat', group='', reason=''),)
    """
    rows = tuple(corrections)
    fates = {row.path: row for row in rows if row.action in ("relabel", "drop")}
    groups = {row.path: row for row in rows if row.action == "regroup"}
    kept = {row.path: row for row in rows if row.action == "keep" and row.path not in fates}
    return (*fates.values(), *groups.values(), *kept.values())


def _problem(cells: dict[str, str]) -> str:
    """What is wrong with a row, in words; empty if nothing."""
    action = cells["action"].strip()
    if not cells["path"]:
        return "it has no path"
    if action not in ACTIONS:
        return unknown("action", action, ACTIONS)
    lacking = {"relabel": "label", "regroup": "group"}.get(action, "")
    if lacking and not cells[lacking].strip():
        return f"{cells['path']} is to be {_DONE[action]}, but its {lacking} is empty"
    return ""


def _contradictions(corrections: Sequence[Correction]) -> list[str]:
    """Contradictory rows for the same image."""
    answers: dict[tuple[str, str], set[str]] = {}
    for row in corrections:
        answers.setdefault((row.path, row.action), set()).add(_object_of(row))
    return [
        f"{path} is to be {_DONE[action]} in conflicting ways: {', '.join(sorted(values))}"
        for (path, action), values in answers.items()
        if len(values) > 1
    ]


def corrected(source: Source, corrections: Sequence[Correction], name: str) -> Source:
    """The source with corrected rows, and a finding that counts the changes; name: of the file, for messages.

    Raises ConfigError for paths that the source does not have and labels that no image of it has.
    """
    labels = source.labels
    paths = {row.path for row in source.rows}
    wrong = [f"{c.path} is not among the {len(paths)} images" for c in corrections if c.path not in paths]
    wrong += [
        f"{c.path}: {unknown('class', c.label, labels)}"
        for c in corrections
        if c.action == "relabel" and not labels.issuperset(labels_of(c.label, source.several))
    ]
    _refuse(name, wrong)
    dropped = {c.path for c in corrections if c.action == "drop"}
    relabelled = {c.path: c.label for c in corrections if c.action == "relabel"}
    regrouped = {c.path: c.group for c in corrections if c.action == "regroup"}
    rows = tuple(
        replace(row, label=relabelled.get(row.path, row.label), group=regrouped.get(row.path, row.group))
        for row in source.rows
        if row.path not in dropped
    )
    counts = Counter(action for _, action in {(c.path, c.action) for c in corrections})
    done = ", ".join(f"{counts[action]} {_DONE[action]}" for action in ACTIONS if counts[action]) or "nothing to do"
    listed = tuple(f"{c.path} ({_DONE[c.action]}{_object(c)})" for c in corrections)
    finding = Finding("corrected", "note", listed, f"Corrections of {Path(name).name}: {done}.", "No file was touched.")
    return replace(source, rows=rows, findings=(*source.findings, finding))


def _object(correction: Correction) -> str:
    found = _object_of(correction)
    return f" {found}" if found else ""


def _object_of(correction: Correction) -> str:
    """As what it is relabelled or regrouped."""
    return {"relabel": correction.label, "regroup": correction.group}.get(correction.action, "")


def _refuse(name: Path | str, wrong: list[str]) -> None:
    if wrong:
        more = f"\n  and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        shown = "".join(f"\n  {line}" for line in wrong[:_SHOWN])
        raise ConfigError(f"{name} cannot be applied; nothing was done. Fix or remove these rows:{shown}{more}")
