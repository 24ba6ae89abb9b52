"""What deep checks say of evidence; where the evidence comes from, tests/test_trust.py shows on real images."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tellapart.data.catalog import SPLITS, ImageRecord, Split
from tellapart.data.deep_checks import Deep, DeepEvidence, look_deeper
from tellapart.data.findings import Finding
from tellapart.data.perceptual_hash import SURELY
from tellapart.data.splits import drawn_splits

pytest.importorskip("cleanlab")

CLASSES = ("cats", "dogs")


DRAWN = frozenset(SPLITS)


def evidence(count: int = 200, *, drawn: frozenset[Split] = DRAWN, seed: int = 0) -> DeepEvidence:
    """Sound images of two kinds, well apart."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    kinds = generator.normal(0, 1, (2, 100))[labels]
    features = np.abs(4 + kinds + generator.uniform(-1.5, 1.5, (count, 100))).astype(np.float16)
    looks = np.packbits(generator.random((count, 128)) < 0.5, axis=1)
    images = tuple(
        ImageRecord(f"{i}.jpg", CLASSES[labels[i]], ("train", "validation", "test")[i % 3], digest=str(i),
                fingerprint=looks[i].tobytes().hex(), width=100, height=100)
        for i in range(count)
    )  # fmt: skip
    return DeepEvidence(images, features, np.tile(np.array([50, 200, 0.4], np.float32), (count, 1)), drawn)


def changed(sound: DeepEvidence, place: int, **values: str) -> DeepEvidence:
    rows = list(sound.images)
    rows[place] = replace(rows[place], **values)
    return replace(sound, images=tuple(rows))


def copied(sound: DeepEvidence, one: int, other: int) -> DeepEvidence:
    """The other image is a copy to the eye of the one."""
    sound.features[other] = sound.features[one] + np.float16(0.01)
    return changed(sound, other, fingerprint=sound.images[one].fingerprint)


def turned(fingerprint: str, count: int) -> str:
    """With so many other bits."""
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(fingerprint), np.uint8))
    bits[:count] ^= 1
    return np.packbits(bits).tobytes().hex()


def features_alone(sound: DeepEvidence, one: int, other: int) -> DeepEvidence:
    """The other image is a copy of the one, which its fingerprint does not show."""
    sound.features[other] = sound.features[one]
    return changed(sound, other, fingerprint=turned(sound.images[one].fingerprint, 35))


def told(found: Deep) -> dict[str, Finding]:
    return {finding.kind: finding for finding in found.findings}


def rows(found: Deep) -> list[tuple[str, str, str, str]]:
    return [(c.path, c.action, c.label, c.group) for c in found.corrections]


def test_sound_images_give_no_finding_and_no_correction() -> None:
    found = look_deeper(evidence(), CLASSES)
    assert found.findings == ()
    assert found.corrections == ()


def test_a_wrong_label_is_named_with_what_the_image_looks_like_and_relabelled() -> None:
    found = look_deeper(changed(evidence(), 6, label="dogs"), CLASSES)
    assert told(found)["suspect-label"].paths[0].startswith("6.jpg [dogs; looks like cats, ")
    assert rows(found) == [("6.jpg", "relabel", "cats", "")]


def test_copies_are_regrouped_only_where_their_looks_alone_do_not_keep_them_together() -> None:
    assert rows(look_deeper(copied(evidence(), 4, 10), CLASSES)) == []
    found = look_deeper(features_alone(evidence(), 4, 10), CLASSES)
    assert found.pairs.tolist() == [[4, 10]]
    assert rows(found) == [("4.jpg", "regroup", "", "copies-1"), ("10.jpg", "regroup", "", "copies-1")]


def test_copies_that_only_features_show_are_told_where_the_drawn_split_parts_them_and_how_to_keep_them() -> None:
    apart = features_alone(evidence(), 4, 12)
    found = told(look_deeper(apart, CLASSES))
    assert found["near-separated"].paths == ("4.jpg [validation] ~ 12.jpg [train]",)
    assert "by their features alone" in found["near-separated"].meaning
    assert "train --corrections FILE" in found["near-separated"].done
    assert not any(kind.startswith("near-leaking") for kind in found), "nobody gave these splits"
    together = told(look_deeper(features_alone(evidence(), 4, 10), CLASSES))
    assert together.keys() == {"near-duplicate"}
    assert "1 of them by their features alone" in together["near-duplicate"].meaning


def test_only_the_split_that_is_drawn_is_drawn_otherwise_and_from_a_given_one_copies_are_dropped() -> None:
    drawn = drawn_splits(["train", "test"])
    assert rows(look_deeper(features_alone(evidence(drawn=drawn), 4, 12), CLASSES)) == [
        ("4.jpg", "regroup", "", "copies-1"),
        ("12.jpg", "regroup", "", "copies-1"),
    ]
    assert ("4.jpg", "drop", "", "") in rows(look_deeper(features_alone(evidence(drawn=drawn), 4, 8), CLASSES))


def test_neither_a_like_composition_nor_the_same_subject_alone_is_a_copy() -> None:
    looks = evidence()
    looks = changed(looks, 10, fingerprint=turned(looks.images[4].fingerprint, SURELY[32] + 2))
    assert not len(look_deeper(looks, CLASSES).pairs)
    subject = evidence()
    subject.features[10] = subject.features[4] + np.random.default_rng(1).normal(0, 0.5, 100)
    assert not len(look_deeper(subject, CLASSES).pairs)


def test_what_a_check_by_looks_alone_names_a_copy_is_one_with_features_too() -> None:
    looks = evidence()
    looks = changed(looks, 10, fingerprint=turned(looks.images[4].fingerprint, SURELY[32]))
    assert look_deeper(looks, CLASSES).pairs.tolist() == [[4, 10]]


def test_copies_with_the_same_wrong_label_are_relabelled_alike() -> None:
    wrong = changed(changed(copied(evidence(), 6, 12), 6, label="dogs"), 12, label="dogs")
    assert rows(look_deeper(wrong, CLASSES)) == [("6.jpg", "relabel", "cats", ""), ("12.jpg", "relabel", "cats", "")]


def test_a_label_that_a_person_settled_is_not_doubted_again() -> None:
    settled = replace(changed(evidence(), 6, label="dogs"), decided=frozenset({"6.jpg"}))
    found = look_deeper(settled, CLASSES)
    assert "suspect-label" not in told(found)
    assert found.corrections == ()


def test_one_of_three_copies_in_three_given_splits_stays_and_it_is_the_test_image() -> None:
    three = copied(copied(evidence(drawn=frozenset()), 8, 12), 8, 13)
    assert sorted(rows(look_deeper(three, CLASSES))) == [("12.jpg", "drop", "", ""), ("13.jpg", "drop", "", "")]


def test_a_copy_across_given_splits_is_an_error_and_the_one_in_training_is_dropped() -> None:
    found = look_deeper(copied(evidence(drawn=frozenset()), 8, 12), CLASSES)
    assert told(found)["near-leaking"].severity == "error"
    assert told(found)["near-leaking"].paths == ("8.jpg [test] ~ 12.jpg [train]",)
    assert rows(found) == [("12.jpg", "drop", "", "")]


def test_the_same_bytes_across_given_splits_are_dropped_too_and_not_told_twice() -> None:
    found = look_deeper(changed(copied(evidence(drawn=frozenset()), 8, 12), 12, digest="8"), CLASSES)
    assert "near-leaking" not in told(found)
    assert rows(found) == [("12.jpg", "drop", "", "")]


def test_copies_under_two_labels_are_told() -> None:
    found = look_deeper(copied(evidence(), 4, 11), CLASSES)
    assert told(found)["near-contradicting-labels"].paths == ("4.jpg [cats] ~ 11.jpg [dogs]",)


def test_a_strange_image_is_told_and_kept() -> None:
    sound = evidence()
    sound.features[7] = np.abs(np.random.default_rng(9).normal(0, 5, 100))
    found = look_deeper(sound, CLASSES)
    assert told(found)["outlier"].paths == ("7.jpg [dogs]",)
    assert not any(path == "7.jpg" and action == "drop" for path, action, _, _ in rows(found))


def test_a_blank_image_is_dropped_and_judged_in_no_other_way() -> None:
    sound = evidence()
    sound.quality[5] = 1, 30, 0.5
    sound.features[5] = 0
    found = look_deeper(sound, CLASSES)
    assert told(found).keys() == {"blank"}
    assert rows(found) == [("5.jpg", "drop", "", "")]
    assert np.isnan(found.farness[5])
    assert np.isnan(found.probabilities[5]).all()


def test_dark_and_blurred_images_are_told() -> None:
    sound = evidence()
    sound.quality[5] = 20, 30, 0.5
    sound.quality[6] = 50, 200, 0.03
    found = look_deeper(sound, CLASSES)
    assert told(found)["dark"].paths == ("5.jpg",)
    assert told(found)["dark"].meaning == "1 image is so dark that little can be seen."
    assert told(found)["blurred"].paths == ("6.jpg",)


def test_classes_that_features_cannot_tell_apart_are_told() -> None:
    sound = evidence()
    generator = np.random.default_rng(3)
    sound.features[:] = np.abs(4 + generator.normal(0, 1, sound.features.shape))
    found = look_deeper(sound, CLASSES)
    assert told(found)["overlapping-classes"].paths[0].startswith("cats and dogs: ")


def test_labels_are_not_doubted_by_features_that_do_not_know_the_classes() -> None:
    sound = evidence()
    sound.features[:] = np.abs(4 + np.random.default_rng(3).normal(0, 1, sound.features.shape))
    found = look_deeper(sound, CLASSES)
    assert told(found)["labels-not-judged"].paths == CLASSES
    assert "suspect-label" not in told(found)
    assert not [row for row in found.corrections if row.action == "relabel"]


def test_a_class_of_one_image_is_not_judged_and_no_obstacle() -> None:
    found = look_deeper(changed(evidence(), 3, label="birds"), ("birds", *CLASSES))
    assert np.isnan(found.probabilities[3]).all()
    assert "suspect-label" not in told(found)


def test_two_images_are_no_obstacle() -> None:
    few = evidence(2)
    assert look_deeper(few, CLASSES).findings == ()
