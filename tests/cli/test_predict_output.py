"""Predictions of any names, printed and read again: by the csv module, by json, and by predict --resume."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tellapart.cli.predict_output import Output, withhold, write
from tellapart.cli.predict_resume import _key, _read
from tellapart.files import from_cell
from tellapart.inference.prediction import Prediction
from tests.strategies import names, texts

classes = st.lists(texts.map(lambda text: text or "x"), min_size=2, max_size=4, unique=True).map(tuple)
shares = st.floats(0, 1)


@st.composite
def predictions(draw: st.DrawFn) -> tuple[tuple[str, ...], list[Prediction]]:
    """Classes, and what was said of some images, of which some could not be read."""
    known = draw(classes)
    rows = []
    for name in draw(st.lists(names, max_size=5)):
        if draw(st.booleans()):
            rows.append(Prediction(name, error=draw(texts.map(lambda text: text or "x") | names)))
            continue
        values = {label: draw(shares) for label in known}
        label = draw(st.sampled_from(known))
        verdict = draw(st.sampled_from(["", "sure", "unsure", "unlike"]))
        distance, warning = draw(shares | st.just(float("nan"))), draw(st.just("") | texts)
        rows.append(Prediction(name, label, values[label], values, verdict, distance, warning=warning))
    return known, rows


def shown(name: str) -> str:
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def printed(known: tuple[str, ...], rows: list[Prediction], output: Output) -> str:
    file = io.StringIO(newline="")
    assert write(file, rows, known, output) == sum(bool(row.error) for row in rows)
    return file.getvalue()


def figure(value: float) -> str:
    return "" if value != value else f"{value:.6f}"


@given(said=predictions(), output=st.sampled_from(Output))
@example(said=(("x", "\r"), []), output=Output.excel)
@settings(max_examples=60)
def test_sure_verdicts_that_are_withheld_afterwards_leave_what_would_have_been_written_without_them(
    said: tuple[tuple[str, ...], list[Prediction]], output: Output
) -> None:
    known, rows = said
    rows = [replace(row, verdict=row.verdict or "unlike") for row in rows]
    others = [replace(row, verdict="unsure") if row.verdict == "sure" else row for row in rows]
    changed = io.StringIO(newline="")
    withhold(io.StringIO(printed(known, rows, output), newline=""), changed, output)
    assert changed.getvalue() == printed(known, others, output)


def test_unlike_heads_the_row_and_the_object_before_any_class() -> None:
    values = {"disc": 0.99999, "stripes": 0.00001}
    found = Prediction("a.png", "disc", values["disc"], values, "unlike", 0.8)
    row = printed(("disc", "stripes"), [found], Output.table)
    assert row.split() == ["unlike", "disc", ">", "99.9", "%", "a.png"]
    keys = list(json.loads(printed(("disc", "stripes"), [found], Output.jsonl)))
    assert keys.index("verdict") < keys.index("label")


@given(predictions())
@example((("a\rb", "c"), [Prediction("1.jpg", "a\rb", 0.5, {"a\rb": 0.5, "c": 0.5}, "sure", 0.5)]))
@settings(max_examples=80)
def test_csv_is_read_again_row_for_row_by_the_csv_module(given: tuple[tuple[str, ...], list[Prediction]]) -> None:
    known, rows = given
    header, *found = csv.reader(io.StringIO(printed(known, rows, Output.csv), newline=""))
    assert list(map(from_cell, header)) == [
        "path",
        "label",
        "probability",
        "verdict",
        "distance",
        *known,
        "warning",
        "error",
    ]
    for row, cells in zip(rows, found, strict=True):
        values = [figure(row.probabilities.get(label, float("nan"))) for label in known]
        said = [row.label, figure(row.probability), row.verdict, figure(row.distance)]
        assert list(map(from_cell, cells)) == [shown(row.path), *said, *values, shown(row.warning), shown(row.error)]


@given(predictions())
@settings(max_examples=40)
def test_json_and_its_lines_are_read_again_as_the_same_objects(given: tuple[tuple[str, ...], list[Prediction]]) -> None:
    known, rows = given
    lines = [json.loads(line) for line in printed(known, rows, Output.jsonl).split("\n")[:-1]]
    assert json.loads(printed(known, rows, Output.json)) == lines
    assert [line["path"] for line in lines] == [shown(row.path) for row in rows]
    for row, line in zip(rows, lines, strict=True):
        if row.error:
            assert line == {"path": shown(row.path), "error": shown(row.error)}
        else:
            assert (line["label"], list(line["probabilities"])) == (row.label, list(known))


@given(predictions(), st.sampled_from([Output.csv, Output.jsonl]), st.data())
@settings(max_examples=80)
def test_rows_that_were_written_are_found_again_and_a_cut_one_is_not(
    given: tuple[tuple[str, ...], list[Prediction]], output: Output, data: st.DataObject
) -> None:
    known, rows = given
    whole = printed(known, rows, output).encode()
    wanted = Counter(_key(shown(row.path)) for row in rows)
    assert _read(io.BytesIO(whole), Path("rows"), known, output) == (
        len(whole), sum(bool(row.error) for row in rows), wanted,
    )  # fmt: skip
    cut = data.draw(st.integers(0, len(whole)))
    end, errors, done = _read(io.BytesIO(whole[:cut]), Path("rows"), known, output)
    assert end <= cut
    assert _read(io.BytesIO(whole[:end]), Path("rows"), known, output) == (end, errors, done)
    assert done <= wanted
