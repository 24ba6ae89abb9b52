"""What deep checks say of evidence; where the evidence comes from, tests/test_trust.py shows on real pictures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tellapart.data.catalog import Picture
from tellapart.data.deep import Deep, Evidence, look_deeper
from tellapart.data.findings import Finding

pytest.importorskip("cleanlab")

CLASSES = ("cats", "dogs")


def evidence(count: int = 200, *, given: bool = False, seed: int = 0) -> Evidence:
    """Sound pictures of two kinds, well apart."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    kinds = generator.normal(0, 1, (2, 100))[labels]
    features = np.abs(4 + kinds + generator.uniform(-1.5, 1.5, (count, 100))).astype(np.float16)
    looks = np.packbits(generator.random((count, 128)) < 0.5, axis=1)
    pictures = tuple(
        Picture(f"{i}.jpg", CLASSES[labels[i]], ("train", "validation", "test")[i % 3], digest=str(i),
                fingerprint=looks[i].tobytes().hex(), width=100, height=100)
        for i in range(count)
    )  # fmt: skip
    return Evidence(pictures, features, np.tile(np.array([50, 200, 0.4], np.float32), (count, 1)), given)


def changed(sound: Evidence, place: int, **values: str) -> Evidence:
    rows = list(sound.pictures)
    rows[place] = replace(rows[place], **values)
    return replace(sound, pictures=tuple(rows))


def copied(sound: Evidence, one: int, other: int) -> Evidence:
    """The other picture is a copy to the eye of the one."""
    sound.features[other] = sound.features[one] + np.float16(0.01)
    return changed(sound, other, fingerprint=sound.pictures[one].fingerprint)


def told(found: Deep) -> dict[str, Finding]:
    return {finding.kind: finding for finding in found.findings}


def rows(found: Deep) -> list[tuple[str, str, str, str]]:
    return [(c.path, c.action, c.label, c.group) for c in found.corrections]


def test_sound_pictures_give_no_finding_and_no_correction() -> None:
    found = look_deeper(evidence(), CLASSES)
    assert found.findings == ()
    assert found.corrections == ()


def test_a_wrong_label_is_named_with_what_the_picture_looks_like_and_relabelled() -> None:
    found = look_deeper(changed(evidence(), 6, label="dogs"), CLASSES)
    assert told(found)["suspect-label"].paths[0].startswith("6.jpg [dogs; looks like cats, ")
    assert rows(found) == [("6.jpg", "relabel", "cats", "")]


def test_copies_are_regrouped_only_where_their_looks_alone_do_not_keep_them_together() -> None:
    assert rows(look_deeper(copied(evidence(), 4, 10), CLASSES)) == []
    near = evidence()
    near.features[10] = near.features[4]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(near.pictures[4].fingerprint), np.uint8))
    bits[:35] ^= 1
    near = changed(near, 10, fingerprint=np.packbits(bits).tobytes().hex())
    found = look_deeper(near, CLASSES)
    assert found.pairs.tolist() == [[4, 10]]
    assert rows(found) == [("4.jpg", "regroup", "", "copies-1"), ("10.jpg", "regroup", "", "copies-1")]


def test_neither_the_same_composition_nor_the_same_subject_alone_is_a_copy() -> None:
    looks = changed(evidence(), 10, fingerprint=evidence().pictures[4].fingerprint)
    assert not len(look_deeper(looks, CLASSES).pairs)
    subject = evidence()
    subject.features[10] = subject.features[4] + np.random.default_rng(1).normal(0, 0.5, 100)
    assert not len(look_deeper(subject, CLASSES).pairs)


def test_a_copy_across_given_splits_is_an_error_and_the_one_in_training_is_dropped() -> None:
    found = look_deeper(copied(evidence(given=True), 8, 12), CLASSES)
    assert told(found)["near-leaking"].severity == "error"
    assert told(found)["near-leaking"].paths == ("8.jpg [test] ~ 12.jpg [train]",)
    assert rows(found) == [("12.jpg", "drop", "", "")]


def test_the_same_bytes_across_given_splits_are_dropped_too_and_not_told_twice() -> None:
    found = look_deeper(changed(copied(evidence(given=True), 8, 12), 12, digest="8"), CLASSES)
    assert "near-leaking" not in told(found)
    assert rows(found) == [("12.jpg", "drop", "", "")]


def test_copies_under_two_labels_are_told() -> None:
    found = look_deeper(copied(evidence(), 4, 11), CLASSES)
    assert told(found)["near-contradicting-labels"].paths == ("4.jpg [cats] ~ 11.jpg [dogs]",)


def test_a_strange_picture_is_told_and_kept() -> None:
    sound = evidence()
    sound.features[7] = np.abs(np.random.default_rng(9).normal(0, 5, 100))
    found = look_deeper(sound, CLASSES)
    assert told(found)["outlier"].paths == ("7.jpg [dogs]",)
    assert not any(path == "7.jpg" and action == "drop" for path, action, _, _ in rows(found))


def test_a_blank_picture_is_dropped_and_judged_in_no_other_way() -> None:
    sound = evidence()
    sound.quality[5] = 1, 30, 0.5
    sound.features[5] = 0
    found = look_deeper(sound, CLASSES)
    assert told(found).keys() == {"blank"}
    assert rows(found) == [("5.jpg", "drop", "", "")]
    assert np.isnan(found.farness[5])
    assert np.isnan(found.probabilities[5]).all()


def test_dark_and_blurred_pictures_are_told() -> None:
    sound = evidence()
    sound.quality[5] = 20, 30, 0.5
    sound.quality[6] = 50, 200, 0.03
    found = look_deeper(sound, CLASSES)
    assert told(found)["dark"].paths == ("5.jpg",)
    assert told(found)["dark"].meaning == "1 picture is so dark that little can be seen."
    assert told(found)["blurred"].paths == ("6.jpg",)


def test_classes_that_features_cannot_tell_apart_are_told() -> None:
    sound = evidence()
    generator = np.random.default_rng(3)
    sound.features[:] = np.abs(4 + generator.normal(0, 1, sound.features.shape))
    assert told(look_deeper(sound, CLASSES))["overlapping-classes"].paths[0].startswith("cats and dogs: ")


def test_a_class_of_one_picture_is_not_judged_and_no_obstacle() -> None:
    found = look_deeper(changed(evidence(), 3, label="birds"), ("birds", *CLASSES))
    assert np.isnan(found.probabilities[3]).all()
    assert "suspect-label" not in told(found)


def test_two_pictures_are_no_obstacle() -> None:
    few = evidence(2)
    assert look_deeper(few, CLASSES).findings == ()
