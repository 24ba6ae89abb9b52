"""A person labels photographs of three breeds; the head learns, asks, and tells how good it is."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from benchmarks.labels import Shown
from tellapart.api.labels import without_labels
from tellapart.data.decisions import Decisions
from tellapart.errors import SourceError
from tellapart.training.labelling import HOW, Labels
from tellapart.training.learner import assess
from tellapart.training.suggest import typical, uncertain

BUILTIN = Path(ta.__file__).parent / "data" / "builtin" / "pets"
COUNT = 40


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> dict[str, str]:  # noqa: ARG001 - features
    folder = tmp_path_factory.mktemp("labelling") / "photos"
    found = {}
    for number, breed in enumerate(sorted(path.name for path in BUILTIN.iterdir())):
        for place, path in enumerate(sorted((BUILTIN / breed).glob("*.jpg"))[:COUNT]):
            name = f"{place % 4}/{place}{'abc'[number]}.jpg"
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, folder / name)
            found[name] = breed
    (folder / "0" / "broken.jpg").write_bytes(b"no image")
    return found | {"": str(folder)}


@pytest.fixture(scope="module")
def filled(truth: dict[str, str]) -> Labels:
    return ta.labels(truth[""], file=Path(truth[""]).parent / "unused.csv", progress=ta.SILENT)


@pytest.fixture
def labels(filled: Labels, tmp_path: Path) -> Labels:
    return Labels(filled.pool, Decisions(tmp_path / "labels.csv"))


def answer(labels: Labels, truth: dict[str, str], count: int) -> list[str]:
    """Label what is suggested until so many have a label; how each was chosen."""
    chosen = []
    while len(labels) < count:
        wanted = labels.suggest(1)[0]
        labels.give({wanted.path: truth[wanted.path]}, wanted.how)
        chosen.append(wanted.how)
    return chosen


def test_a_person_who_answers_teaches_what_all_labels_would(labels: Labels, truth: dict[str, str]) -> None:
    assert [one.how for one in labels.suggest(5)] == ["random", *["typical"] * 4]
    chosen = answer(labels, truth, 60)
    assert 10 <= chosen.count("random") <= 12  # one in five, of which some were typical of others
    assert set(chosen) == {"random", "typical", "uncertain"} < set(HOW)
    rest = [path for path in truth if path and path not in labels]
    right = sum(labels.likely(path)[0][0] == truth[path] for path in rest)
    assert right >= 0.9 * len(rest)
    offered = labels.obvious()
    assert offered is not None
    assert sum(truth[path] == offered.label for path in offered.paths) >= 0.95 * len(offered.paths)
    told = labels.assess()
    assert told.accuracy is not None
    assert told.drawn == 12  # those drawn at random, and no other
    assert told.accuracy.low < 0.95 < told.accuracy.high
    assert told.changed is not None
    path, similarity = labels.neighbours(rest[0], 1)[0]
    assert path in labels
    assert -1 <= similarity <= 1


def test_a_file_of_labels_is_what_train_reads_without_what_was_skipped_or_undone(
    labels: Labels, truth: dict[str, str]
) -> None:
    answer(labels, truth, 30)
    skipped, undone = (one.path for one in labels.suggest(2))
    labels.skip([skipped])
    labels.give({undone: "Bengal"})
    assert labels.undo() == (undone,)
    first = next(iter(labels))
    labels.give({first: "Bengal"})  # a person thinks again
    found = ta.read(labels.decisions.path, root=truth[""], progress=ta.SILENT)
    assert {image.path: image.label for image in found.images} == dict(labels)
    assert labels[first] == "Bengal"
    assert {skipped, undone}.isdisjoint(labels)
    assert labels.suggest(1)[0].path == undone
    again = Labels(labels.pool, Decisions(labels.decisions.path))
    assert dict(again) == dict(labels)
    assert skipped not in [one.path for one in again.suggest(200)]
    while labels.undo():
        pass
    assert not labels


def test_what_cannot_be_read_is_never_asked_for_and_everything_else_is(labels: Labels, truth: dict[str, str]) -> None:
    every = [one.path for one in labels.suggest(1000)]
    assert sorted(every) == sorted(path for path in truth if path)


def test_a_key_takes_a_fifth_of_a_second_with_two_thousand_labels(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    classes = generator.integers(0, 10, 5000)
    values = generator.normal(size=(5000, 256)).astype(np.float32)
    values[np.arange(5000), classes] += 3
    labels = Labels(Shown(values), Decisions(tmp_path / "labels.csv"))  # type: ignore[arg-type]
    for start in range(0, 2000, 100):
        labels.give({str(place): str(classes[place]) for place in range(start, start + 100)})
    seconds = []
    for _ in range(7):
        wanted = labels.suggest(1)[0]
        started = time.perf_counter()
        labels.give({wanted.path: str(classes[int(wanted.path)])}, wanted.how)
        assert labels.suggest(4)[0].likely
        assert labels.obvious()
        assert len(labels.classes) == 10
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.2


def test_a_folder_without_labels_is_told_from_one_with(truth: dict[str, str], tmp_path: Path) -> None:
    flat = tmp_path / "photos"
    flat.mkdir()
    for number, path in enumerate(sorted(Path(truth[""]).rglob("*a.jpg"))[:4]):
        shutil.copy(path, flat / f"{number}.jpg")
    config = ta.make_config()
    assert without_labels(flat, config)
    assert not without_labels(truth[""], config)  # its folders look like classes
    (flat / "labels.csv").write_text("path,label\n0.jpg,a\n1.jpg,b\n2.jpg,a\n")
    assert not without_labels(flat, config)
    (flat / "labels.csv").write_text("name\n0\n")
    for wrong in (flat, flat / "0.jpg", tmp_path / "nothing"):
        with pytest.raises(SourceError):
            without_labels(wrong, config)


def test_images_asked_for_because_they_are_hard_do_not_lower_the_accuracy() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(400, 8)).astype(np.float32)
    labels = (values[:, 0] > 0).astype(np.int64)
    values[:, 0] += np.where(labels, 3, -3)
    hard = np.arange(200, 400)
    values[hard, 0], labels[hard] = 0, generator.integers(0, 2, 200)
    drawn = np.arange(400) < 50
    told = assess(values, labels, drawn, values)
    assert told.accuracy is not None
    assert told.accuracy.value > 0.9
    assert told.drawn == 50


def test_a_batch_asks_different_questions() -> None:
    generator = np.random.default_rng(2)
    centres = 10 * np.eye(6, dtype=np.float32)
    values = np.repeat(centres, 30, axis=0) + generator.normal(size=(180, 6)).astype(np.float32) / 10
    half = np.full((180, 2), 0.5, np.float32)
    half[:, 0] += generator.uniform(0, 0.01, 180)
    assert sorted(place // 30 for place in uncertain(values, half, np.arange(180), 6)) == list(range(6))
    asked = typical(values, np.array([0, 31]), np.setdiff1d(np.arange(180), [0, 31]), 4)
    assert sorted(place // 30 for place in asked) == [2, 3, 4, 5]
