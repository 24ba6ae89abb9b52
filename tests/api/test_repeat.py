"""docs/how-to/repeat.md: the same images and seed are the same run, whatever was done with them before."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import tellapart as ta
from tellapart.data.sources import read_source

pytest.importorskip("keras")
pytest.importorskip("cleanlab")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, some of them twice: recompressed, and larger."""
    folder = tmp_path_factory.mktemp("photos")
    source = read_source("builtin:pets", ta.Config().data)
    for number, row in enumerate(source.rows[::4]):
        (folder / row.label).mkdir(exist_ok=True)
        shutil.copy(source.root / row.path, folder / row.path)
        if number % 5 == 0:
            photo = Image.open(source.root / row.path)
            photo.save(folder / row.label / f"copy {number}.jpg", quality=60)
        if number % 5 == 1:
            photo = Image.open(source.root / row.path)
            photo.resize((2 * photo.width, 2 * photo.height)).save(folder / row.label / f"large {number}.jpg")
    return folder


def nothing(_: Path, __: Path) -> None:
    """A first run, in a cache that holds nothing."""


def a_training_at_another_size(folder: Path, work: Path) -> None:
    ta.train(folder, out=work / "before", model="dense", image_size=64, epochs=1)


def a_deep_check(folder: Path, _: Path) -> None:
    assert ta.check(folder, deep=True).catalog.findings


@pytest.mark.slow
def test_two_trainings_with_one_seed_have_one_catalog_whatever_ran_before(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = set()
    before: tuple[Callable[[Path, Path], None], ...] = (nothing, a_training_at_another_size, a_deep_check)
    for each in before:
        work = tmp_path / each.__name__
        work.mkdir()
        monkeypatch.setenv("TELLAPART_CACHE", str(work / "cache"))
        each(photos, work)
        run = ta.train(photos, out=work / "run", seed=3)
        record = json.loads((run.path / "run.json").read_text("utf-8"))
        found.add(((run.path / "catalog.csv").read_bytes(), json.dumps(record["findings"])))
    assert len(found) == 1
    assert "near-duplicate" in found.pop()[1]
