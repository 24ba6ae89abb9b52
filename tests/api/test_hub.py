"""`push` and `pull` against a hub on loopback, by the hub's own client; the model card, as that client reads it."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.errors import RunError
from tellapart.report.model_card import WRITTEN, model_card, write_model_card
from tests.api.hub_server import Hub, hub
from tests.command import COMMAND


def call(*arguments: str | Path, endpoint: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_TOKEN": Hub.token, "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
    }  # fmt: skip
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home, check=False)


def test_a_pushed_run_is_pulled_again_and_predicts_the_same(shapes_run: Path, two_shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub")
    image = next(two_shapes.rglob("*.png"))
    with hub() as (address, held):
        sent = call("push", shapes_run, "hf://me/shapes", endpoint=address, home=tmp_path)
        assert sent.returncode == 0, sent.stderr
        assert f"sent to {address}/me/shapes" in sent.stdout
        assert set(held.repositories["me/shapes"]) == {"README.md", "model.onnx"}
        assert str(two_shapes).encode() not in b"".join(held.repositories["me/shapes"].values())
        assert image.name.encode() not in b"".join(held.repositories["me/shapes"].values())
        # Whatever else lies there is not fetched.
        held.repositories["me/shapes"]["run.py"] = b"raise SystemExit"
        pulled = call("pull", "hf://me/shapes", endpoint=address, home=tmp_path)
        assert pulled.returncode == 0, pulled.stderr
        assert "tells apart disc and stripes" in pulled.stdout
        assert {path.name for path in (tmp_path / "shapes").iterdir()} == {"README.md", "model.onnx"}
        again = call("pull", "hf://me/shapes", endpoint=address, home=tmp_path)
        assert again.returncode == 2
        assert "not empty" in again.stderr
        held.repositories["me/other"] = {"model.onnx": b"no network"}
        foreign = call("pull", "hf://me/other", endpoint=address, home=tmp_path)
        assert foreign.returncode == 2
        assert "cannot be read as an ONNX model" in foreign.stderr
        assert not (tmp_path / "other").exists()
        absent = call("pull", "hf://me/absent", endpoint=address, home=tmp_path)
        assert absent.returncode == 2
        assert "hub refuses hf://me/absent" in absent.stderr
        assert "Traceback" not in absent.stderr
    ours, theirs = (
        ta.open_run(shapes_run).predict(image),
        list(ta.Predictor(tmp_path / "shapes/model.onnx").predict(image)),
    )
    assert ours[0].probabilities == theirs[0].probabilities


def test_a_dry_run_sends_nothing_and_a_wrong_name_is_told(shapes_run: Path, tmp_path: Path) -> None:
    with hub() as (address, held):
        done = call("push", shapes_run, "hf://me/shapes", "--dry-run", endpoint=address, home=tmp_path)
        assert done.returncode == 0, done.stderr
        assert re.search(r"^model\.onnx  \d+ kB$", done.stdout, re.MULTILINE)
        assert "would be sent to https://huggingface.co/me/shapes" in done.stdout
        assert held.asked == []
    for name in ("me/shapes", "hf://shapes", "hf://me/../x", "hf://a/b/c"):
        with pytest.raises(RunError, match="hf://USER/NAME"):
            ta.push(shapes_run, name, dry_run=True)


def test_the_card_is_read_by_the_hub_and_tells_metrics_data_and_limits(shapes_run: Path) -> None:
    cards = pytest.importorskip("huggingface_hub")
    run = ta.open_run(shapes_run)
    card = cards.ModelCard((shapes_run / "README.md").read_text(encoding="utf-8"))
    assert card.data.pipeline_tag == "image-classification"
    accuracy = run.metrics["test"]["accuracy"]
    (told,) = [row for row in card.data.eval_results if row.metric_type == "accuracy"]
    assert told.metric_value == pytest.approx(accuracy["value"], abs=1e-6)
    assert f"{accuracy['low']:.4f} to {accuracy['high']:.4f}" in told.metric_name
    assert card.data.license is None  # trained from scratch: no backbone's licence
    for title in ("Intended use", "Limits", "Evaluation", "Training data", "Use", "Origin"):
        assert f"\n## {title}\n" in card.content
    assert run.metrics["test"]["verdict"]["conclusion"].split(".")[0] in card.content


def test_a_card_that_a_person_changed_is_kept_and_names_are_only_text(
    shapes_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = pytest.importorskip("huggingface_hub")
    run = ta.open_run(shapes_run)
    before = run.read_text(run.card_file)
    try:
        assert write_model_card(run)
        run.write_text(run.card_file, before.replace(WRITTEN, "My own words."))
        assert not write_model_card(run)
        assert "My own words." in run.read_text(run.card_file)
    finally:
        run.write_text(run.card_file, before)
    evil = 'x"]}\nlicense: mit <script>alert(1)</script> | [a](b)'
    record = run.record
    monkeypatch.setattr(type(run), "record", property(lambda _: type(record)(**{**vars(record), "source": evil})))
    card = model_card(run)
    assert cards.ModelCard(card).data.license is None
    assert cards.ModelCard(card).data.eval_results[0].dataset_name == evil
    assert "<script>" not in card.split("---\n", 2)[2]
    assert tmp_path.exists()
