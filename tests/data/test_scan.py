from __future__ import annotations

import os
import shutil
import sqlite3
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.config import DataConfig, ImageConfig
from tellapart.data import perceptual_hash, pixels
from tellapart.data import scan as scanning
from tellapart.data.cache import PixelCache
from tellapart.data.catalog import ImageRecord
from tellapart.data.scan import decide_spec, sample, scan
from tellapart.data.sources import Source, read_source
from tellapart.data.sources.source import LabelledPath
from tellapart.progress import Progress
from tellapart.task import ImageSpec

BOUND = 10_000_000


class Counting(Progress):
    def __init__(self) -> None:
        self.calls: list[tuple[str, int, int, str]] = []

    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
        self.calls.append((stage, done, total, detail))


@pytest.fixture
def folder(shapes: Path, tmp_path: Path) -> Path:
    return shutil.copytree(shapes, tmp_path / "photos")


def look(folder: Path, **options: object) -> tuple[ImageRecord, ...]:
    return scan(read_source(folder, DataConfig()), DataConfig(max_pixels=BOUND), **options)  # type: ignore[arg-type]


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Each decoding leaves a mark; the real one is done."""
    marks: list[object] = []
    real = pixels.decode

    def marked(*values: object, **options: object) -> object:
        marks.append(values[0])
        return real(*values, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(pixels, "decode", marked)
    return marks


def test_every_image_gets_its_digest_size_and_mode_in_order(folder: Path) -> None:
    found = look(folder)
    assert len(found) == 60
    assert [p.path for p in found] == [row.path for row in read_source(folder, DataConfig()).rows]
    assert {(p.width, p.height, p.mode, p.error) for p in found} == {(40, 40, "RGB", "")}
    assert len({p.digest for p in found}) == 60
    assert all(len(p.fingerprint) == 32 for p in found)


def test_progress_counts_every_image_to_the_end(folder: Path) -> None:
    counting = Counting()
    look(folder, progress=counting)
    assert counting.calls[-1][1:3] == (60, 60)
    assert [done for _, done, _, _ in counting.calls] == sorted(done for _, done, _, _ in counting.calls)


def test_unchanged_files_are_not_opened_again(folder: Path, decodings: list[object]) -> None:
    first = look(folder)
    assert len(decodings) == 60
    assert look(folder) == first
    assert len(decodings) == 60


@pytest.mark.parametrize("change", ["content", "times", "moved"])
def test_a_changed_file_is_read_again(folder: Path, decodings: list[object], change: str) -> None:
    before = look(folder)
    path = folder / "disc" / "disc 0.png"
    state = path.stat()
    if change == "content":
        other = (folder / "disc" / "disc 1.png").read_bytes()
        path.write_bytes(other[: state.st_size].ljust(state.st_size, b"\0"))
        # Same size and same time of change: only the time of the inode tells.
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    elif change == "times":
        os.utime(path, (time.time() + 5, time.time() + 5))
    else:
        folder = folder.rename(folder.with_name("elsewhere"))
    decodings.clear()
    after = look(folder)
    assert len(decodings) == (60 if change == "moved" else 1)
    same = [a.digest == b.digest for a, b in zip(before, after, strict=True)]
    assert same.count(False) == (1 if change == "content" else 0)


def test_broken_files_are_remembered_with_their_reason(folder: Path, decodings: list[object]) -> None:
    (folder / "disc" / "empty.jpg").write_bytes(b"")
    (folder / "disc" / "text.jpg").write_text("I am no image")
    first = {p.path: p.error for p in look(folder) if p.error}
    assert {path: error.split(":")[0] for path, error in first.items()} == {
        "disc/empty.jpg": "empty",
        "disc/text.jpg": "not an image",
    }
    decodings.clear()
    assert {p.path: p.error for p in look(folder) if p.error} == first
    assert not decodings


def test_many_images_are_remembered_in_pieces(
    folder: Path, decodings: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scanning, "QUERY", 7)
    first = look(folder)
    decodings.clear()
    assert look(folder) == first
    assert not decodings


def test_tasks_hold_few_images_and_fewer_large_ones() -> None:
    sizes = [10] * 40 + [scanning.GROUP_BYTES] * 3 + [10] * 2
    stamps: list[scanning.Stamp | None] = [(b"", size, 0, 0) for size in sizes]
    stamps[0] = None
    groups = scanning._groups(list(range(45)), stamps)
    assert [len(group) for group in groups] == [16, 16, 9, 1, 1, 2]
    assert [index for group in groups for index in group] == list(range(45))
    assert scanning._groups([], []) == []


def test_a_scan_that_is_left_keeps_what_it_read_and_goes_on_there(folder: Path, decodings: list[object]) -> None:
    class Leaving(Counting):
        def update(self, stage: str, done: int, total: int, detail: str = "") -> None:
            super().update(stage, done, total, detail)
            if done == 20:
                raise KeyboardInterrupt

    threads = threading.active_count()
    with PixelCache(ImageSpec(16, 16)) as cache:
        with pytest.raises(KeyboardInterrupt):
            look(folder, cache=cache, progress=Leaving())
        assert threading.active_count() == threads
    decodings.clear()
    with PixelCache(ImageSpec(16, 16)) as cache:
        found = look(folder, cache=cache)
        assert len(decodings) <= 60 - 20 + 1
        assert cache.missing(p.digest for p in found) == set()


def test_a_bound_on_pixels_holds_for_remembered_images_too(folder: Path) -> None:
    Image.new("RGB", (300, 200)).save(folder / "disc" / "large.png")
    source = read_source(folder, DataConfig())
    for bound, broken in ((50_000, 1), (1_000_000, 0), (50_000, 1), (1_000_000, 0)):
        found = [p for p in scan(source, DataConfig(max_pixels=bound)) if p.error]
        assert len(found) == broken
        assert all(p.error.startswith("too many pixels") for p in found)


def test_the_same_decoding_fills_the_cache(folder: Path, decodings: list[object]) -> None:
    spec = ImageSpec(16, 16)
    with PixelCache(spec) as cache:
        found = look(folder, cache=cache)
        assert cache.missing(p.digest for p in found) == set()
        out = np.empty((60, 16, 16, 3), np.uint8)
        absent = cache.store([p.digest for p in found]).take(np.arange(60), out)
        assert not len(absent)
    assert len(decodings) == 60
    for row in (0, 31, 59):
        np.testing.assert_array_equal(out[row], pixels.read(folder / found[row].path, spec))


def test_images_whose_pixels_left_the_cache_are_decoded_again(
    folder: Path, decodings: list[object], own_cache: Path
) -> None:
    with PixelCache(ImageSpec(16, 16)) as cache:
        look(folder, cache=cache)
    shutil.rmtree(own_cache / "pixels")
    decodings.clear()
    with PixelCache(ImageSpec(16, 16)) as cache:
        found = look(folder, cache=cache)
        assert cache.missing(p.digest for p in found) == set()
    assert len(decodings) == 60


@pytest.mark.parametrize("damage", ["garbage", "foreign", "folder"])
def test_a_damaged_memory_is_begun_anew(folder: Path, own_cache: Path, damage: str) -> None:
    path = own_cache / f"scan-3-{perceptual_hash.VERSION}.sqlite"
    if damage == "garbage":
        path.write_bytes(b"nothing of ours" * 1000)
    elif damage == "foreign":
        connection = sqlite3.connect(path)
        connection.execute("CREATE TABLE images (other TEXT)")
        connection.commit()
        connection.close()
    else:
        path.mkdir()
    assert len(look(folder)) == 60
    assert len([p for p in look(folder) if not p.error]) == 60


def written(folder: Path, place: Path, spec: ImageSpec | None) -> bytes:
    """The catalog as a training at this size would write it."""
    if spec is None:
        catalog = ta.read(folder)
    else:
        with PixelCache(spec) as cache:
            catalog = ta.read(folder, cache=cache)
    catalog.write(place)
    return place.read_bytes()


def test_the_catalog_is_the_same_whatever_size_is_trained_at_and_whatever_ran_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "photos"
    source = read_source("builtin:pets", DataConfig())
    for row in source.rows[::6]:
        (folder / row.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(source.root / row.path, folder / row.path)
    sizes = [None, ImageSpec(64, 64), ImageSpec(224, 224, fit="crop"), ImageSpec(90, 90, 1)]
    orders = [(0, 1, 2, 3), (1, 2, 0), (2, 1), (3, 0, 1)]
    found = set()
    for number, order in enumerate(orders):
        monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / f"cache {number}"))
        found |= {written(folder, tmp_path / "catalog.csv", sizes[place]) for place in order}
    assert len(found) == 1


def test_what_a_file_looked_like_to_another_version_is_forgotten(
    folder: Path, decodings: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    look(folder)
    decodings.clear()
    monkeypatch.setattr(perceptual_hash, "VERSION", perceptual_hash.VERSION + 1)
    look(folder)
    assert len(decodings) == 60


def test_a_file_that_vanished_is_an_unreadable_row(folder: Path) -> None:
    source = Source(folder, (LabelledPath("disc/gone.png", "disc"), LabelledPath("disc/disc 0.png", "disc")), "")
    gone, there = scan(source, DataConfig(max_pixels=BOUND))
    assert gone.error.startswith("unreadable: it cannot be opened: No such file")
    assert not there.error


def decided_spec(source: Source, channels_of_model: int | None = None, **given: Any) -> tuple[ImageSpec, list[str]]:
    seen = partial(sample, source, DataConfig(max_pixels=BOUND))
    return decide_spec(ImageConfig(**given), seen, side=128, fit="squash", channels=channels_of_model)


def test_a_model_that_needs_colour_takes_small_grey_images_at_its_own_size(tmp_path: Path) -> None:
    for kind in "ab":
        (tmp_path / kind).mkdir()
        Image.new("L", (20, 20)).save(tmp_path / kind / "0.png")
    source = read_source(tmp_path, DataConfig())
    assert decided_spec(source, 3) == (ImageSpec(128, 128, 3), [])
    assert decided_spec(source, 3, fit="pad", height=64)[0] == ImageSpec(64, 64, 3, fit="pad")


def test_small_images_that_are_alike_keep_their_size_and_others_take_the_models(folder: Path) -> None:
    source = read_source(folder, DataConfig())
    spec, decided = decided_spec(source)
    assert spec == ImageSpec(40, 40, 3)
    assert decided == ["all images are 40x40 and keep that size"]
    assert decided_spec(source, height=64)[0] == ImageSpec(64, 64, 3)
    Image.new("RGB", (80, 60)).save(folder / "disc" / "disc 0.png")
    assert decided_spec(source) == (ImageSpec(128, 128, 3), [])


def test_only_images_that_are_all_grey_make_a_grey_network(tmp_path: Path) -> None:
    for kind in "ab":
        (tmp_path / kind).mkdir()
        for number, mode in enumerate(("L", "1", "LA", "I;16")):
            Image.new(mode, (20, 20)).save(tmp_path / kind / f"{number}.png")
    source = read_source(tmp_path, DataConfig())
    assert decided_spec(source)[0].channels == 1
    Image.new("RGB", (20, 20)).save(tmp_path / "b" / "0.png")
    assert decided_spec(source)[0].channels == 3
    assert decided_spec(source, channels=1)[0].channels == 1
