from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tellapart.data.catalog import SPLITS, ImageRecord
from tellapart.data.checks import find_all
from tellapart.data.duplicates import parted
from tellapart.data.splits import assign_splits, drawn_splits


def images(counts: dict[str, int], **values: str) -> list[ImageRecord]:
    return [
        ImageRecord(f"{label}/{index}.jpg", label, digest=f"{label}{index}", **values)
        for label, count in counts.items()
        for index in range(count)
    ]


def assign(
    rows: list[ImageRecord], seed: int = 0, test: float = 0.2, validation: float = 0.2
) -> tuple[ImageRecord, ...]:
    return assign_splits(rows, seed=seed, test_fraction=test, validation_fraction=validation)


def sizes(rows: tuple[ImageRecord, ...]) -> dict[tuple[str, str], int]:
    return dict(Counter((p.split, p.label) for p in rows))


def test_an_image_in_a_split_is_the_same_image_otherwise() -> None:
    every = {field.name: 7 if field.name in ("width", "height") else field.name for field in fields(ImageRecord)}
    image = ImageRecord(**every)
    assert image.in_split("test") == replace(image, split="test")


def test_each_class_is_split_in_the_same_proportion() -> None:
    assert sizes(assign(images({"a": 100, "b": 50}))) == {
        ("train", "a"): 64, ("validation", "a"): 16, ("test", "a"): 20,
        ("train", "b"): 32, ("validation", "b"): 8, ("test", "b"): 10,
    }  # fmt: skip


def test_the_order_of_the_images_does_not_matter() -> None:
    rows = images({"a": 40, "b": 40})
    there = {p.path: p.split for p in assign(rows)}
    back = {p.path: p.split for p in assign(rows[::-1])}
    assert there == back


def test_renamed_and_moved_images_are_split_as_before() -> None:
    rows = images({"a": 40, "b": 40})
    moved = [replace(p, path=f"elsewhere/{len(rows) - place}.png") for place, p in enumerate(rows)]
    assert [p.split for p in assign(rows)] == [p.split for p in assign(moved)]


def test_another_seed_gives_another_split() -> None:
    rows = images({"a": 40, "b": 40})
    assert [p.split for p in assign(rows, seed=0)] != [p.split for p in assign(rows, seed=1)]


def test_added_images_move_few_others() -> None:
    before = {p.path: p.split for p in assign(images({"a": 200, "b": 200}))}
    after = {p.path: p.split for p in assign(images({"a": 210, "b": 200}))}
    assert sum(before[path] != after[path] for path in before) < 12


def test_copies_stay_on_one_side_whatever_they_are_named() -> None:
    rows = images({"a": 30, "b": 30})
    copies = [ImageRecord(f"copy/{p.path}", p.label, digest=p.digest) for p in rows]
    split = {p.path: p.split for p in assign(rows + copies)}
    assert all(split[p.path] == split[f"copy/{p.path}"] for p in rows)


def test_a_copy_under_another_label_stays_on_the_same_side() -> None:
    rows = images({"a": 30, "b": 30})
    rows.append(ImageRecord("b/copy.jpg", "b", digest="a0"))
    split = {p.path: p.split for p in assign(rows)}
    assert split["b/copy.jpg"] == split["a/0.jpg"]


def test_a_group_far_larger_than_a_split_is_drawn_for_none() -> None:
    rows = images({"a": 100, "b": 100})
    rows = [replace(p, group="large") if number % 10 < 6 else p for number, p in enumerate(rows)]
    for seed in range(20):
        counts = Counter(p.split for p in assign(rows, seed) if not p.group)
        assert counts == {"train": 52, "test": 16, "validation": 12}


def test_where_every_group_is_larger_than_a_split_one_is_drawn() -> None:
    rows = [replace(p, group=str(number // 30)) for number, p in enumerate(images({"a": 120}))]
    for seed in range(5):
        assert Counter(p.split for p in assign(rows, seed, test=0.1, validation=0)) == {"train": 90, "test": 30}


def test_groups_stay_on_one_side() -> None:
    rows = [
        ImageRecord(f"{label}/{patient}-{shot}.jpg", label, group=f"{label}{patient}", digest=f"{label}{patient}{shot}")
        for label in "ab"
        for patient in range(10)
        for shot in range(5)
    ]
    sides: dict[str, set[str]] = {}
    for p in assign(rows):
        sides.setdefault(p.group, set()).add(p.split)
    assert all(len(side) == 1 for side in sides.values())
    assert set.union(*sides.values()) == {"train", "validation", "test"}


def test_given_splits_are_kept_and_only_validation_is_taken_from_train() -> None:
    rows = images({"a": 40, "b": 40}, split="train") + [
        ImageRecord(f"t/{label}{i}.jpg", label, split="test", digest=f"t{label}{i}")
        for label in "ab"
        for i in range(10)
    ]
    found = sizes(assign(rows))
    assert found[("test", "a")] == found[("test", "b")] == 10
    assert found[("validation", "a")] == found[("validation", "b")] == 8


def test_a_missing_test_split_is_taken_from_train_where_validation_is_given() -> None:
    rows = images({"a": 40, "b": 40}, split="train") + [
        ImageRecord(f"v/{label}{i}.jpg", label, split="validation", digest=f"v{label}{i}")
        for label in "ab"
        for i in range(10)
    ]
    found = sizes(assign(rows))
    assert found[("validation", "a")] == 10
    assert found[("test", "a")] == 8


def test_a_broken_image_stands_in_no_split() -> None:
    rows = [*images({"a": 10, "b": 10}), ImageRecord("a/bad.jpg", "a", error="truncated")]
    assert assign(rows)[-1].split == ""


def test_three_images_of_a_class_give_one_to_each_split() -> None:
    found = sizes(assign(images({"a": 3, "b": 3})))
    assert set(found.values()) == {1}
    assert len(found) == 6


def test_a_class_too_small_to_split_stays_in_train() -> None:
    found = sizes(assign(images({"a": 30, "b": 1})))
    assert found[("train", "b")] == 1
    assert ("test", "b") not in found


def test_no_test_split_is_made_where_none_is_wanted() -> None:
    assert {p.split for p in assign(images({"a": 20, "b": 20}), test=0.0)} == {"train", "validation"}


def looks(kind: int, bits: int) -> str:
    """One of a few kinds, with so many of its bits turned; none for the first kind."""
    base = np.random.default_rng(kind).random(128) < 0.5
    base[np.random.default_rng(bits).permutation(128)[:bits]] ^= True
    return np.packbits(base).tobytes().hex() if kind else ""


@st.composite
def with_copies(draw: st.DrawFn) -> list[ImageRecord]:
    """Few contents and few looks, so that many are copies; any of the splits may have come with them."""
    splits = draw(st.sampled_from([[""], ["", "test"], ["train", "test"], ["train", "validation"], list(SPLITS)]))
    one = st.builds(
        ImageRecord,
        path=st.uuids().map(str),
        label=st.sampled_from("ab"),
        split=st.sampled_from(splits),
        group=st.sampled_from(["", "", "", "g"]),
        digest=st.integers(0, 30).map(str),
        fingerprint=st.builds(looks, st.integers(0, 12), st.integers(0, 20)),
    )
    return draw(st.lists(one, min_size=10, max_size=60))


@given(with_copies(), st.integers(0, 1000))
def test_copies_stand_in_two_splits_only_where_the_splits_were_given(rows: list[ImageRecord], seed: int) -> None:
    drawn = drawn_splits(image.split for image in rows)
    apart = parted(assign(rows, seed))
    assert not [pair for pair in apart if {image.split for image in pair} <= drawn]
    if {image.split for image in rows} == {""}:
        kinds = {finding.kind for finding in find_all(assign(rows, seed))}
        assert not any("leaking" in kind for kind in kinds)


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(3, 60), min_size=2),
    st.integers(0, 1000),
    st.floats(0.05, 0.5),
    st.floats(0.05, 0.5),
)
def test_every_class_is_everywhere_and_the_shares_are_near(
    counts: dict[str, int], seed: int, test: float, validation: float
) -> None:
    found = sizes(assign(images(counts), seed, test, validation))
    for label, count in counts.items():
        parts = {split: found.get((split, label), 0) for split in ("train", "validation", "test")}
        assert sum(parts.values()) == count
        assert min(parts.values()) >= 1
        assert abs(parts["test"] - test * count) <= 1.5


copies_and_groups = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(-20, 8)), min_size=1, max_size=60
)


@given(copies_and_groups, st.integers(0, 1000), st.floats(0, 0.9), st.floats(0.05, 0.9))
def test_no_copy_and_no_group_is_ever_on_two_sides(
    given_rows: list[tuple[str, int, int]], seed: int, test: float, validation: float
) -> None:
    rows = [
        ImageRecord(f"{place}.jpg", label, digest=f"content {content}", group=f"group {group}" if group > 0 else "")
        for place, (label, content, group) in enumerate(given_rows)
    ]
    found = assign(rows, seed, test, validation)
    assert [replace(p, split="") for p in found] == rows
    assert {p.split for p in found} <= {"train", "validation", "test"}
    for tie in ("digest", "group"):
        sides: dict[str, set[str]] = {}
        for p in found:
            if getattr(p, tie):
                sides.setdefault(getattr(p, tie), set()).add(p.split)
        assert all(len(side) == 1 for side in sides.values())
    # What the seed decides, no order of the rows does.
    assert {p.path: p.split for p in assign(rows[::-1], seed, test, validation)} == {p.path: p.split for p in found}


def test_a_leak_between_given_splits_is_left_for_the_checks_to_tell() -> None:
    rows = [
        *images({"a": 10, "b": 10}, split="train"),
        ImageRecord("t/a.jpg", "a", split="test", digest="a0"),
        ImageRecord("t/b.jpg", "b", split="test", digest="b0"),
    ]
    assert [p.split for p in assign(rows) if p.path.startswith("t/")] == ["test", "test"]
