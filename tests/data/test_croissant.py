"""The description of a catalog, read by the format's own library."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tellapart as ta
from tests.command import call


def test_every_image_stands_in_the_description_with_its_label_and_split(two_shapes: Path, tmp_path: Path) -> None:
    done = call("check", two_shapes, "--croissant", tmp_path / "a.json")
    assert done.returncode == 0, done.stderr
    catalog = ta.read(two_shapes)
    written = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    assert written == catalog.to_croissant()
    expected = [(image.path, image.label, image.split) for image in catalog.images]
    assert [tuple(row.values()) for row in written["recordSet"][2]["data"]] == expected


@pytest.mark.filterwarnings("ignore")  # of rdflib, which it uses
def test_its_own_library_reads_it(two_shapes: Path, tmp_path: Path) -> None:
    library = pytest.importorskip("mlcroissant")
    catalog = ta.read(two_shapes)
    (tmp_path / "a.json").write_text(json.dumps(catalog.to_croissant()), encoding="utf-8")
    found = library.Dataset(jsonld=str(tmp_path / "a.json"))
    assert not found.metadata.issues.errors
    rows = list(found.records("images"))
    assert len(rows) == 60
    assert {row["images/label"] for row in rows} == {"disc", "stripes"}
    assert {row["images/split"] for row in rows} == {"train", "validation", "test"}
