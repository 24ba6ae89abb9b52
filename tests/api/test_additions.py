"""`train DATA --from RUN`: images are added, and the test images stay what they were."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

import tellapart as ta
from tellapart.api.additions import joined, settings_of
from tellapart.errors import RunError, SourceError
from tellapart.progress import SILENT
from tests.command import call
from tests.conftest import draw

pytest.importorskip("keras")


@pytest.fixture
def more(tmp_path: Path, two_shapes: Path, shapes_run: Path) -> Path:
    """Four new images, one of a new class; one of the run under another name and label; a test image in another
    format, which looks the same."""
    folder = tmp_path / "more"
    for kind, numbers in (("disc", (80, 81)), ("stripes", (82,)), ("square", (83,))):
        (folder / kind).mkdir(parents=True)
        for number in numbers:
            draw(kind, number).save(folder / kind / f"{number}.png")
    catalog = ta.open_run(shapes_run).catalog
    known = next(image for image in catalog.split("train").images if image.label == "disc")
    shutil.copy(two_shapes / known.path, folder / "stripes" / "was a disc.png")
    tested = next(image for image in catalog.split("test").images if image.label == "disc")
    again = next(image for image in catalog.split("test").images if image.label == "stripes")
    shutil.copy(two_shapes / again.path, folder / "stripes" / "tested before.png")
    with Image.open(two_shapes / tested.path) as image:
        image.save(folder / "disc" / "tested.webp", lossless=True)
    return folder


def test_the_test_images_stay_and_what_looks_like_one_is_left_out(shapes_run: Path, more: Path) -> None:
    run = ta.open_run(shapes_run)
    found = joined(run, more, settings_of(run), SILENT)
    before, after = run.catalog, found.catalog
    assert sorted(i.digest for i in after.split("test").images) == sorted(i.digest for i in before.split("test").images)
    split = {image.digest: image.split for image in after.images}
    assert all(split[image.digest] == image.split for image in before.images)
    assert len(after.images) == len(before.images) + 4
    assert not [image for image in after.images if image.path.endswith(".webp")]
    (relabelled,) = [image for image in after.images if image.path.endswith("was a disc.png")]
    assert relabelled.label == "stripes"
    assert after.task.classes == ("disc", "square", "stripes")
    text = " ".join(found.told)
    for part in (
        "4 new images",
        "stay the test images",
        "new classes: square",
        "1 new image left out",
        "another label",
    ):
        assert part in text
    assert all((after.root / image.path).is_file() for image in after.images)


def test_nothing_new_and_images_that_are_gone_are_told(
    shapes_run: Path, more: Path, two_shapes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run = ta.open_run(shapes_run)
    with pytest.raises(SourceError, match="nothing is new"):
        joined(run, two_shapes, settings_of(run), SILENT)
    record = run.record
    gone = property(lambda _: type(record)(**{**vars(record), "data": str(tmp_path / "gone")}))
    monkeypatch.setattr(type(run), "record", gone)
    with pytest.raises(RunError, match="new location"):
        joined(run, more, settings_of(run), SILENT)


@pytest.mark.slow
def test_the_command_trains_with_the_settings_of_the_run_and_compares(
    shapes_run: Path, two_shapes: Path, tmp_path: Path
) -> None:
    for kind in ("disc", "stripes"):
        (tmp_path / "more" / kind).mkdir(parents=True)
        draw(kind, 90).save(tmp_path / "more" / kind / "90.png")
    done = call("train", tmp_path / "more", "--from", shapes_run, "--out", tmp_path / "next")
    assert done.returncode == 0, done.stderr
    assert "2 new images" in done.stderr + done.stdout
    assert "compare " in done.stdout
    after, before = ta.open_run(tmp_path / "next"), ta.open_run(shapes_run)
    assert after.config.model == before.config.model
    assert len(after.catalog.images) == len(before.catalog.images) + 2
    assert ta.compare(before, after).n == len(before.catalog.split("test"))
    assert after.predict(two_shapes / "disc")[0].label in ("disc", "stripes")
