"""Networks from strangers: .keras, .onnx and weights files that hold code, reach for other files, or lie."""

from __future__ import annotations

import base64
import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.config import ModelConfig
from tellapart.errors import ExportError, ModelError, RunError
from tellapart.inference.predictor import ADDITION_KEY, METADATA_KEY, Metadata, Predictor
from tellapart.task import ImageSpec, Task

pytest.importorskip("keras")

import h5py
import keras
import onnx
from onnx import TensorProto, helper

from tellapart.models.build import build
from tellapart.models.keras_file import open_keras
from tellapart.models.registry import ARCHITECTURES
from tellapart.models.weights_file import load_h5, load_weights

SECRET = b"a secret of this machine, as long as the weights."


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "secret"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    return path


@pytest.fixture
def keras_file(plain_run: ta.Run, tmp_path: Path) -> Path:
    return shutil.copy(plain_run.model_file, tmp_path / "model.keras")


def repacked(path: Path, change: Callable[[dict[str, bytes]], None], method: int = zipfile.ZIP_STORED) -> Path:
    """The same .keras file after its members, by name, were changed."""
    with zipfile.ZipFile(path) as bundle:
        members = {name: bundle.read(name) for name in bundle.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", method) as bundle:
        for name, content in members.items():
            bundle.writestr(name, content)
    return path


def with_layer(path: Path, layer: dict[str, Any]) -> Path:
    """The file with another class for its last layer."""

    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        config["config"]["layers"][-1] |= layer
        members["config.json"] = json.dumps(config).encode()

    return repacked(path, change)


def test_a_file_of_ours_is_opened(keras_file: Path, plain_run: ta.Run) -> None:
    assert open_keras(keras_file).count_params() == plain_run.record["parameters"]


@pytest.mark.parametrize("name", [row.name for row in ARCHITECTURES.values() if row.base is None])
def test_every_network_of_ours_is_opened(name: str, tmp_path: Path) -> None:
    """Those on a base: tests/models/test_pretrained.py."""
    options = {"filters": [4], "dropout": 0.1} if name == "cnn" else {}
    model = build(Task(("a", "b", "c")), ImageSpec(24, 24), ModelConfig(name=name, **options))
    model.compile("adam", "categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    opened = open_keras(tmp_path / "model.keras")
    for ours, theirs in zip(opened.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_a_lambda_layer_is_refused_before_keras_sees_it(marker: Path, tmp_path: Path) -> None:
    given = keras.Input((4, 4, 3))
    code = keras.layers.Lambda(lambda x, place=str(marker): __import__("os").mkdir(place) or x)
    model = keras.Model(given, code(given))
    marker.rmdir()  # it does run where it is let: when a network is built
    model.save(tmp_path / "model.keras")
    with pytest.raises(RunError, match=r"it holds Lambda of keras\.layers, which no network of tellapart does"):
        open_keras(tmp_path / "model.keras")


LAYERS = {
    "a function of Python": {"module": "os", "class_name": "mkdir", "config": "harm was done"},
    "a function of Keras that writes": {
        "module": "keras.utils", "class_name": "get_file", "config": {"fname": "harm was done", "origin": "file:///etc"},
    },
    "a registered class": {"module": "keras.layers", "class_name": "Dense", "registered_name": "package>Harm"},
    "a module of PyTorch": {"module": "keras.layers", "class_name": "TorchModuleWrapper", "config": {"module": "gASV"}},
    "a SavedModel": {"module": "keras.layers", "class_name": "TFSMLayer", "config": {"filepath": "/tmp/there"}},
    "a vocabulary": {"module": "keras.layers", "class_name": "StringLookup", "config": {"vocabulary": "/etc/passwd"}},
    "a lambda by another name": {"module": "builtins", "class_name": "__lambda__", "config": {"value": "4wA="}},
    "what older versions wrote": {"module": None, "class_name": "Lambda", "config": {}},
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_a_class_that_is_none_of_ours_is_refused_by_its_name(
    name: str, keras_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="is refused: it holds"):
        open_keras(with_layer(keras_file, LAYERS[name]))


def test_code_that_stands_deep_in_a_plain_layer_is_refused(keras_file: Path) -> None:
    hidden = {"name": "probability", "activation": {"module": "keras.layers", "class_name": "Lambda", "config": {}}}
    with pytest.raises(RunError, match="is refused: it holds Lambda"):
        open_keras(with_layer(keras_file, {"config": hidden}))


def test_compiling_which_may_name_any_class_is_not_done(keras_file: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        config = json.loads(members["config.json"])
        config["compile_config"] = {"loss": {"module": "os", "class_name": "mkdir", "config": "harm was done"}}
        members["config.json"] = json.dumps(config).encode()

    assert not open_keras(repacked(keras_file, change)).compiled


def weights(write: Callable[[h5py.File], None]) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        buffer = io.BytesIO(members["model.weights.h5"])
        with h5py.File(buffer, "a") as file:
            write(file)
        members["model.weights.h5"] = buffer.getvalue()

    return change


def arrays(file: h5py.File) -> list[str]:
    found: list[str] = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def outside(secret: Path) -> Callable[[h5py.File], None]:
    def write(file: h5py.File) -> None:
        name = arrays(file)[0]
        shape, kind = file[name].shape, file[name].dtype
        del file[name]
        file.create_dataset(name, shape, kind, external=[(bytes(secret), 0, h5py.h5f.UNLIMITED)])

    return write


def linked(secret: Path) -> Callable[[h5py.File], None]:
    def write(file: h5py.File) -> None:
        name = arrays(file)[0]
        del file[name]
        file[name] = h5py.ExternalLink(str(secret), "/x")

    return write


def immense(file: h5py.File) -> None:
    name = arrays(file)[0]
    del file[name]
    file.create_dataset(name, (1 << 40,), "f4", chunks=(1 << 20,), compression="gzip")


@pytest.mark.parametrize("kind", ["outside", "linked", "immense"])
def test_an_array_that_lies_in_another_file_or_is_larger_than_the_file_is_refused(
    kind: str, keras_file: Path, secret: Path
) -> None:
    write = {"outside": outside(secret), "linked": linked(secret), "immense": immense}[kind]
    with pytest.raises(RunError, match="does not lie whole in the file"):
        open_keras(repacked(keras_file, weights(write)))


def pickled(evil: bytes) -> dict[str, Callable[[dict[str, bytes]], None]]:
    npz = io.BytesIO()
    words = b"{'descr': '|O', 'fortran_order': False, 'shape': ()}"
    with zipfile.ZipFile(npz, "w") as bundle:
        bundle.writestr("0.npy", b"\x93NUMPY\1\0v\0" + words.ljust(117) + b"\n" + evil)

    def swap(members: dict[str, bytes]) -> None:
        del members["model.weights.h5"]
        members["model.weights.npz"] = npz.getvalue()

    return {
        "weights in numpy": swap,
        "a file more": lambda members: members.update({"assets/vocabulary.txt": b"harm"}),
        "a file outside": lambda members: members.update({"../harm was done": b"harm"}),
        "a pickle for configuration": lambda members: members.update({"config.json": evil}),
        "a pickle for weights": lambda members: members.update({"model.weights.h5": evil}),
        "deep JSON": lambda members: members.update({"config.json": b"[" * 100_000}),
    }


@pytest.mark.parametrize("name", pickled(b""))
def test_anything_but_json_and_arrays_is_refused(name: str, keras_file: Path, evil_pickle: bytes) -> None:
    with pytest.raises(RunError, match=r"is refused|is damaged, or no network that tellapart wrote"):
        open_keras(repacked(keras_file, pickled(evil_pickle)[name]))


def test_a_compressed_file_which_could_be_a_bomb_is_refused(keras_file: Path) -> None:
    with pytest.raises(RunError, match="each once and unpacked"):
        open_keras(repacked(keras_file, lambda _: None, zipfile.ZIP_DEFLATED))


def test_a_pickle_or_a_folder_instead_of_the_file_is_refused(tmp_path: Path, evil_pickle: bytes) -> None:
    (tmp_path / "model.keras").write_bytes(evil_pickle)
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "folder.keras" / "config.json").write_text("{}")
    for name in ("model.keras", "folder.keras"):
        with pytest.raises(RunError, match="is damaged, or no network that tellapart wrote"):
            open_keras(tmp_path / name)


def test_every_command_that_opens_a_strangers_network_refuses_code_in_words(
    plain_run: ta.Run, tmp_path: Path, two_shapes: Path, tellapart: Callable[..., Any]
) -> None:
    run = Path(shutil.copytree(plain_run.path, tmp_path / "run"))
    with_layer(run / "model.keras", LAYERS["a function of Python"])
    picture = next(two_shapes.rglob("*.png"))
    for arguments in (["export", run, "--format", "keras"], ["explain", run, picture]):
        found = tellapart(*arguments, cwd=tmp_path)
        assert found.returncode == 2, found.stderr
        assert "is refused: it holds mkdir of os" in found.stderr
        assert "Traceback" not in found.stderr


# Weights


def network() -> Any:
    return build(Task(("a", "b")), ImageSpec(8, 8), ModelConfig(name="dense", dense=[4]))


@pytest.mark.parametrize("kind", ["outside", "linked"])
def test_weights_that_lie_in_another_file_are_refused(kind: str, tmp_path: Path, secret: Path) -> None:
    path = tmp_path / "a.weights.h5"
    network().save_weights(path)
    with h5py.File(path, "a") as file:
        {"outside": outside, "linked": linked}[kind](secret)(file)
    with pytest.raises(ModelError, match="lies in another file, or in another place"):
        load_h5(network(), path)


def test_a_pickle_or_a_lying_header_for_safetensors_is_refused(tmp_path: Path, evil_pickle: bytes) -> None:
    path = tmp_path / "a.safetensors"
    lying = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    for content in (
        evil_pickle,
        (1 << 60).to_bytes(8, "little"),
        len(lying).to_bytes(8, "little") + lying,
        (8).to_bytes(8, "little") + b"[" * 8,
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="cannot be read as a safetensors file of weights"):
            load_weights(network(), path)


# ONNX


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
    with pytest.raises(ExportError, match="is damaged: what it adds"):
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
    "a picture of another size": {"task": TWO, "image": IMAGE | {"height": 25}},
    "a picture of a petabyte": {"task": TWO, "image": IMAGE | {"height": 10**9, "width": 10**9}},
    "a picture of no size": {"task": TWO, "image": IMAGE | {"height": 0}},
    "a size in words": {"task": TWO, "image": IMAGE | {"height": "24"}},
    "a fit that is none": {"task": TWO, "image": IMAGE | {"fit": "__class__"}},
    "thresholds that are none": {"task": TWO, "image": IMAGE, "thresholds": [1]},
    "thresholds in words": {"task": TWO, "image": IMAGE, "thresholds": {"target": "a", "sure": "b", "unlike": []}},
}


@pytest.mark.parametrize("name", LIES)
def test_a_description_that_lies_is_refused_as_the_file_is_opened(name: str, onnx_file: Path) -> None:
    with pytest.raises(ExportError, match=r"carries a damaged description|says that it takes pictures of"):
        Predictor(changed(onnx_file, described(LIES[name])))


def test_a_file_that_leaves_open_how_many_answers_it_gives_is_refused_when_it_answers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["picture"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Flatten", ["values"], ["flat"]),
        helper.make_node("Compress", ["flat", "chosen"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "open",
        [helper.make_tensor_value_info("picture", TensorProto.UINT8, ["n", 24, 24, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", "any"])],
        [helper.make_tensor("chosen", TensorProto.BOOL, [5], [True] * 5)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    metadata = Metadata(Task(("a", "b", "c")), ImageSpec(24, 24)).to_dict()
    model.metadata_props.add(key=METADATA_KEY, value=json.dumps(metadata))
    onnx.save(model, tmp_path / "model.onnx")
    predictor = Predictor(tmp_path / "model.onnx")
    with pytest.raises(ExportError, match=r"answers \(1, 5\) where its classes want \(1, 3\)"):
        predictor.probabilities(np.zeros((1, 24, 24, 3), np.uint8))


ORT_FORMAT = b"x" * 4 + b"ORTM" + bytes(90)
NO_MODELS = [b"", b"\0", b"\xff" * 100, b"\x3a\xff\xff\xff\xff\x0f", b"\x3b" * 50, ORT_FORMAT]


@pytest.mark.parametrize("content", NO_MODELS)
def test_bytes_that_are_no_model_are_no_model(content: bytes, tmp_path: Path, evil_pickle: bytes) -> None:
    for given in (content, evil_pickle):
        (tmp_path / "model.onnx").write_bytes(given)
        with pytest.raises(ExportError):
            Predictor(tmp_path / "model.onnx")
