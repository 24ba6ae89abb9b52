"""An .onnx file from a stranger that reaches for other files, cannot be meant, or lies about itself."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.errors import ExportError
from tellapart.inference.predictor import ADDITION_KEY, METADATA_KEY, Metadata, Predictor
from tellapart.models.runtime import open_session
from tellapart.task import ImageSpec, Task
from tests.untrusted.conftest import SECRET

pytest.importorskip("keras")

import onnx
from onnx import TensorProto, helper


@pytest.fixture
def onnx_file(plain_run: ta.Run, tmp_path: Path) -> Path:
    return shutil.copy(plain_run.onnx_file, tmp_path / "model.onnx")


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    graph = onnx.load(path)
    change(graph)
    onnx.save(graph, path)
    return path


def external(tensor: Any, place: str) -> None:
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", place), ("offset", "0"), ("length", "4")):
        tensor.external_data.add(key=key, value=value)


@pytest.mark.parametrize("place", ["absolute", "climbing", "beside", "link"])
def test_weights_of_an_onnx_file_that_lie_in_another_file_are_refused(
    place: str, onnx_file: Path, secret: Path
) -> None:
    (onnx_file.parent / "beside").write_bytes(SECRET)
    (onnx_file.parent / "link").symlink_to(secret)
    name = {"absolute": str(secret), "climbing": f"x/../../{secret}", "beside": "beside", "link": "link"}[place]
    content = onnx.load(onnx_file)
    external(content.graph.initializer[0], name)
    onnx_file.write_bytes(content.SerializeToString())
    with pytest.raises(ExportError, match="is refused: it keeps weights in another file"):
        Predictor(onnx_file)


def hidden_tensor() -> Any:
    tensor = helper.make_tensor("hidden", TensorProto.FLOAT, [1], [1.0])
    external(tensor, "/etc/hostname")
    return tensor


def branch() -> Any:
    return helper.make_graph([helper.make_node("Constant", [], ["c"], value=hidden_tensor())], "branch", [], [])


def function() -> Any:
    made = onnx.FunctionProto(name="f")
    made.node.add(op_type="Constant").attribute.add(name="value").t.CopyFrom(hidden_tensor())
    return made


PLACES: dict[str, Callable[[Any], None]] = {
    "a constant": lambda m: m.graph.node.append(helper.make_node("Constant", [], ["h"], value=hidden_tensor())),
    "a branch": lambda m: m.graph.node.append(helper.make_node("If", ["h"], ["i"], then_branch=branch())),
    "a function": lambda m: m.functions.append(function()),
    "a sparse constant": lambda m: m.graph.sparse_initializer.add().values.CopyFrom(hidden_tensor()),
    "training": lambda m: m.training_info.add().algorithm.initializer.append(hidden_tensor()),
    "several tensors": lambda m: m.graph.node.add().attribute.add(name="t").tensors.append(hidden_tensor()),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_tensor_in_another_file_is_found_wherever_it_stands(place: str, onnx_file: Path) -> None:
    content = onnx.load(onnx_file)
    PLACES[place](content)
    onnx_file.write_bytes(content.SerializeToString())
    with pytest.raises(ExportError, match="is refused: it keeps weights in another file"):
        Predictor(onnx_file)


def test_an_odd_spelling_of_the_same_bytes_is_found_too(onnx_file: Path) -> None:
    """A reader of protocol buffers takes 32 bits of a key, however many there are."""
    tensor = b"\x0a\x01x" + b"\xf0\x80\x80\x80\x40" + b"\1"  # dims; field 14 with a bit beyond the 32nd
    graph = b"\x2a" + bytes([len(tensor)]) + tensor
    onnx_file.write_bytes(onnx_file.read_bytes() + b"\x3a" + bytes([len(graph)]) + graph)
    with pytest.raises(ExportError, match="is refused: it keeps weights in another file"):
        Predictor(onnx_file)


def test_what_a_file_adds_to_itself_is_looked_through_too(onnx_file: Path) -> None:
    added = onnx.ModelProto()
    added.graph.initializer.append(hidden_tensor())
    text = base64.b64encode(added.SerializeToString()).decode()

    def change(model: Any) -> None:
        for entry in model.metadata_props:
            if entry.key == ADDITION_KEY:
                entry.value = text
        if ADDITION_KEY not in {entry.key for entry in model.metadata_props}:
            model.metadata_props.add(key=ADDITION_KEY, value=text)

    predictor = Predictor(changed(onnx_file, change))
    predictor._gives_places = False
    with pytest.raises(ExportError, match="is refused: it keeps weights in another file"):
        predictor.class_activation(np.zeros((1, *predictor.spec.shape), np.uint8))
    changed(onnx_file, lambda model: [setattr(e, "value", "!") for e in model.metadata_props if e.key == ADDITION_KEY])
    predictor = Predictor(onnx_file)
    predictor._gives_places = False
    with pytest.raises(ExportError, match="is damaged: its nodes"):
        predictor.class_activation(np.zeros((1, *predictor.spec.shape), np.uint8))


GRAPHS: dict[str, tuple[Callable[[Any], None], str]] = {
    "an operator of nobody": (
        lambda m: m.graph.node.add(op_type="Harm", domain="org.harm", output=["h"]),
        "cannot be read",
    ),
    "a compiled engine": (
        lambda m: m.graph.node.add(op_type="EPContext", domain="com.microsoft"),
        "keeps a compiled engine",
    ),
    "a weight of a terabyte": (
        lambda m: m.graph.initializer[0].dims.insert(0, 1 << 38),
        "cannot be read",
    ),
    "a weight of less than nothing": (
        lambda m: m.graph.initializer[0].dims.insert(0, -5),
        "cannot be read",
    ),
    "no graph": (lambda m: m.ClearField("graph"), "cannot be read"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_cannot_be_meant_is_refused_in_words(name: str, onnx_file: Path) -> None:
    change, says = GRAPHS[name]
    content = onnx.load(onnx_file)
    change(content)
    onnx_file.write_bytes(content.SerializeToString())
    with pytest.raises(ExportError, match=says):
        Predictor(onnx_file)


def described(values: object) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        (entry,) = [entry for entry in model.metadata_props if entry.key == METADATA_KEY]
        entry.value = values if isinstance(values, str) else json.dumps(values)

    return change


TWO = {"kind": "binary", "classes": ["disc", "stripes"]}
IMAGE = ImageSpec(24, 24).to_dict()
LIES: dict[str, object] = {
    "no JSON": "{",
    "deep JSON": "[" * 100_000,
    "a list": [],
    "nothing": {},
    "classes that are a word": {"task": {"classes": "ab"}, "image": IMAGE},
    "classes that are numbers": {"task": {"classes": [1, 2]}, "image": IMAGE},
    "one class": {"task": {"classes": ["a"]}, "image": IMAGE},
    "a class twice": {"task": {"classes": ["a", "a"]}, "image": IMAGE},
    "more classes than answers": {"task": {"classes": ["a", "b", "c"]}, "image": IMAGE},
    "an image of another size": {"task": TWO, "image": IMAGE | {"height": 25}},
    "an image of a petabyte": {"task": TWO, "image": IMAGE | {"height": 10**9, "width": 10**9}},
    "an image of no size": {"task": TWO, "image": IMAGE | {"height": 0}},
    "a size in words": {"task": TWO, "image": IMAGE | {"height": "24"}},
    "a fit that is none": {"task": TWO, "image": IMAGE | {"fit": "__class__"}},
    "thresholds that are none": {"task": TWO, "image": IMAGE, "thresholds": [1]},
    "thresholds in words": {"task": TWO, "image": IMAGE, "thresholds": {"target": "a", "sure": "b", "unlike": []}},
}


@pytest.mark.parametrize("name", LIES)
def test_a_description_that_lies_is_refused_as_the_file_is_opened(name: str, onnx_file: Path) -> None:
    with pytest.raises(ExportError, match=r"has damaged metadata|declares images of"):
        Predictor(changed(onnx_file, described(LIES[name])))


def test_a_file_that_leaves_open_how_many_answers_it_gives_is_refused_when_it_answers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["values"], ["flat"]),
        helper.make_node("Compress", ["flat", "chosen"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "open",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 24, 24, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", "any"])],
        [helper.make_tensor("chosen", TensorProto.BOOL, [5], [True] * 5)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    metadata = Metadata(Task(("a", "b", "c")), ImageSpec(24, 24)).to_dict()
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(metadata))
    onnx.save(model, tmp_path / "model.onnx")
    predictor = Predictor(tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"outputs \(1, 5\), but its classes need \(1, 3\)"):
        predictor.probabilities(np.zeros((1, 24, 24, 3), np.uint8))


ORT_FORMAT = b"x" * 4 + b"ORTM" + bytes(90)
NO_MODELS = [b"", b"\0", b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f", b"\x3b" * 50, ORT_FORMAT]


@pytest.mark.parametrize("content", NO_MODELS)
def test_bytes_that_are_no_model_are_no_model(content: bytes, tmp_path: Path, evil_pickle: bytes) -> None:
    for given in (content, evil_pickle):
        (tmp_path / "model.onnx").write_bytes(given)
        with pytest.raises(ExportError):
            Predictor(tmp_path / "model.onnx")


def test_no_runtime_that_sends_images_away_is_used(plain_run: ta.Run) -> None:
    """It would ask the address that a node of the file names."""
    import onnxruntime

    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this build of ONNX Runtime has none")
    assert "AzureExecutionProvider" not in open_session(plain_run.onnx_file).get_providers()
