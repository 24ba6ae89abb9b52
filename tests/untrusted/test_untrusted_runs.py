"""A run folder from a stranger: damaged, lying, linked, or naming files of this machine."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.data.catalog import COLUMNS
from tellapart.errors import RunError, TellapartError
from tests.conftest import draw

pytest.importorskip("keras")

DEEP = "[" * 100_000
HUGE = "9" * 10_000


@pytest.fixture
def run(plain_run: ta.Run, tmp_path: Path) -> ta.Run:
    """A finished run that may be changed."""
    return ta.open_run(shutil.copytree(plain_run.path, tmp_path / "run"))


def use_all(run: Path) -> None:
    """What one does with a run that somebody sent: each of it may refuse, in words of ours and in no others."""
    outcomes: list[str] = []
    image = Image.fromarray(np.zeros((9, 9, 3), np.uint8))
    image.save(run.parent / "a.png")
    for use in (
        lambda: ta.open_run(run).evaluate(),
        lambda: ta.open_run(run).predict(run.parent / "a.png"),
        lambda: ta.write_report(run),
        lambda: ta.summarize_runs(run.parent),
        lambda: ta.compare(run, run),
        lambda: ta.resume(run),
        lambda: ta.open_run(run).means,
        lambda: ta.open_run(run).catalog.counts(),
    ):
        try:
            use()
            outcomes.append("")
        except TellapartError as error:
            outcomes.append(str(error))
    assert any(outcomes), "nobody noticed"
    assert all(len(text) < 3000 for text in outcomes)


def record(run: ta.Run, **values: Any) -> str:
    return json.dumps(run.record.to_dict() | values)


RECORDS: dict[str, Callable[[ta.Run], str]] = {
    "no JSON": lambda _: "{",
    "a pickle": lambda _: "\x80\x04\x95",
    "deep": lambda _: DEEP,
    "deep inside": lambda run: record(run)[:-1] + ', "findings": ' + DEEP,
    "a huge number": lambda run: record(run)[:-1] + f', "seed": {HUGE}}}',
    "a list": lambda _: "[]",
    "another format": lambda run: record(run, tellapart_run=10**9),
    "no status": lambda run: record(run, status=None),
    "no task": lambda run: record(run, task=None),
    "classes that are numbers": lambda run: record(run, task={"classes": [1, 2]}),
    "a hundred thousand classes": lambda run: record(run, task={"classes": [str(n) for n in range(100_000)]}),
    "an immense image": lambda run: record(run, image=run.spec.to_dict() | {"height": 10**9, "width": 10**9}),
    "a field that is none": lambda run: record(run, image=run.spec.to_dict() | {"__class__": "os"}),
    "findings that are none": lambda run: record(run, findings=[{"kind": "x"}]),
    "data that is a number": lambda run: record(run, data=5),
    "data with a zero byte": lambda run: record(run, data="/tmp/\0"),
    "no best epoch": lambda run: json.dumps({k: v for k, v in run.record.to_dict().items() if k != "best_epoch"}),
    "words for figures": lambda run: record(run, onnx_difference="much", calibration={"thresholds": []}),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_record_that_lies_is_told_in_words(name: str, run: ta.Run) -> None:
    run.run_file.write_text(RECORDS[name](run))
    use_all(run.path)


FILES: dict[str, dict[str, str]] = {
    "catalog.csv": {
        "nothing": "",
        "other columns": "a,b\n1,2\n",
        "a gigantic field": ",".join(COLUMNS) + "\n" + "x" * 1_000_000 + ",disc,test,,0,1,1,RGB,,,\n",
        "zero bytes": ",".join(COLUMNS) + "\na\0b.png,disc,test,,0,1,1,RGB,,,\n",
        "a size in words": ",".join(COLUMNS) + "\na.png,disc,test,,0,wide,1,RGB,,,\n",
        "a huge size": ",".join(COLUMNS) + f"\na.png,disc,test,,0,{HUGE},1,RGB,,,\n",
        "too few cells": ",".join(COLUMNS) + "\na.png,disc\n",
        "too many cells": ",".join(COLUMNS) + "\na.png,disc,test,,0,1,1,RGB,,,,,,,\n",
        "a class of nobody": ",".join(COLUMNS) + "\na.png,harm,test,,0,1,1,RGB,,,\n",
        "a split of nobody": ",".join(COLUMNS) + "\na.png,disc,harm,,0,1,1,RGB,,,\n",
        "no digest": ",".join(COLUMNS) + "\n/etc/hostname,disc,test,,,1,1,RGB,,,\n",
    },
    "config.toml": {
        "no TOML": "[",
        "deep": "a = " + DEEP,
        "a huge number": f"seed = {HUGE}",
        "a setting of nobody": "[train]\nharm = 1\n",
        "a model of nobody": '[model]\nname = "os.system"\n',
    },
    "metrics.json": {"no JSON": "{", "deep": DEEP, "a list": "[]", "word": '{"test": "good"}', "empty": '{"test": {}}'},
    "history.jsonl": {"a list": "[]\n", "rows without figures": '{"epoch": 1}\n'},
    "predictions.csv": {"a gigantic field": "path,truth,label,probability\n" + "x" * 1_000_000 + ",a,b,1\n"},
}  # fmt: skip
CASES = [(file, name) for file, contents in FILES.items() for name in contents]


@pytest.mark.parametrize(("file", "name"), CASES, ids=[f"{file}: {name}" for file, name in CASES])
def test_a_file_of_a_run_that_is_damaged_is_told_in_words(file: str, name: str, run: ta.Run) -> None:
    (run.path / file).write_text(FILES[file][name])
    run.update(status="training")  # so that it may be resumed, too
    use_all(run.path)


def test_class_means_that_are_a_pickle_or_promise_a_petabyte_are_refused(run: ta.Run, evil_pickle: bytes) -> None:
    def header(kind: str, shape: str) -> bytes:
        words = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
        return b"\x93NUMPY\1\0v\0" + words.ljust(117).encode() + b"\n"

    for content in (
        evil_pickle,
        header("|O", "()") + evil_pickle,
        header("<f4", "(1000000000000000,)"),
        header("<f4", "(1000000000000,)") + bytes(1000),
        header("<f4", "__import__('os').mkdir('harm was done')"),
        b"",
    ):
        run.means_file.write_bytes(content)
        with pytest.raises(RunError, match=r"class_means\.npy is damaged or not from tellapart"):
            _ = run.means


def test_a_checkpoint_that_is_a_pickle_is_refused(run: ta.Run, evil_pickle: bytes) -> None:
    run.checkpoint.mkdir()
    (run.checkpoint / "state.json").write_text('{"epoch": 1, "best": 1}')
    for name in ("weights-1", "optimizer-1"):
        (run.checkpoint / f"{name}.safetensors").write_bytes(evil_pickle)
    run.update(status="interrupted")
    with pytest.raises(RunError, match=r"checkpoint .* cannot be read"):
        ta.resume(run.path)


STATES = ["{", DEEP, "[]", '{"epoch": "../../x", "best": 1}', '{"epoch": 1}', '{"epoch": 1e99, "best": 1}']


@pytest.mark.parametrize("state", STATES)
def test_a_state_of_training_that_lies_is_refused(state: str, run: ta.Run) -> None:
    run.checkpoint.mkdir()
    (run.checkpoint / "state.json").write_text(state)
    run.update(status="interrupted")
    with pytest.raises(RunError):
        ta.resume(run.path)


def point_at(run: ta.Run, secret: Path, place: str, digest: Callable[[str], str]) -> None:
    """Every image of the catalog becomes that file, and the predictions name it as wrong."""
    root = {"absolute": "/nowhere", "climbing": str(run.path), "root": str(secret.parent), "link": str(run.path)}[place]
    name = {
        "absolute": str(secret),
        "climbing": os.path.relpath(secret, run.path),
        "root": secret.name,
        "link": "cat.png",
    }[place]
    if place == "link":
        (run.path / "cat.png").symlink_to(secret)
    run.update(data=root)
    for path in (run.catalog_file, run.predictions_file):
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        for number, row in enumerate(rows if path == run.catalog_file else ()):
            # Paths of a catalog differ; these lead to one file.
            row["path"] = "/" * number + name if place == "absolute" else "./" * number + name
            row["digest"] = digest(row["digest"])
            row["width"] = row["height"] = "64"
        if path == run.catalog_file:
            test = [row["path"] for row in rows if row["split"] == "test"]
        else:
            for row, known in zip(rows, test, strict=True):
                row["path"], row["label"] = known, "disc" if row["truth"] == "stripes" else "stripes"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    metrics = run.metrics
    metrics["test"]["mistakes"] = [
        {"path": path, "truth": "disc", "predicted": "stripes", "probability": 0.9} for path in test
    ]
    run.write_metrics(metrics)


@pytest.mark.parametrize("place", ["absolute", "climbing", "root", "link"])
@pytest.mark.parametrize("digest", ["as it was", "none"])
def test_a_catalog_that_names_a_private_image_does_not_get_it_into_a_report_or_a_prediction(
    place: str, digest: str, run: ta.Run, tmp_path: Path
) -> None:
    secret = tmp_path / "private" / "me.png"
    secret.parent.mkdir()
    Image.new("RGB", (64, 64), (1, 250, 3)).save(secret)
    kept = secret.read_bytes()
    point_at(run, secret, place, (lambda was: was) if digest == "as it was" else (lambda _: ""))
    refusals = []
    for use in (ta.write_report, ta.evaluate, ta.resume):
        run.update(status="done" if use is ta.write_report else "interrupted")
        try:
            use(run.path)
        except TellapartError as error:
            refusals.append(str(error))
    assert all(re.search("changed since|no digest", text) for text in refusals)
    assert len(refusals) >= 2  # a report is written, without the images
    for data in re.findall(r'src="data:image/[a-z]+;base64,([^"]+)"', run.report_file.read_text()):
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB"))
        assert (shown[..., 1] > 240).mean() < 0.9
    assert secret.read_bytes() == kept


def test_the_images_that_a_run_was_made_of_are_shown_though_they_are_absolute_or_elsewhere(
    run: ta.Run, two_shapes: Path, tmp_path: Path
) -> None:
    """The other side: it is the content that decides, and not the place."""
    moved = shutil.copytree(two_shapes, tmp_path / "moved")
    run.update(data=os.path.relpath(moved, Path.cwd()))
    ta.write_report(run.path)
    assert "cannot be read any more" not in run.report_file.read_text()
    for path in moved.rglob("*.png"):
        draw("disc", 999).save(path)
    with pytest.raises(TellapartError, match="changed since the catalog was made"):
        run.evaluate()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_catalog_that_names_a_pipe_or_a_device_does_not_wait_or_fill_the_memory(run: ta.Run) -> None:
    os.mkfifo(run.path / "pipe")
    for name in ("pipe", "/dev/zero"):
        point_at_device(run, name)
        with pytest.raises(TellapartError, match=r"it is a (pipe|device), not a file"):
            run.evaluate()
        run.update(status="interrupted")
        with pytest.raises(RunError, match="None of the 60 images"):
            ta.resume(run.path)


def point_at_device(run: ta.Run, name: str) -> None:
    run.update(data=str(run.path))
    with run.catalog_file.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with run.catalog_file.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"path": name} for row in rows)
