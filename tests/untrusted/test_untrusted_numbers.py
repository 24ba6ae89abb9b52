"""A network that gives no number for some images: an error in their rows, and never NaN in what others read."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.data.pixels import read
from tellapart.errors import ExportError, RunError
from tellapart.inference.predictor import METADATA_KEY, NO_NUMBER, Metadata, Predictor, every_class, require_numbers
from tellapart.task import ImageSpec, Task

pytest.importorskip("keras")

import onnx
from onnx import TensorProto, helper

from tests.command import PATIENCE

SPEC = ImageSpec(24, 24)
TASK = Task(("disc", "stripes"))
# Of the mean of an image, 0..255: what is no probability for a black one, and 0.25 for others.
ANSWERS = {
    "nan": [("Div", "mean", "mean", "one"), ("Mul", "one", "quarter", "probabilities")],
    "infinity": [("Div", "tiny", "mean", "over"), ("Max", "over", "quarter", "probabilities")],
    "below 0": [("Sub", "mean", "half", "less"), ("Min", "less", "quarter", "probabilities")],
    "above 1": [("Sub", "two", "mean", "less"), ("Max", "less", "quarter", "probabilities")],
}
CONSTANTS = {"quarter": 0.25, "half": 0.5, "two": 2.0, "tiny": 1e-3}


def network(path: Path, kind: str = "nan", *, similarity: bool = False, dark: float | None = None) -> Path:
    """A model.onnx with such answers. similarity: these are those of the features, and probabilities are right. dark:
    so are these, and what spoke for a class is no number where the mean of an image is smaller."""
    answers = ANSWERS[kind]
    if similarity:
        answers = [("Div", "mean", "mean", "similarity"), ("Identity", "always", "probabilities")]
    if dark is not None:
        answers = [
            ("Sub", "mean", "dark", "less"),
            ("Sqrt", "less", "share"),
            ("Unsqueeze", "share", "sides", "class_activation"),
            ("Identity", "always", "probabilities"),
        ]
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["values"], ["scalar"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["scalar", "axis"], ["mean"]),
        helper.make_node("Clip", ["mean", "quarter", "quarter"], ["always"]),
    ]
    nodes += [helper.make_node(name, list(given), [made]) for name, *given, made in answers]
    values = CONSTANTS if dark is None else {**CONSTANTS, "dark": dark}
    constants = [helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in values.items()]
    constants.append(helper.make_tensor("axis", TensorProto.INT64, [1], [1]))
    constants.append(helper.make_tensor("sides", TensorProto.INT64, [2], [2, 3]))
    more = {"similarity": ["n", 1], "class_activation": ["n", 1, 1, 1]}
    outputs = {"probabilities": ["n", 1], **{name: more[name] for _, *_, name in answers if name in more}}
    graph = helper.make_graph(
        nodes,
        "no number",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", *SPEC.shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(Metadata(TASK, SPEC).to_dict()))
    onnx.save(model, path)
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A black image and a grey one."""
    (tmp_path / "images").mkdir()
    for name, value in (("black", 0), ("grey", 128)):
        Image.new("RGB", (24, 24), (value,) * 3).save(tmp_path / "images" / f"{name}.png")
    return tmp_path / "images"


@pytest.mark.parametrize("similarity", [False, True])
@pytest.mark.parametrize("kind", ANSWERS)
def test_an_image_without_a_number_has_an_error_and_others_sum_to_1(
    kind: str, similarity: bool, tmp_path: Path, images: Path
) -> None:
    predictor = Predictor(network(tmp_path / "model.onnx", kind, similarity=similarity))
    black, grey = predictor.predict([images / "black.png", images / "grey.png"])
    assert (black.error, black.label, black.probabilities) == (NO_NUMBER, "", {})
    assert grey.probabilities == {"disc": 0.75, "stripes": 0.25}
    rows = predictor.probabilities(np.stack([np.zeros(SPEC.shape, np.uint8), np.full(SPEC.shape, 128, np.uint8)]))
    assert np.isnan(rows[0]).all()
    assert rows[1].sum() == 1


@pytest.mark.parametrize("values", [[1, np.nan, 1], [0, 0, 0], [np.inf, 1, 1], [-1, 1, 1], [-1, -1, -1]])
def test_what_sums_to_no_number_is_no_row_of_several_classes(values: list[float]) -> None:
    rows = every_class(Task(("a", "b", "c")), np.array([values, [1, 2, 1]], np.float32))
    assert np.isnan(rows[0]).all()
    assert rows[1].tolist() == [0.25, 0.5, 0.25]


@pytest.mark.parametrize("format", ["csv", "json", "jsonl", "table"])
def test_predict_prints_the_error_in_its_row(
    format: str, tmp_path: Path, images: Path, tellapart: Callable[..., CompletedProcess[str]]
) -> None:
    done = tellapart("predict", network(tmp_path / "model.onnx"), images, "--format", format)
    assert done.returncode == 1
    assert "nan" not in done.stdout.lower()
    if format == "csv":
        rows = list(csv.DictReader(done.stdout.splitlines()))
        assert [row["error"] for row in rows] == [NO_NUMBER, ""]
    elif format != "table":
        lines = done.stdout.splitlines() if format == "jsonl" else [done.stdout]
        found = [json.loads(line, parse_constant=pytest.fail) for line in lines]
        assert (found if format == "jsonl" else found[0])[0]["error"] == NO_NUMBER


@pytest.fixture
def broken_run(plain_run: ta.Run, tmp_path: Path) -> ta.Run:
    folder = shutil.copytree(plain_run.path, tmp_path / "broken")
    network(folder / "model.onnx")
    return ta.open_run(folder)


def test_evaluate_explain_and_report_say_so_and_none_writes_nan(
    broken_run: ta.Run, images: Path, tmp_path: Path, tellapart: Callable[..., CompletedProcess[str]]
) -> None:
    labelled = tmp_path / "labelled"
    for label, name in (("disc", "black"), ("stripes", "grey")):
        (labelled / label).mkdir(parents=True)
        shutil.copy(images / f"{name}.png", labelled / label)
    for words in (("evaluate", broken_run.path, labelled), ("explain", broken_run.path, images / "black.png")):
        done = tellapart(*words, "--format", "json")
        assert (done.returncode, done.stdout) == (2, "")
        assert NO_NUMBER in done.stderr
        assert "Traceback" not in done.stderr
    assert tellapart("report", broken_run.path).returncode == 0
    assert "nan" not in broken_run.predictions_file.read_text()


def test_a_report_says_of_how_many_mistakes_the_network_tells_no_places(broken_run: ta.Run) -> None:
    catalog = broken_run.catalog
    test = [image for image in catalog.images if image.split == "test"]
    means = sorted((read(catalog.root / image.path, SPEC).mean(), image.path) for image in test)
    (darkest, dark), (brightest, bright) = means[0], means[-1]
    network(broken_run.onnx_file, dark=float(darkest + brightest) / 2)
    metrics = broken_run.metrics
    metrics["test"]["mistakes"] = [
        {"path": path, "truth": "disc", "predicted": "stripes", "probability": 0.9} for path in (dark, bright)
    ]
    broken_run.write_metrics(metrics)
    ta.write_report(broken_run)
    page = broken_run.report_file.read_text()
    assert "For 1 of them the output of the network is not a number, so there is no heat map." in page
    assert page.count("The heat map of stripes") == 1
    with pytest.raises(ExportError, match=NO_NUMBER):
        broken_run.explain(catalog.root / dark)


def test_a_server_answers_an_image_without_a_number_with_its_error_and_valid_json(tmp_path: Path, images: Path) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("uvicorn")
    from tests.serve.conftest import start

    files = [("images", (f"{name}.png", (images / f"{name}.png").read_bytes())) for name in ("black", "grey")]
    served = start(f"none={network(tmp_path / 'none.onnx')}", f"places={network(tmp_path / 'places.onnx', dark=50)}")
    try:
        with httpx.Client(base_url=served.url, timeout=PATIENCE) as client:
            rows = {}
            for run in ("none", "places"):
                answer = client.post(f"/v1/predict?run={run}&explain=1", files=files)
                assert answer.status_code == 200
                rows[run] = json.loads(answer.text, parse_constant=pytest.fail)["predictions"]
            alone = client.post("/v1/predict?run=none", files=files[:1])
    finally:
        served.process.kill()
        served.process.communicate()
    assert rows["none"][0] == {"name": "black.png", "error": NO_NUMBER}
    assert rows["none"][1]["probability"] == 0.75
    assert ["heat" in row for row in rows["places"]] == [False, True]
    assert (alone.status_code, alone.json()["predictions"]) == (422, [{"name": "black.png", "error": NO_NUMBER}])


DAMAGE: dict[str, Callable[[Any], str]] = {
    "nan": lambda values: json.dumps({**values, "test": {**values["test"], "n": float("nan")}}),
    "a number beyond all": lambda values: json.dumps(values)[:-1] + ', "more": {"x": 1e999}}',
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_run_whose_figures_are_no_numbers_is_damaged(kind: str, plain_run: ta.Run, tmp_path: Path) -> None:
    run = ta.open_run(shutil.copytree(plain_run.path, tmp_path / "run"))
    run.metrics_file.write_text(DAMAGE[kind](run.metrics))
    with pytest.raises(RunError, match=r"metrics\.json is damaged"):
        ta.write_report(run)


def test_a_table_of_predictions_with_nan_is_not_compared_and_not_shown(plain_run: ta.Run, tmp_path: Path) -> None:
    runs = [ta.open_run(shutil.copytree(plain_run.path, tmp_path / name)) for name in ("one", "other")]
    rows = list(csv.reader(runs[0].predictions_file.read_text().splitlines()))
    rows[1][3] = "nan"
    runs[0].predictions_file.write_text("\n".join(map(",".join, rows)))
    with pytest.raises(RunError, match="nan is not a probability"):
        ta.compare(*runs)
    rows[1][rows[0].index("disc")] = "nan"
    runs[0].predictions_file.write_text("\n".join(map(",".join, rows)))
    ta.write_report(runs[0])
    page = runs[0].report_file.read_text()
    assert "likely label errors, the images behind each cell and coverage are left out" in page


def test_who_needs_every_number_is_told_of_one_that_is_none() -> None:
    with pytest.raises(ExportError, match=NO_NUMBER):
        require_numbers(np.array([0.5, np.inf]))
    assert require_numbers(np.array([0.5])) == [0.5]
