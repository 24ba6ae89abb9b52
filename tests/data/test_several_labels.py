"""Tables of images with several labels: recognised by looking, split in proportion, checked by label."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.data.catalog import Catalog, ImageRecord
from tellapart.data.duplicates import groups_of
from tellapart.data.splits import assign_splits
from tellapart.errors import ConfigError
from tests.pasted import LABELS, pasted


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same images, by a table with cells such as a|b and by one with a column a label."""
    return {
        "cells": pasted(tmp_path_factory.mktemp("cells"), 60),
        "columns": pasted(tmp_path_factory.mktemp("columns"), 60, one_hot=True),
    }


@pytest.fixture(scope="module")
def catalog(tables: dict[str, Path]) -> Catalog:
    return ta.read(tables["cells"])


def test_both_layouts_give_the_same_catalog_and_it_is_told(tables: dict[str, Path], catalog: Catalog) -> None:
    other = ta.read(tables["columns"])
    assert other.images == catalog.images
    assert other.task == catalog.task
    assert (other.task.kind, other.task.classes) == ("multilabel", LABELS)
    (told,) = [finding for finding in catalog.findings if finding.kind == "multilabel"]
    assert "6 have none" in told.meaning
    assert "--kind multiclass" in told.done
    assert "several labels an image" in catalog.layout


def test_an_empty_cell_is_an_image_with_none_of_the_labels(catalog: Catalog) -> None:
    none = [row for row, image in enumerate(catalog.images) if not image.label]
    assert len(none) == 6
    truth = catalog.class_indices()
    assert truth.shape == (60, 3)
    assert not truth[none].any()
    both = next(row for row, image in enumerate(catalog.images) if image.label == "Abyssinian|Bengal")
    assert truth[both].tolist() == [1, 1, 0]


def test_every_label_has_its_share_of_each_split(catalog: Catalog) -> None:
    counts, sizes = catalog.counts(), catalog.sizes()
    assert sizes == {"train": 38, "validation": 10, "test": 12}
    total = Counter(name for image in catalog.images for name in catalog.task.labels(image.label))
    for name in LABELS:
        assert abs(counts["test"][name] - 0.2 * total[name]) <= 1
        assert abs(counts["validation"][name] - 0.16 * total[name]) <= 1


@pytest.mark.parametrize("seed", range(4))
def test_a_rare_label_stays_in_training_and_copies_stay_together(seed: int) -> None:
    texts = ["a", "b", "a|b", "a|b|rare", "rare", "c", "c|b", ""]
    rows = [ImageRecord(f"{n}.jpg", texts[n % 8], digest=f"{n // 2 * 2}") for n in range(160)]
    rows += [ImageRecord(f"once-{n}.jpg", "a|seldom", digest=f"once-{n}") for n in range(3)]
    rows += [ImageRecord("alone.jpg", "b|single", digest="alone")]
    done = assign_splits(rows, seed=seed, test_fraction=0.2, validation_fraction=0.2, several=True)
    there = {(image.split, name) for image in done for name in image.label.split("|")}
    assert {split for split, name in there if name == "seldom"} == {"train", "validation", "test"}
    assert {split for split, name in there if name == "single"} == {"train"}
    groups = groups_of(done, list(range(len(done))))
    splits: dict[int, set[str]] = {}
    for group, image in zip(groups, done, strict=True):
        splits.setdefault(group, set()).add(image.split)
    assert all(len(found) == 1 for found in splits.values())
    sizes = Counter(image.split for image in done)
    assert abs(sizes["test"] - 0.2 * len(done)) <= 4


def test_labels_of_which_every_combination_is_rare_are_split_by_label() -> None:
    names = "abcdefg"
    texts = ["|".join(name for place, name in enumerate(names) if number >> place & 1) for number in range(128)]
    rows = [ImageRecord(f"{n}.jpg", text, digest=f"{n}") for n, text in enumerate(texts)]
    done = assign_splits(rows, seed=0, test_fraction=0.25, validation_fraction=0.2, several=True)
    tested = [image.label.split("|") for image in done if image.split == "test"]
    assert abs(len(tested) - 32) <= 2
    for name in names:
        assert abs(sum(name in labels for labels in tested) - 16) <= 2


def test_a_label_of_two_images_is_learned_and_validated_before_it_is_tested() -> None:
    rows = [ImageRecord(f"{n}.jpg", "often|pair" if n < 2 else "often", digest=f"{n}") for n in range(40)]
    for seed in range(4):
        done = assign_splits(rows, seed=seed, test_fraction=0.5, validation_fraction=0.5, several=True)
        assert {image.split for image in done if "pair" in image.label} == {"train", "validation"}


def test_the_kind_can_be_asked_for_and_has_no_effect_elsewhere(tables: dict[str, Path], tmp_path: Path) -> None:
    lines = [f"{tables['cells'].parent}/{n}.jpg,{LABELS[n % 2]}" for n in range(12)]
    table = tmp_path / "one.csv"
    table.write_text("\n".join(["image,label", *lines, f"{tables['cells'].parent}/12.jpg,"]), encoding="utf-8")
    assert ta.read(table).task.kind == "binary"
    asked = ta.read(table, kind="multilabel")
    assert asked.task.kind == "multilabel"
    assert len(asked) == 13
    with pytest.raises(ConfigError, match=r"data\.kind has no effect"):
        ta.read("builtin:pets", kind="multilabel")


def test_a_deep_check_is_refused_with_what_a_plain_one_finds(tables: dict[str, Path]) -> None:
    with pytest.raises(ConfigError, match=r"one label each; these have several\. Without --deep"):
        ta.check(tables["cells"], deep=True)
    kinds = {finding.kind for finding in ta.check(tables["cells"]).catalog.findings}
    assert "imbalanced" not in kinds


def test_corrections_may_name_several_labels(tables: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "corrections.csv"
    file.write_text("path,action,label\n9.jpg,relabel,Abyssinian|Bengal\n", encoding="utf-8")
    catalog = ta.read(tables["cells"], corrections=str(file))
    assert next(image.label for image in catalog.images if image.path == "9.jpg") == "Abyssinian|Bengal"
    file.write_text("path,action,label\n9.jpg,relabel,Abyssinian|Lion\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="Lion"):
        ta.read(tables["cells"], corrections=str(file))
