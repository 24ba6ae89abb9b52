"""Batches: the same for any number of workers, with or without a cache; in a stored order; errors name the image."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tellapart.config import AUGMENTATIONS
from tellapart.data.augment import apply, draw
from tellapart.data.batches import Batches, Images, labels_of
from tellapart.data.cache import PixelCache, content_digest
from tellapart.data.catalog import ImageRecord
from tellapart.data.pixels import read
from tellapart.errors import ConfigError, ImageError
from tellapart.task import ImageSpec, Task

SPEC = ImageSpec(12, 16)
COUNT = 23
MEDIUM = AUGMENTATIONS["medium"]


def open_file(root: Path, path: str) -> Path:
    return root / path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of 23 images, each of its own."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(COUNT):
        noise = np.random.default_rng(number).integers(0, 256, (5, 6, 3), np.uint8)
        Image.fromarray(noise).resize((40, 30)).save(folder / f"{number}.png")
    return folder


def catalogued(root: Path) -> list[ImageRecord]:
    return [
        ImageRecord(f"{number}.png", "a", digest=content_digest((root / f"{number}.png").read_bytes()))
        for number in range(COUNT)
    ]


def images(root: Path, cache: PixelCache | None = None) -> Images:
    return Images(root, catalogued(root), SPEC, open_row=open_file, cache=cache)


LABELS = np.arange(COUNT, dtype=np.float32)[:, None]


def seen(batches: Batches, epoch: int) -> list[int]:
    return [int(label) for _, labels in batches.epoch(epoch) for label in labels[:, 0]]


def test_labels_follow_the_task() -> None:
    binary = labels_of(Task(("cat", "dog")), np.array([0, 1, 1]))
    assert binary.tolist() == [[0.0], [1.0], [1.0]]
    assert binary.dtype == labels_of(Task(("a", "b", "c")), np.array([0])).dtype == np.float32


def test_an_epoch_shows_each_image_once_with_its_label_and_a_short_batch_last(root: Path) -> None:
    batches = Batches(images(root), LABELS, 5)
    assert len(batches) == 5
    assert [len(labels) for _, labels in batches.epoch()] == [5, 5, 5, 5, 3]
    assert seen(batches, 0) == seen(batches, 4) == list(range(COUNT))
    for found, labels in batches.epoch():
        assert found.dtype == np.uint8
        for pixels, label in zip(found, labels[:, 0], strict=True):
            assert np.array_equal(pixels, read(root / f"{int(label)}.png", SPEC))


def test_the_order_is_drawn_from_seed_and_epoch_alone(root: Path) -> None:
    batches = Batches(images(root), LABELS, 4, shuffle=True, seed=1)
    first = seen(batches, 0)
    assert sorted(first) == list(range(COUNT)) != first
    assert seen(batches, 1) != first
    again = Batches(images(root), LABELS, 7, shuffle=True, seed=1)
    assert seen(again, 1) == seen(batches, 1)
    assert seen(again, 0) == first
    assert seen(Batches(images(root), LABELS, 4, shuffle=True, seed=2), 0) != first


@pytest.mark.parametrize(("size", "steps"), [(4, 3), (5, 9), (50, 1)])
def test_with_steps_the_epochs_are_pieces_of_one_row_of_passes(root: Path, size: int, steps: int) -> None:
    batches = Batches(images(root), LABELS, size, shuffle=True, seed=1, steps=steps)
    assert len(batches) == steps
    whole = [label for epoch in range(4) for label in seen(batches, epoch)]
    assert len(whole) == 4 * size * steps
    passes = Batches(images(root), LABELS, COUNT, shuffle=True, seed=1)
    endless = [label for epoch in range(len(whole) // COUNT + 1) for label in seen(passes, epoch)]
    assert whole == endless[: len(whole)]


def test_no_warp_comes_twice_though_an_image_comes_twice_in_an_epoch(root: Path) -> None:
    batches = Batches(images(root), LABELS, 23, augment=MEDIUM, steps=2)
    (first, _), (second, _) = batches.epoch(0)
    assert all(not np.array_equal(one, other) for one, other in zip(first, second, strict=True))
    assert np.array_equal(batches.batch(0, 1)[0], Batches(images(root), LABELS, 23, augment=MEDIUM).batch(0, 2)[0])


def test_an_image_is_warped_as_its_place_in_the_catalog_says(root: Path) -> None:
    batches = Batches(images(root), LABELS, 6, shuffle=True, augment=MEDIUM, seed=9)
    found, labels = batches.batch(1, epoch=3)
    rows = labels[:, 0].astype(int)
    expected = np.stack([read(root / f"{row}.png", SPEC) for row in rows])
    apply(expected, draw(MEDIUM, SPEC.shape, 9, 3, rows), MEDIUM)
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_any_number_of_workers_gives_the_same_batches(root: Path, tmp_path: Path, workers: int) -> None:
    with PixelCache(SPEC, root=tmp_path / "cache") as cache:
        batches = Batches(images(root, cache), LABELS, 3, shuffle=True, augment=MEDIUM, seed=2, steps=11)
        plain = Batches(images(root), LABELS, 3, shuffle=True, augment=MEDIUM, seed=2, steps=11)
        for index, (found, labels) in enumerate(batches.epoch(1, workers=workers, ahead=7)):
            expected, expected_labels = plain.batch(index, 1)
            assert np.array_equal(found, expected)
            assert np.array_equal(labels, expected_labels)


def test_each_image_is_decoded_once_and_batches_then_open_no_file(root: Path, tmp_path: Path) -> None:
    opened: list[str] = []

    def counting(folder: Path, path: str) -> Path:
        opened.append(path)
        return folder / path

    rows = catalogued(root)
    twice = [*rows, rows[0]]
    labels = np.zeros((len(twice), 1), np.float32)
    for expected in (COUNT, 0):
        opened.clear()
        with PixelCache(SPEC, root=tmp_path / "cache") as cache:
            source = Images(root, twice, SPEC, open_row=counting, cache=cache)
            for row in range(len(source)):
                source.take(np.array([row]))
            assert len(opened) == expected
            for found, _ in Batches(source, labels, 8).epoch():
                assert found.shape[1:] == SPEC.shape
            assert len(opened) == expected


def test_training_data_larger_than_the_limit_gives_identical_batches(root: Path, tmp_path: Path) -> None:
    limit = 9 * SPEC.height * SPEC.width * 3
    with PixelCache(SPEC, root=tmp_path / "cache", limit_bytes=limit) as cache:
        source = images(root, cache)
        source.take(np.arange(len(source)))
        assert "limit" in cache.problem
        batches = Batches(source, LABELS, 4, shuffle=True, augment=MEDIUM)
        plain = Batches(images(root), LABELS, 4, shuffle=True, augment=MEDIUM)
        for epoch in range(2):
            for (found, _), (expected, _) in zip(batches.epoch(epoch, workers=2), plain.epoch(epoch), strict=True):
                assert np.array_equal(found, expected)


def test_a_cache_that_fails_gives_identical_batches(root: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"")
    with PixelCache(SPEC, root=tmp_path / "cache") as cache:
        source = images(root, cache)
        source.take(np.arange(len(source)))
        assert np.array_equal(source.take(np.array([3, 1])), images(root).take(np.array([3, 1])))


def test_a_damaged_record_is_decoded_again_and_mended(root: Path, tmp_path: Path) -> None:
    with PixelCache(SPEC, root=tmp_path / "cache") as cache:
        images(root, cache).take(np.arange(COUNT))
    (data,) = (tmp_path / "cache").glob("*/data-*.bin")
    whole = data.read_bytes()
    data.write_bytes(b"\0" * 900 + whole[900:])
    with PixelCache(SPEC, root=tmp_path / "cache") as cache:
        everything = np.arange(COUNT)
        assert np.array_equal(images(root, cache).take(everything), images(root).take(everything))
    assert data.read_bytes() == whole


def test_pixels_that_augmentation_changed_never_reach_the_cache(root: Path, tmp_path: Path) -> None:
    with PixelCache(SPEC, root=tmp_path / "cache") as cache:
        for _ in Batches(images(root, cache), LABELS, 4, augment=MEDIUM).epoch():
            pass
        assert not cache.missing(image.digest for image in catalogued(root))
        everything = np.arange(COUNT)
        assert np.array_equal(images(root, cache).take(everything), images(root).take(everything))


def test_rows_of_an_array_source_need_no_file(tmp_path: Path) -> None:
    arrays = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8)
    spec = ImageSpec(28, 28, channels=1)
    rows = [ImageRecord(str(number), "a", digest=content_digest(array)) for number, array in enumerate(arrays)]
    opened: list[str] = []

    def open_array(_: Path, path: str) -> np.ndarray:
        opened.append(path)
        return arrays[int(path)]

    with PixelCache(spec, root=tmp_path) as cache:
        source = Images(tmp_path, rows, spec, open_row=open_array, cache=cache)
        for _ in range(2):
            assert np.array_equal(source.take(np.array([2, 0]))[..., 0], arrays[[2, 0]])
        assert opened == ["2", "0"]


def test_an_image_that_is_gone_broken_or_changed_is_named(root: Path, tmp_path: Path) -> None:
    source = images(root)
    (root / "3.png").unlink()
    (root / "4.png").write_bytes((root / "5.png").read_bytes())
    broken = (root / "6.png").read_bytes()[:-30]
    (root / "6.png").write_bytes(broken)
    rows = [*catalogued_except(root, 3)]
    with pytest.raises(ImageError, match=r"unreadable: 3\.png"):
        source.take(np.array([3]))
    with pytest.raises(ImageError, match=r"4\.png: it changed since the catalog"):
        source.take(np.array([4]))
    with (
        PixelCache(SPEC, root=tmp_path / "cache") as cache,
        pytest.raises(ImageError, match=r"truncated: 6\.png") as caught,
    ):
        Images(root, rows, SPEC, open_row=open_file, cache=cache).take(np.arange(len(rows)))
    assert caught.value.reason == "truncated"


def catalogued_except(root: Path, number: int) -> list[ImageRecord]:
    return [
        ImageRecord(path.name, "a", digest=content_digest(path.read_bytes()))
        for path in sorted(root.iterdir())
        if path.name != f"{number}.png"
    ]


def worker_threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if "ThreadPool" in thread.name}


def test_an_error_stands_where_its_batch_would_and_the_threads_end(root: Path) -> None:
    batches = Batches(images(root), LABELS, 5)
    (root / "12.png").unlink()
    before = worker_threads()
    coming = batches.epoch(workers=2, ahead=5)
    assert [len(next(coming)[1]) for _ in range(2)] == [5, 5]
    with pytest.raises(ImageError, match=r"12\.png"):
        next(coming)
    assert worker_threads() <= before


def test_leaving_early_ends_the_threads_and_stops_reading(root: Path) -> None:
    opened: list[str] = []

    def slowly(folder: Path, path: str) -> Path:
        opened.append(path)
        time.sleep(0.002)
        return folder / path

    source = Images(root, catalogued(root), SPEC, open_row=slowly)
    before = worker_threads()
    for _ in Batches(source, LABELS, 1, steps=500).epoch(workers=2, ahead=3):
        break
    assert worker_threads() <= before
    assert len(opened) <= 5
    read_by_then = len(opened)
    time.sleep(0.05)
    assert len(opened) == read_by_then


def test_what_does_not_fit_together_is_refused(root: Path, tmp_path: Path) -> None:
    source = images(root)
    with pytest.raises(ConfigError, match="23 images and 22 labels"):
        Batches(source, LABELS[:-1], 4)
    with pytest.raises(ConfigError, match="at least 1"):
        Batches(source, LABELS, 0)
    with pytest.raises(ConfigError, match="at least 1"):
        Batches(source, LABELS, 4, steps=0)
    with pytest.raises(ConfigError, match="0 images"):
        Batches(Images(root, [], SPEC, open_row=open_file), LABELS[:0], 4)
    with pytest.raises(IndexError, match="an epoch has 6"):
        Batches(source, LABELS, 4).batch(6)
    with PixelCache(ImageSpec(3, 3), root=tmp_path / "cache") as cache, pytest.raises(ConfigError, match="3x3x3"):
        images(root, cache)


SHARED = Path(__file__).parents[3] / "shared" / "data" / "cats-dogs"


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared cats and dogs")
def test_real_photographs_come_from_the_cache_as_they_were_decoded(tmp_path: Path) -> None:
    files = sorted(SHARED.rglob("*.jpg"))[::40]
    rows = [ImageRecord(str(f.relative_to(SHARED)), "a", digest=content_digest(f.read_bytes())) for f in files]
    spec = ImageSpec(64, 64, fit="crop")
    with PixelCache(spec, root=tmp_path) as cache:
        source = Images(SHARED, rows, spec, open_row=open_file, cache=cache)
        source.take(np.arange(len(source)))
        found = source.take(np.arange(len(files)))
    assert np.array_equal(found, np.stack([read(file, spec) for file in files]))
