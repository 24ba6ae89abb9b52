from __future__ import annotations

import random
import re

import pytest

from tellapart.data.catalog import ImageRecord
from tellapart.data.checks import CHECKS, find_all
from tellapart.data.findings import Finding


def many(label: str, count: int = 40, split: str = "train", **values: object) -> list[ImageRecord]:
    return [
        ImageRecord(
            f"{label}/{split}{i}.jpg", label, split, digest=f"{label}{split}{i}", width=100, height=80, **values
        )
        for i in range(count)
    ]


def good() -> list[ImageRecord]:
    return [p for label in "ab" for split in ("train", "validation", "test") for p in many(label, 30, split)]


def found(rows: list[ImageRecord]) -> dict[str, Finding]:
    return {finding.kind: finding for finding in find_all(rows)}


def test_sound_images_give_no_finding() -> None:
    assert find_all(good()) == ()


def faulty() -> list[ImageRecord]:
    """Something for each check."""
    rows = [*good(), *many("a", 200, "train")[30:], *many("Few", 2), *many("few", 5), *many("B", 4, "test")]
    rows += [ImageRecord(f"b/{error}.jpg", "b", error=error) for error in ("empty", "truncated: ends early")]
    for number, label in enumerate("abab"):
        rows.append(ImageRecord(f"b/{number}.jpg", label, "test", digest=f"atrain{number}", width=100, height=80))
    rows.append(ImageRecord("b/damaged.jpg", "b", "train", digest="d", width=100, height=80, warning="ends early"))
    return [*rows, *(ImageRecord(f"a/{w}.jpg", "a", "train", digest=f"w{w}", width=w, height=90) for w in (20, 900))]


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_leaves_sound_images_alone_and_tells_of_faulty_ones_in_words_whatever_their_order(name: str) -> None:
    check, rows = CHECKS[name], faulty()
    assert list(check.find(good())) == []
    findings = list(check.find(rows))
    assert findings or name == "near-duplicates", "no image here has a fingerprint"
    known = {text for row in rows for text in (row.path, row.label)}
    for finding in findings:
        assert re.fullmatch(r"[a-z]+(-[a-z]+)*", finding.kind)
        assert finding.severity in ("error", "warning", "note")
        assert finding.meaning.endswith(".")
        assert all(any(text in named for text in known) for named in finding.paths)
    random.Random(0).shuffle(rows)
    assert {(f.kind, f.severity, len(f.paths)) for f in check.find(rows)} == {
        (f.kind, f.severity, len(f.paths)) for f in findings
    }


def test_broken_images_are_listed_with_path_and_reason_and_counted() -> None:
    rows = [
        *good(),
        ImageRecord("a/x.jpg", "a", error="truncated: ends early"),
        ImageRecord("a/y.jpg", "a", error="empty"),
    ]
    finding = found(rows)["broken"]
    assert finding.paths == ("a/x.jpg (truncated: ends early)", "a/y.jpg (empty)")
    assert "2 images" in finding.meaning
    assert "1 truncated" in finding.meaning


def test_copies_in_one_class_are_a_note() -> None:
    rows = [*good(), ImageRecord("a/copy.jpg", "a", "train", digest="atrain0", width=100, height=80)]
    finding = found(rows)["duplicate"]
    assert finding.severity == "note"
    assert finding.paths == ("a/train0.jpg = a/copy.jpg",)


def test_an_image_under_two_labels_is_an_error() -> None:
    rows = [*good(), ImageRecord("b/copy.jpg", "b", "train", digest="atrain0", width=100, height=80)]
    finding = found(rows)["contradicting-labels"]
    assert finding.severity == "error"
    assert finding.paths == ("a/train0.jpg [a] = b/copy.jpg [b]",)
    assert "duplicate" not in found(rows)


def copy(of: str, split: str, label: str = "a") -> ImageRecord:
    return ImageRecord(f"{label}/copy of {of} in {split}.jpg", label, split, digest=of, width=100, height=80)


def test_a_copy_of_a_training_image_in_test_is_said_to_make_test_accuracy_optimistic() -> None:
    finding = found([*good(), copy("atrain0", "test")])["leaking"]
    assert finding.severity == "error"
    assert finding.paths == ("a/train0.jpg [train] = a/copy of atrain0 in test.jpg [test]",)
    assert finding.meaning == (
        "1 test image has a copy in training, byte for byte: test accuracy is optimistic (leakage)."
    )
    assert "check --deep --write" in finding.done


def test_leaks_into_test_from_training_and_from_validation_are_counted_by_test_images() -> None:
    rows = [*good(), copy("atrain0", "test"), copy("avalidation1", "test"), copy("avalidation2", "test")]
    meaning = found([*rows, copy("avalidation2", "train")])["leaking"].meaning
    assert meaning.startswith("3 test images have copies in training (2) and in validation (1), byte for byte:")


def test_a_copy_in_training_and_validation_makes_the_choice_of_the_model_optimistic_and_not_the_test() -> None:
    told = found([*good(), copy("atrain0", "validation")])
    assert "leaking" not in told
    assert told["leaking-validation"].severity == "warning"
    assert told["leaking-validation"].meaning == (
        "1 validation image has a copy in training, byte for byte: the choice of the model is optimistic (leakage),"
        " test accuracy is not."
    )


def test_classes_whose_names_differ_in_capitals_or_blanks_are_told() -> None:
    finding = found([*many("Dog"), *many("dog"), *many("sea lion"), *many("Sea_Lion"), *many("cat")])[
        "class-names-alike"
    ]
    assert finding.needs_person
    assert finding.paths == ("'Dog' = 'dog'", "'Sea_Lion' = 'sea lion'")


def test_letters_and_signed_numbers_are_classes_of_their_own() -> None:
    assert "class-names-alike" not in found([*many("a"), *many("A"), *many("1"), *many("-1"), *many("c"), *many("c+")])


def test_a_class_of_two_images_is_not_said_to_be_refused_as_training_takes_it() -> None:
    assert "refuses" not in found([*good(), *many("c", 2)])["too-few"].done
    assert "refuses" in found([*good(), ImageRecord("c/x.jpg", "c", error="empty")])["too-few"].done


def test_imbalance_is_a_note_and_when_gross_a_warning() -> None:
    assert found([*good(), *many("a", 90, "train")[30:]])["imbalanced"].severity == "note"
    gross = [*many("a", 1000), *many("b", 60), *many("b", 5, "test"), *many("b", 5, "validation")]
    assert found(gross)["imbalanced"].severity == "warning"


def test_a_class_of_two_is_an_error_and_a_class_of_ten_a_warning() -> None:
    assert found([*good(), *many("c", 2)])["too-few"].paths == ("c (2)",)
    scarce = found([*good(), *many("c", 10)])
    assert scarce["few"].paths == ("c (10)",)
    assert scarce["class-not-in-test"].paths == ("c",)


def test_a_class_whose_images_are_all_broken_is_told() -> None:
    rows = [*good(), ImageRecord("c/x.jpg", "c", error="empty")]
    assert found(rows)["too-few"].paths == ("c (0)",)


def test_a_few_tiny_images_are_odd_and_a_tiny_collection_is_not() -> None:
    rows = [*good(), ImageRecord("a/tiny.jpg", "a", "train", digest="t", width=20, height=80)]
    assert found(rows)["tiny"].paths == ("a/tiny.jpg (20x80)",)
    small = [ImageRecord(p.path, p.label, p.split, digest=p.digest, width=28, height=28) for p in good()]
    assert find_all(small) == ()


def test_very_long_images_are_noted() -> None:
    rows = [*good(), ImageRecord("a/long.jpg", "a", "train", digest="l", width=1000, height=200)]
    assert found(rows)["elongated"].paths == ("a/long.jpg (1000x200)",)


def test_what_needs_a_person_comes_first() -> None:
    rows = [*good(), *many("a", 90, "train")[30:]]
    rows.append(ImageRecord("b/copy.jpg", "b", "train", digest="atrain0", width=100, height=80))
    severities = [finding.severity for finding in find_all(rows)]
    assert severities == sorted(severities, key=["error", "warning", "note"].index)
