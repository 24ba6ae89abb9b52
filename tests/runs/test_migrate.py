"""A run that the version before wrote: it opens, predicts, reports and is compared as one of today."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import tellapart as ta
from tellapart.errors import RunError
from tellapart.files import from_json
from tellapart.runs import migrate
from tests.conftest import draw

OLD = Path(__file__).parent / "format-1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """60 drawn images, of which two networks learned for two epochs; its folder of images is not there any more."""
    return shutil.copytree(OLD, tmp_path / "old")


def test_the_folder_is_of_the_format_before() -> None:
    assert from_json((OLD / "run.json").read_text("utf-8"))["tellapart_run"] == migrate.OLDEST == migrate.FORMAT - 1


def test_its_record_and_history_have_todays_words(old: Path) -> None:
    run = ta.open_run(old)
    assert run.status == "done"
    assert run.record.tellapart_run == migrate.FORMAT
    assert run.record.verified_images == 10
    assert [row.images_per_second for row in run.history] == [25.4, 1221.5]
    assert not [key for row in [run.record, *run.history] for key in row.to_dict() if "picture" in key]


def test_it_predicts_what_it_predicted(old: Path) -> None:
    run = ta.open_run(old)
    with (old / "predictions.csv").open(encoding="utf-8", newline="") as file:
        said = {row["path"]: row for row in csv.DictReader(file)}
    for path, row in said.items():
        kind, number = Path(path).stem.split()
        (found,) = run.predictor().predict_named([(path, np.asarray(draw(kind, int(number))))])
        assert found.label == row["label"]
        assert found.probability == pytest.approx(float(row["probability"]), abs=1e-3)


def test_its_report_is_written_anew_and_every_link_in_it_leads_somewhere(old: Path) -> None:
    page = ta.write_report(old).read_text("utf-8")
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert links
    assert links <= set(re.findall(r'id="([^"]+)"', page))


def test_it_can_be_exported_and_listed(old: Path) -> None:
    assert ta.export(old, "keras").path.exists()
    (row,) = ta.summarize_runs(old.parent)
    assert row.status == "done"


def test_a_format_that_is_not_known_is_refused_with_the_version_to_use(old: Path) -> None:
    text = (old / "run.json").read_text("utf-8")
    (old / "run.json").write_text(text.replace('"tellapart_run": 1', '"tellapart_run": 99'), "utf-8")
    with pytest.raises(RunError, match=r"format 99, this one reads 1 to 2\)\. Use the version 0\.1\.0"):
        ta.open_run(old)
