"""Known faults in real images, through the whole of `check --deep` and `train --corrections`.

docs/trust.md has the figures on more images: python -m benchmarks.trust.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.data.corrections import read_corrections
from tellapart.data.deep_checks import Checked
from tellapart.errors import ConfigError
from tellapart.progress import Progress
from tests.faults import Faults, Found, count_found, make_faults

pytest.importorskip("keras")
pytest.importorskip("cleanlab")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("shared_cache")]


@dataclass(frozen=True)
class Case:
    folder: Path
    faults: Faults
    checked: Checked
    found: dict[str, Found]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("faulty")
    faults = make_faults("builtin:pets", folder)
    checked = ta.check(folder, deep=True)
    return Case(folder, faults, checked, {row.what: row for row in count_found(faults, checked)})


def share(case: Case, what: str) -> float:
    row = case.found[what]
    return row.hits / row.n


def test_most_flipped_labels_stand_in_the_first_tenth_of_the_list(case: Case) -> None:
    assert share(case, "flipped labels in the first tenth of the ranked list") >= 0.8
    assert share(case, "flipped labels that are named suspect") >= 0.7
    assert share(case, "named suspect and not flipped, of all other labels") <= 0.03


def test_near_duplicates_across_the_splits_are_found_with_hardly_a_false_alarm(case: Case) -> None:
    assert share(case, "near-duplicates across the splits") >= 0.9
    assert share(case, "pairs named that were not made, of all pairs") < 0.001


def test_outliers_are_found_and_few_others_are_taken_for_them(case: Case) -> None:
    assert share(case, "outliers") >= 0.8
    assert share(case, "named outliers and neither these nor spoiled") <= 0.02


@pytest.mark.parametrize("kind", ["blank", "dark", "blurred", "tiny"])
def test_spoiled_images_are_found(case: Case, kind: str) -> None:
    assert share(case, f"{kind} images") >= (1 if kind == "blank" else 0.8)
    assert share(case, f"named {kind} and neither so nor enlarged") <= 0.01


def test_corrections_that_a_check_proposed_are_applied_by_training_without_a_change_to_an_image(
    case: Case, tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in case.folder.rglob("*")}
    case.checked.write_corrections(tmp_path / "corrections.csv")
    faulty = ta.train(case.folder, out=tmp_path / "faulty", model="efficientnet-lite0")
    config = ta.make_config(model="efficientnet-lite0", data={"corrections": str(tmp_path / "corrections.csv")})
    seen: set[str] = set()

    class Stages(Progress):
        def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
            seen.add(stage)

    run = ta.train(case.folder, out=tmp_path / "run", config=config, progress=Stages())
    assert not any(stage.startswith("features") for stage in seen), "training computed what the check had computed"
    labels = {image.path: image.label for image in run.catalog.images}
    relabelled = {row.path: row.label for row in case.checked.corrections if row.action == "relabel"}
    dropped = {row.path for row in case.checked.corrections if row.action == "drop"}
    assert relabelled
    assert dropped
    assert all(labels[path] == label for path, label in relabelled.items())
    assert not dropped & labels.keys()
    assert run.corrections_file.read_bytes() == (tmp_path / "corrections.csv").read_bytes()
    assert {path: path.stat().st_mtime_ns for path in case.folder.rglob("*")} == before
    assert not any("leaking" in finding.kind for finding in run.catalog.findings)
    # Where the copies were dropped nothing leaks any more; where they stay, accuracy is told without them as well.
    assert list(run.metrics) == ["test"]
    assert list(faulty.metrics) == ["test", "test_without_leaks"]
    clean, whole = faulty.metrics["test_without_leaks"], faulty.metrics["test"]
    assert whole["n"] - 20 <= clean["n"] <= whole["n"] - 10
    assert "have a copy among those that trained or selected the network" in faulty.evaluate().notes[-1]
    assert str(clean["n"]) in faulty.evaluate().notes[-1]
    # The same catalog without the file: a run does not depend on it any more.
    (tmp_path / "corrections.csv").unlink()
    assert ta.open_run(run.path).evaluate().n == run.metrics["test"]["n"]
    learned = ta.evaluate(faulty.path, case.folder / "train")
    assert learned.notes[-1].startswith(f"{learned.n} of the {learned.n} images have a copy among those")


@pytest.mark.parametrize("given", [True, False], ids=["splits given", "splits drawn"])
def test_corrections_that_a_check_proposed_settle_what_they_claim_to_and_are_not_proposed_again(
    case: Case, tmp_path: Path, given: bool
) -> None:
    folder, checked = case.folder, case.checked
    if not given:
        folder = tmp_path / "classes"
        for path in sorted(case.folder.glob("*/*/*.jpg")):
            place = folder / path.parent.name / path.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
        checked = ta.check(folder, deep=True)
    found = {finding.kind for finding in checked.catalog.findings}
    assert "near-leaking" in found if given else "near-separated" in found
    proposed = {(row.path, row.action) for row in checked.corrections}
    assert {"relabel", "drop"} <= {action for _, action in proposed}
    assert given or "regroup" in {action for _, action in proposed}
    file, again = tmp_path / "c.csv", tmp_path / "again.csv"
    checked.write_corrections(file)
    trained_on = ta.read(folder, corrections=str(file))
    second = ta.check(folder, deep=True, corrections=str(file))
    for catalog in (trained_on, second.catalog):
        kinds = {finding.kind for finding in catalog.findings}
        assert not kinds & {"near-separated", "blank", "contradicting-labels"}
        assert not any("leaking" in kind for kind in kinds)
    assert not proposed & {(row.path, row.action) for row in second.corrections}
    doubted = [f.paths for f in second.catalog.findings if f.kind == "suspect-label"]
    corrected = {row.path for row in checked.corrections if row.action == "relabel"}
    assert not corrected & {line.partition(" [")[0] for lines in doubted for line in lines}
    # A second look adds to the first: who trains with its file has both.
    second.write_corrections(again)
    assert set(read_corrections(file)) <= set(read_corrections(again))


def test_a_backbone_that_was_converted_before_needs_no_tensorflow(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    from tellapart.models.classifier import Classifier

    monkeypatch.setattr(Classifier, "from_config", None)
    again = ta.check(case.folder, deep=True)
    assert again.catalog.findings == case.checked.catalog.findings
    assert again.corrections == case.checked.corrections
    assert "keras" in sys.modules  # the fixture's own


def test_corrections_of_a_catalog_that_was_read_already_are_refused(case: Case, tmp_path: Path) -> None:
    case.checked.write_corrections(tmp_path / "c.csv")
    config = ta.make_config(data={"corrections": str(tmp_path / "c.csv")})
    with pytest.raises(ConfigError, match=r"Give them to read\(\)"):
        ta.train(case.checked.catalog, config=config, out=tmp_path / "run")
