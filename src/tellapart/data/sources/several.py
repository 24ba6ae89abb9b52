"""The cells of a label column -> one label each, or several: found by looking, or as data.kind says.

Several labels of an image are one text, `a|b`, in the order of the classes; none of them is an empty text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tellapart.data.findings import Finding
from tellapart.data.sources.listing import counted, label_text, natural_key
from tellapart.errors import SourceError, some
from tellapart.task import SEPARATOR

_QUOTED_LIST = re.compile(r"\[\s*(['\"]).*\1\s*\]|\[\s*\]", re.DOTALL)


@dataclass(frozen=True)
class Cells:
    """parts: the labels of each cell, none of an empty one. several: whether a cell may have several."""

    parts: list[tuple[str, ...]]
    several: bool


def read_cells(texts: list[str], place: str, kind: str | None, findings: list[Finding]) -> Cells:
    """kind: data.kind. Without it, several labels are found where cells clearly name them: a written list, or parts
    between | ; , that are labels of other rows. place: for messages.

    Raises SourceError for such cells where images have one label.

    >>> read_cells(["a", "a|b", "b", ""], "t.csv", None, []).parts
    [('a',), ('a', 'b'), ('b',), ()]
    """
    parts = {text: _parts(text) for text in set(texts)}
    if kind == "multilabel":
        return Cells([tuple(filter(None, parts[text])) for text in texts], True)
    whole = {"".join(found) for found in parts.values() if len(found) == 1}
    several = _several(parts, whole)
    if several and kind is None:
        marks = set(map(_mark, several))
        split = {text for text in parts if _mark(text) in marks} | several
        return Cells([tuple(filter(None, parts[text] if text in split else [text])) for text in texts], True)
    if several:
        rows = [number for number, text in enumerate(texts) if text in several]
        raise SourceError(
            f"{place}: {counted(len(rows), 'row')} {'names' if len(rows) == 1 else 'name'} "
            f"several labels, such as {label_text(texts[rows[0]])[:80]!r} in row {rows[0] + 1}. An image has one "
            "label here: omit these rows, or keep one label in each. If a combination is a class of "
            "its own, give it another kind of name, such as 'cat and dog'."
        )
    findings.extend(_may_be_several(parts, whole))
    lists = {text for text in parts if _QUOTED_LIST.fullmatch(text)}
    return Cells([("".join(parts[text]) if text in lists else text,) for text in texts], False)


def joined(labels: Sequence[Sequence[str]], name: str, findings: list[Finding]) -> list[str]:
    """The text of each image with several labels, and a finding that tells how many there are. name: of the table.

    Raises SourceError for a label that holds the separator.
    """
    odd = sorted({label for held in labels for label in held if SEPARATOR in label})
    if odd:
        raise SourceError(f"{name}: the label {odd[0]!r} holds {SEPARATOR!r}, which separates labels. Rename it.")
    counts = [sum(len(set(held)) > 1 for held in labels), sum(not held for held in labels)]
    more, none = (f"{count:,} {'has' if count == 1 else 'have'}" for count in counts)
    meaning = f"Images may have several labels: of {counted(len(labels), 'row')} {more} more than one, {none} none."
    done = "A network is trained to tell for each label whether it is there. For one label an image: --kind multiclass."
    findings.append(Finding("multilabel", "note", (), meaning, done))
    return [SEPARATOR.join(sorted(set(held), key=natural_key)) for held in labels]


def _several(parts: dict[str, list[str]], whole: set[str]) -> set[str]:
    """The cells that clearly name several labels. whole: those that name one."""
    places = [(part, text) for text, found in parts.items() for part in dict.fromkeys(found) if len(found) > 1]
    shared = _in_several(places)
    return {
        text
        for text, found in parts.items()
        if len(found) > 1
        and (
            _QUOTED_LIST.fullmatch(text)
            or whole.issuperset(found)
            or (("|" in text or ";" in text) and all(part in whole or part in shared for part in found))
        )
    }


def _may_be_several(parts: dict[str, list[str]], whole: set[str]) -> list[Finding]:
    made = sorted(text for text, found in parts.items() if _made_of_others(text, found, whole))
    if not made:
        return []
    meaning = f"{counted(len(made), 'class')} whose name may be several labels: {some(list(map(label_text, made)), 5)}."
    done = "Kept as classes of their own. If they are several labels, read them with --kind multilabel."
    return [Finding("several-labels", "warning", (), meaning, done)]


def _made_of_others(text: str, parts: list[str], whole: set[str]) -> bool:
    if len(parts) > 1:
        return "|" in text or ";" in text or not whole.isdisjoint(parts)
    words = text.split()
    return len(words) > 1 and whole.issuperset(words)


def _mark(text: str) -> str:
    """What separates the parts of a cell: the first of | ; , that it holds, "[" for a written list; "" for none."""
    return "[" if _QUOTED_LIST.fullmatch(text) else next((mark for mark in "|;," if mark in text), "")


def _parts(text: str) -> list[str]:
    """The parts between the separators of a cell, or of a written list; the text itself if it has none."""
    mark = _mark(text)
    written = mark == "["
    inner = text[1:-1] if written else text
    separator = "," if written else mark
    found = [
        part.strip().strip("'\"" if written else "").strip() for part in (inner.split(separator) if mark else [inner])
    ]
    return found if written or all(found) else [text]


def _in_several(places: Iterable[tuple[str, str]]) -> set[str]:
    """The parts that occur in more than one text."""
    first: dict[str, str] = {}
    return {part for part, text in places if first.setdefault(part, text) != text}
