"""Any names on the disk, in a table or in an archive: read back to the same labels, or refused in words."""

from __future__ import annotations

import csv
import io
import os
import re
import tempfile
import unicodedata
import zipfile
from contextlib import suppress
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tellapart.config import DataConfig
from tellapart.data.sources import Source, open_row, read_source
from tellapart.data.sources.archive import unpack
from tellapart.errors import SourceError
from tests.strategies import labels, members, names, texts

SPLIT_WORDS = re.compile(r"(?i)(train|training|val|valid|validation|test|testing)([ _-]set)?|test1")


def composed(name: str) -> str:
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "backslashreplace"))


def answer(data: str | Path) -> Source | str:
    """The source, or why there is none."""
    try:
        return read_source(data, DataConfig())
    except SourceError as error:
        return str(error)


images = st.builds("{}.{}".format, names, st.sampled_from(["jpg", "PNG", "webp", "tiff"]))


@given(
    st.dictionaries(
        names,
        st.dictionaries(st.none() | names, st.sets(images, min_size=1, max_size=3), min_size=1, max_size=2),
        min_size=2,
        max_size=4,
    )
)
@settings(max_examples=60)
def test_any_tree_of_folders_is_read_back_to_its_labels(tree: dict[str, dict[str | None, set[str]]]) -> None:
    expected = {}
    with tempfile.TemporaryDirectory() as folder:
        for top, inner in tree.items():
            for sub, files in inner.items():
                label = top if sub is None else f"{top}/{sub}"
                for file in files:
                    path = Path(folder, label, file)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    if path.is_dir():  # a folder inside is named like an image
                        continue
                    path.touch()
                    # Blanks at the ends of folder names are no part of the class.
                    expected[f"{label}/{file}"] = composed("/".join(part.strip() or part for part in label.split("/")))
        if all(SPLIT_WORDS.fullmatch(top.strip()) for top in tree):
            return  # split folders, which have properties of their own
        source = answer(folder)
        if isinstance(source, str):
            assert len(set(expected.values())) < 2, source
            assert "needs two classes" in source or "one folder only" in source
            return
        assert {row.path: row.label for row in source.rows} == expected
        assert all(not row.split and Path(str(open_row(source.root, row.path))).is_file() for row in source.rows)


@given(
    st.dictionaries(images, labels, min_size=1, max_size=5),
    st.sampled_from(",;\t|"),
    st.sampled_from([(csv.QUOTE_ALL, "\n"), (csv.QUOTE_ALL, "\r\n"), (csv.QUOTE_MINIMAL, "\r\n")]),
    st.booleans(),
)
@settings(max_examples=80)
def test_any_table_of_names_and_labels_is_read_back_or_refused(
    rows: dict[str, str], delimiter: str, form: tuple[int, str], beside: bool
) -> None:
    rows = {**rows, "plain 1.jpg": "cat", "plain 2.jpg": "dog"}
    with tempfile.TemporaryDirectory() as folder:
        for name in rows:
            Path(folder, name).touch()
        table = Path(folder, "our table.csv")
        with table.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            writer = csv.writer(file, delimiter=delimiter, quoting=form[0], lineterminator=form[1])
            writer.writerows([("path", "label"), *rows.items()])
        source = answer(folder if beside else table)
    if isinstance(source, str):
        assert "several labels" in source
        assert any(mark in label for label in rows.values() for mark in ",;|")
        return
    found = {row.path: row.label for row in source.rows}
    told = {path for finding in source.findings for path in finding.paths}
    for name, label in rows.items():
        if name in found:
            assert found[name] == composed(label.strip())
        else:  # space around a name in a table is taken for the typist's, and an empty list of labels is none
            assert name != name.strip() or label.strip() == "[]"
            assert {name, name.strip()} & told
    assert found.keys() <= rows.keys()


@given(st.text(st.sampled_from('path,label;\t|"\n\r 1.jpgé\0\ufeff'), max_size=80) | texts)
@settings(max_examples=80)
def test_any_text_as_a_table_gives_a_source_or_a_source_error(text: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("1.jpg", "p.jpg", "é.jpg"):
            Path(folder, name).touch()
        table = Path(folder, "t.csv")
        table.write_text(text, encoding="utf-8", newline="")
        source = answer(table)
    if isinstance(source, str):
        assert "t.csv" in source
    else:
        assert len({row.label for row in source.rows}) >= 2


parts = members | members.map("{}.jpg".format) | st.sampled_from(["..", ".", "", "/", "C:\\", "a", "cats"])


@given(st.dictionaries(st.lists(parts, min_size=1, max_size=4).map("/".join), st.binary(max_size=20), min_size=1))
@example({"": b"no name"})
@settings(max_examples=60)
def test_no_names_in_an_archive_lead_outside(content: dict[str, bytes]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as bundle:
        for name, data in content.items():
            info = zipfile.ZipInfo(name)
            info.filename = name  # as others write it
            if name not in bundle.NameToInfo:
                bundle.writestr(info, b"" if name.endswith("/") else data)
    with tempfile.TemporaryDirectory() as folder:
        archive, target = Path(folder, "a.zip"), Path(folder, "deep", "er", "target")
        archive.write_bytes(packed.getvalue())
        refused = True
        with suppress(SourceError):
            unpack(archive, target)
            refused = False
        there = {path for path in Path(folder).rglob("*") if not path.is_relative_to(target)}
        assert there == {archive, target.parent, target.parent.parent}
        assert target.exists() != refused
        if any(".." in name.replace("\\", "/").split("/") or name.startswith(("/", "\\")) for name in content):
            assert refused
