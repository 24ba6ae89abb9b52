"""The tables that tellapart writes for itself and for people: any names come back as they were."""

from __future__ import annotations

import tempfile
import unicodedata
from contextlib import suppress
from pathlib import Path

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tellapart.data.catalog import SPLITS, Catalog, ImageRecord, read_images
from tellapart.data.corrections import ACTIONS, Correction, read_corrections, write_corrections
from tellapart.errors import ConfigError
from tellapart.inference.evaluate_split import write_predictions
from tellapart.inference.predictor import Metadata, prediction
from tellapart.runs.predictions import StoredPrediction
from tellapart.runs.run import create_run
from tellapart.runs.shared_images import common_images
from tellapart.task import ImageSpec, Task
from tests.strategies import labels, names, words
from tests.values import plan

paths = st.lists(names, min_size=1, max_size=3).map("/".join)
classes = st.lists(labels, min_size=2, max_size=4, unique=True).map(tuple)


@st.composite
def catalogs(draw: st.DrawFn) -> Catalog:
    known = draw(classes)
    digits = st.text(st.sampled_from("0123456789abcdef"), min_size=1, max_size=4)
    image = st.builds(
        ImageRecord, paths, st.sampled_from(known), st.sampled_from(("", *SPLITS)), words,
        digits, st.integers(0, 9999), st.integers(0, 9999), st.sampled_from(["RGB", "I;16", ""]), names | st.just(""),
        digits,
    )  # fmt: skip
    images = draw(st.lists(image, max_size=6, unique_by=lambda p: p.path))
    return Catalog(Path("/images"), Task(known), tuple(images))


@given(catalogs())
@settings(max_examples=60)
def test_any_catalog_is_read_again(catalog: Catalog) -> None:
    with tempfile.TemporaryDirectory() as folder:
        catalog.write(Path(folder, "catalog.csv"))
        assert read_images(Path(folder, "catalog.csv")) == catalog.images


tidy = labels.map(lambda label: unicodedata.normalize("NFC", label).strip()).filter(bool)
corrections = st.one_of(
    st.builds(Correction, paths, st.just("relabel"), label=tidy, reason=words),
    st.builds(Correction, paths, st.just("regroup"), group=tidy, reason=words),
    st.builds(Correction, paths, st.just("drop"), reason=words),
)


@given(st.lists(corrections, max_size=5, unique_by=lambda row: row.path).map(tuple))
@example((Correction("one\u2028line\x0c.jpg", "drop"), Correction("a\rb.jpg", "relabel", label="c\x85d")))
@settings(max_examples=80)
def test_any_corrections_are_read_again(rows: tuple[Correction, ...]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "corrections.csv")
        write_corrections(path, rows)
        assert read_corrections(path) == rows


@given(st.text(st.sampled_from('path,action;dropelb"\n\r\x0c\ufeff'), max_size=60) | words)
@settings(max_examples=80)
def test_any_text_as_corrections_gives_rows_or_a_config_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "corrections.csv")
        for start in ("", "path,action\n", "path;action;label\r\n1.jpg;drop;\r\n"):
            path.write_text(start + text, encoding="utf-8", newline="")
            with suppress(ConfigError):
                assert all(row.path and row.action in ACTIONS for row in read_corrections(path))


@given(classes, st.sets(paths, min_size=1, max_size=4), st.data())
@settings(max_examples=40)
def test_what_a_run_said_of_any_images_is_read_again(
    known: tuple[str, ...], given: set[str], data: st.DataObject
) -> None:
    task, spec = Task(known), ImageSpec(8, 8)
    images = [
        ImageRecord(path, data.draw(st.sampled_from(known)), "test", "", str(number), 8, 8, "RGB")
        for number, path in enumerate(sorted(given))
    ]
    catalog = Catalog(Path("/images"), task, tuple(images))
    said = [data.draw(st.integers(0, len(known) - 1)) for _ in images]
    rows = [
        prediction(Metadata(task, spec), p.path, np.eye(len(known))[best], 0.5)
        for p, best in zip(images, said, strict=True)
    ]
    with tempfile.TemporaryDirectory() as folder:
        run = create_run(Path(folder, "run"), plan(), catalog)
        write_predictions(run, catalog, rows)
        found = common_images([run, run], ["one", "other"])
    assert {p.path: p.answers[0] for p in found.images} == {
        p.path: StoredPrediction(known[best], 1.0) for p, best in zip(images, said, strict=True)
    }
