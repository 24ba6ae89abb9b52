"""A run of images that are no files: trained, reported, evaluated, explained, looked at and trained again."""

from __future__ import annotations

from pathlib import Path

import pytest

import tellapart as ta
from tests.data.shards import CLASSES, in_parquet, photographs

pytestmark = pytest.mark.slow
SMALL = [
    "model.name=cnn", "model.filters=[4]", "model.dense=[4]", "image.height=24", "image.width=24", "train.epochs=1",
]  # fmt: skip


def test_a_run_of_shards_finds_each_image_again_wherever_images_are_read(tmp_path: Path) -> None:
    pytest.importorskip("keras")
    from tellapart.runs.relocate import relocate
    from tellapart.runs.run import open_run
    from tellapart.studio.images import shown
    from tellapart.studio.thumbnails import Thumbnails

    (tmp_path / "set").mkdir()
    data = in_parquet(tmp_path / "set", photographs())
    run = ta.train(data, settings=SMALL, out=tmp_path / "run")
    catalog = run.catalog
    assert catalog.task.classes == CLASSES
    assert all("#" in image.path for image in catalog.images)
    assert ".jpg" not in "".join(path.name for path in data.rglob("*"))
    report = run.report_file.read_text("utf-8")
    assert report.count("data:image/") > 3
    assert ta.evaluate(run, data, split="test").n == 6
    path = catalog.images[0].path
    (said,) = ta.predict(run, data / path)
    assert not said.error
    assert set(said.probabilities) == set(CLASSES)
    assert run.explain(data / path).probability > 0
    content, kind = shown(catalog.root, catalog.images[0], 160, Thumbnails())
    assert kind == "image/jpeg"
    assert content
    again = ta.read(run.catalog_file, root=str(data))  # as the studio trains again
    assert {(image.digest, image.label, image.split) for image in again.images} == {
        (image.digest, image.label, image.split) for image in catalog.images
    }
    moved = data.rename(tmp_path / "moved")
    relocate(open_run(run.path), moved)
    assert open_run(run.path).catalog.root == moved
