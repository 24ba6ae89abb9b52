from __future__ import annotations

import gzip
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import tellapart as ta
from tellapart.config import DataConfig
from tellapart.data.catalog import ImageRecord
from tellapart.data.duplicates import groups_of, leaks, near_copies, seen_before
from tellapart.data.sources import read_source
from tests.faults import COPYING, FASHION


def image(name: str, bits: Iterable[int] = (), *, seed: int = 0, **values: str) -> ImageRecord:
    """One that looks like all of its seed, but for these bits."""
    looks = np.random.default_rng(seed).random(128) < 0.5
    looks[list(bits)] ^= True
    values = {"label": "a", "digest": name, **values}
    return ImageRecord(name, fingerprint=np.packbits(looks).tobytes().hex(), width=100, height=100, **values)


def test_copies_groups_and_looks_are_kept_together_and_others_are_not() -> None:
    rows = [
        image("one"),
        image("near", range(20)),
        image("near in turn", range(6, 34)),
        image("other", seed=1, group="g"),
        image("mate", seed=2, group="g"),
        image("copy", seed=3, digest="other"),
        image("alone", seed=4),
    ]
    groups = groups_of(rows, range(len(rows)))
    assert [groups.index(group) for group in groups] == [0, 0, 0, 3, 3, 3, 6]


def test_what_is_named_a_copy_by_looks_alone_is_surer_than_what_is_kept_together() -> None:
    rows = [image("one"), image("sure", range(15)), image("perhaps", range(100, 124))]
    assert [(a.path, b.path) for a, b in near_copies(rows)] == [("one", "sure")]
    assert len(set(groups_of(rows, range(3)))) == 1


def test_images_that_are_alike_by_chance_are_told_from_copies_by_their_labels() -> None:
    """Many images that show little: of 40 kinds, each of any class. Thousands of pairs are as close as copies, and join
    most images."""
    generator = np.random.default_rng(0)
    kinds, rows = generator.random((40, 128)) < 0.5, []
    for number in range(3000):
        looks = kinds[number % 40] ^ (generator.random(128) < 0.08)
        label = "ab"[generator.integers(2)]
        for name in ("", " again") if number < 30 else ("",):
            looks[generator.choice(128, 2, replace=False)] ^= bool(name)
            held = np.packbits(looks).tobytes().hex()
            rows.append(ImageRecord(f"{number}{name}", label, fingerprint=held, digest=f"{number}{name}"))
    named = {one.path for one, other in near_copies(rows) if other.path == f"{one.path} again"}
    assert named == {str(number) for number in range(30)}
    assert len(near_copies(rows)) < 200
    sizes = np.bincount(groups_of(rows, range(len(rows))))
    assert sizes.max() <= 10


def test_the_same_bytes_are_no_near_copy() -> None:
    assert near_copies([image("one"), image("two", digest="one")]) == []


def test_leaks_are_copies_near_copies_and_mates_of_what_was_seen() -> None:
    judged = [
        image("t/copy", seed=1, digest="x"),
        image("t/near", range(5), seed=2),
        image("t/mate", seed=3, group="g"),
        image("t/clean", seed=4),
        image("t/twin of the clean one", range(3), seed=4),
    ]
    seen = [
        image("x", seed=11),
        image("near", seed=2),
        image("mate", seed=13, group="g"),
    ]
    assert leaks(judged, seen) == {"t/copy": "x", "t/near": "near", "t/mate": "mate"}


def test_the_test_split_has_seen_training_and_validation_and_those_only_what_came_before() -> None:
    rows = [image(split, split=split) for split in ("train", "validation", "test")]
    assert [p.path for p in seen_before(rows, "test")] == ["train", "validation"]
    assert [p.path for p in seen_before(rows, "validation")] == ["train"]
    assert seen_before(rows, "train") == []


def test_a_copy_never_stands_on_the_other_side_of_a_split_that_is_drawn(tmp_path: Path) -> None:
    source = read_source("builtin:pets", DataConfig())
    generator = np.random.default_rng(0)
    for number, row in enumerate(source.rows[::12]):
        image = Image.open(source.root / row.path).convert("RGB")
        folder = tmp_path / "photos" / row.label
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number}.jpg")
        COPYING[("recompressed", "resized", "mirrored")[number % 3]](image, generator).save(folder / f"{number} b.jpg")
    catalog = ta.read(tmp_path / "photos")
    splits = {image.path: image.split for image in catalog.images}
    assert all(splits[path] == splits[path.replace(".jpg", " b.jpg")] for path in splits if " b" not in path)
    finding = next(finding for finding in catalog.findings if finding.kind == "near-duplicate")
    assert len(finding.paths) == len(splits) / 2


def test_a_copy_in_a_split_that_was_given_is_reported(tmp_path: Path) -> None:
    source = read_source("builtin:pets", DataConfig())
    for number, row in enumerate(source.rows[::12]):
        image = Image.open(source.root / row.path).convert("RGB")
        for split in ("train", "test") if number == 4 else ("train",) if number % 3 else ("test",):
            (tmp_path / split / row.label).mkdir(parents=True, exist_ok=True)
            image.save(tmp_path / split / row.label / f"{number}.jpg", quality=95 if split == "train" else 60)
    finding = next(finding for finding in ta.read(tmp_path).findings if finding.kind == "near-leaking")
    assert finding.severity == "error"
    assert len(finding.paths) == 1
    assert "4.jpg [train]" in finding.paths[0]
    assert "4.jpg [test]" in finding.paths[0]


def small_images(folder: Path, images: Iterable[NDArray[np.uint8]]) -> Path:
    for number, pixels in enumerate(images):
        place = folder / "ab"[number % 2] / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(place)
    return folder


def clothes(count: int) -> NDArray[np.uint8]:
    if not FASHION.exists():
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    return np.frombuffer(gzip.decompress(FASHION.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)[:count]


def pairs_of(folder: Path) -> set[frozenset[str]]:
    return {frozenset((one.path, other.path)) for one, other in near_copies(ta.read(folder).images)}


def test_copies_of_images_of_28_pixels_are_found_and_of_many_alike_hardly_another(tmp_path: Path) -> None:
    folder = small_images(tmp_path, clothes(3000))
    made = set()
    for number in range(0, 300, 3):
        original = f"{'ab'[number % 2]}/{number}.png"
        copy = original.replace(".png", (" saved again.jpg", " in colour.bmp", " larger by two.png")[number % 9 // 3])
        image = Image.open(folder / original)
        if copy.endswith(".jpg"):
            image.save(folder / copy, quality=90)
        elif copy.endswith(".bmp"):
            image.convert("RGB").save(folder / copy)
        else:
            image.resize((30, 30), Image.Resampling.BICUBIC).save(folder / copy)
        made.add(frozenset((original, copy)))
    found = pairs_of(folder)
    assert len(found & made) >= 0.9 * len(made)
    assert len(found - made) <= 2
    catalog = ta.read(folder)
    split = {image.path: image.split for image in catalog.images}
    assert all(len({split[path] for path in pair}) == 1 for pair in found)


@pytest.mark.parametrize("side", [8, 20])
def test_of_the_smallest_images_the_same_pixels_are_found_in_any_file_format(tmp_path: Path, side: int) -> None:
    folder = small_images(tmp_path, np.random.default_rng(0).integers(0, 255, (60, side, side), np.uint8))
    Image.open(folder / "a/4.png").convert("RGB").save(folder / "a/in colour.bmp")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(folder / "b/5.png").rotate(180).save(folder / "b/turned.png", exif=exif)
    assert pairs_of(folder) == {
        frozenset(("a/4.png", "a/in colour.bmp")),
        frozenset(("b/5.png", "b/turned.png")),
    }
