from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

import tellapart as ta
from tellapart.config import DataConfig
from tellapart.data.catalog import Picture
from tellapart.data.duplicates import groups_of, leaks, near_copies, seen_before
from tellapart.data.sources import read_source
from tests.faults import COPYING


def picture(name: str, bits: Iterable[int] = (), *, seed: int = 0, **values: str) -> Picture:
    """One that looks like all of its seed, but for these bits."""
    looks = np.random.default_rng(seed).random(128) < 0.5
    looks[list(bits)] ^= True
    values = {"label": "a", "digest": name, **values}
    return Picture(name, fingerprint=np.packbits(looks).tobytes().hex(), width=100, height=100, **values)


def test_copies_groups_and_looks_are_kept_together_and_others_are_not() -> None:
    rows = [
        picture("one"),
        picture("near", range(20)),
        picture("near in turn", range(6, 34)),
        picture("other", seed=1, group="g"),
        picture("mate", seed=2, group="g"),
        picture("copy", seed=3, digest="other"),
        picture("alone", seed=4),
    ]
    groups = groups_of(rows, range(len(rows)))
    assert [groups.index(group) for group in groups] == [0, 0, 0, 3, 3, 3, 6]


def test_what_is_named_a_copy_by_looks_alone_is_surer_than_what_is_kept_together() -> None:
    rows = [picture("one"), picture("sure", range(15)), picture("perhaps", range(100, 124))]
    assert [(a.path, b.path) for a, b in near_copies(rows)] == [("one", "sure")]
    assert len(set(groups_of(rows, range(3)))) == 1


def test_the_same_bytes_are_no_near_copy() -> None:
    assert near_copies([picture("one"), picture("two", digest="one")]) == []


def test_leaks_are_copies_near_copies_and_mates_of_what_was_seen() -> None:
    judged = [
        picture("t/copy", seed=1, digest="x"),
        picture("t/near", range(5), seed=2),
        picture("t/mate", seed=3, group="g"),
        picture("t/clean", seed=4),
        picture("t/twin of the clean one", range(3), seed=4),
    ]
    seen = [
        picture("x", seed=11),
        picture("near", seed=2),
        picture("mate", seed=13, group="g"),
    ]
    assert leaks(judged, seen) == {"t/copy": "x", "t/near": "near", "t/mate": "mate"}


def test_the_test_split_has_seen_training_and_validation_and_those_only_what_came_before() -> None:
    rows = [picture(split, split=split) for split in ("train", "validation", "test")]
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
    splits = {picture.path: picture.split for picture in catalog.pictures}
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


def test_pictures_too_small_to_tell_apart_have_no_fingerprint(tmp_path: Path) -> None:
    for label in "ab":
        (tmp_path / label).mkdir()
        for number in range(4):
            noise = np.random.default_rng(number).integers(0, 255, (28, 28, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / label / f"{number}.png")
    assert {picture.fingerprint for picture in ta.read(tmp_path).pictures} == {""}
