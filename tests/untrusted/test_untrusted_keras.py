"""A .keras or weights file from a stranger that holds code, reaches for other files, or lies."""

from __future__ import annotations

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
from tellapart.errors import ModelError, RunError
from tellapart.task import ImageSpec, Task

pytest.importorskip("keras")

import h5py
import keras

from tellapart.models.classifier import Classifier
from tellapart.models.keras_file import open_keras
from tellapart.models.registry import ARCHITECTURES
from tellapart.models.weights_file import load_h5, load_weights


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
    assert open_keras(keras_file).count_params() == plain_run.record.parameters


@pytest.mark.parametrize("name", [row.name for row in ARCHITECTURES.values() if row.pretrained is None])
def test_every_network_of_ours_is_opened(name: str, tmp_path: Path) -> None:
    """Those on a backbone: tests/models/test_pretrained.py."""
    options = {"filters": [4], "dropout": 0.1} if name == "cnn" else {}
    model = Classifier.from_name(Task(("a", "b", "c")), ImageSpec(24, 24), name, **options).network
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
    with pytest.raises(RunError, match=r"it holds Lambda of keras\.layers, which no network of tellapart contains"):
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


def test_a_network_of_more_weights_than_there_is_memory_is_refused(keras_file: Path) -> None:
    def change(members: dict[str, bytes]) -> None:
        members["config.json"] = members["config.json"].replace(b'"units": 4', b'"units": %d' % 10**12)

    with pytest.raises(RunError, match="needs more memory than there is"):
        open_keras(repacked(keras_file, change))


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
    with pytest.raises(RunError, match="is not stored completely in the file"):
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
    with pytest.raises(RunError, match=r"is refused|is damaged, or not a network that tellapart wrote"):
        open_keras(repacked(keras_file, pickled(evil_pickle)[name]))


def test_a_compressed_file_which_could_be_a_bomb_is_refused(keras_file: Path) -> None:
    with pytest.raises(RunError, match="each once and uncompressed"):
        open_keras(repacked(keras_file, lambda _: None, zipfile.ZIP_DEFLATED))


def test_a_pickle_or_a_folder_instead_of_the_file_is_refused(tmp_path: Path, evil_pickle: bytes) -> None:
    (tmp_path / "model.keras").write_bytes(evil_pickle)
    (tmp_path / "folder.keras").mkdir()
    (tmp_path / "folder.keras" / "config.json").write_text("{}")
    for name in ("model.keras", "folder.keras"):
        with pytest.raises(RunError, match="is damaged, or not a network that tellapart wrote"):
            open_keras(tmp_path / name)


def test_every_command_that_opens_a_strangers_network_refuses_code_in_words(
    plain_run: ta.Run, tmp_path: Path, two_shapes: Path, tellapart: Callable[..., Any]
) -> None:
    run = Path(shutil.copytree(plain_run.path, tmp_path / "run"))
    with_layer(run / "model.keras", LAYERS["a function of Python"])
    record = json.loads((run / "run.json").read_text()) | {"own_layers": ["os.mkdir"]}
    (run / "run.json").write_text(json.dumps(record))
    image = next(two_shapes.rglob("*.png"))
    for arguments in (["export", run, "--to", "keras"], ["explain", run, image]):
        found = tellapart(*arguments, cwd=tmp_path)
        assert found.returncode == 2, found.stderr
        assert "is refused: it holds mkdir of os" in found.stderr
        assert "Traceback" not in found.stderr


# Weights


def network() -> Any:
    return Classifier.from_name(Task(("a", "b")), ImageSpec(8, 8), "dense", dense=[4]).network


@pytest.mark.parametrize("kind", ["outside", "linked"])
def test_weights_that_lie_in_another_file_are_refused(kind: str, tmp_path: Path, secret: Path) -> None:
    path = tmp_path / "a.weights.h5"
    network().save_weights(path)
    with h5py.File(path, "a") as file:
        {"outside": outside, "linked": linked}[kind](secret)(file)
    with pytest.raises(ModelError, match="refers to another file or another location"):
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
