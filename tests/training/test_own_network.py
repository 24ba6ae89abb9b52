"""Networks of one's own: trained, resumed, exported, explained; their code runs only where the user says so."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.config import Config
from tellapart.errors import ModelError, UntrustedCodeError
from tellapart.inference import onnx_by_keras
from tellapart.models import own
from tellapart.progress import Progress

keras = pytest.importorskip("keras")

from keras import layers  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "own-network.md"
MODULE = """
import keras
from keras import layers

def small(spec):
    image = keras.Input(spec.shape)
    x = layers.Conv2D(4, 3, activation="relu")(image)
    inner = keras.Sequential([keras.Input(x.shape[1:]), layers.MaxPooling2D(), layers.Conv2D(6, 3, activation="relu")])
    return keras.Model(image, {"first": x, "second": inner(x)})
"""
SMALL = ("image.height=24", "image.width=24", "train.batch_size=13", "train.epochs=2", "train.patience=0")


class Stop(Progress):
    def update(self, stage: str, done: int, total: int, detail: str = "") -> None:  # noqa: ARG002
        if stage.startswith("epoch 2/") and done >= 2:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a new process, nothing is trusted."""
    monkeypatch.setattr(own, "_trusted", {})
    monkeypatch.delitem(sys.modules, "networks_of_mine", raising=False)


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "code"
    folder.mkdir()
    (folder / "networks_of_mine.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(folder)
    return "networks_of_mine:small"


def test_a_network_of_ones_own_is_trained_resumed_exported_and_explained_where_its_code_is_trusted(
    named: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ta.make_config(model=named, settings=[*SMALL, "model.dense=[8]"])
    stopped = ta.train(shapes, out=tmp_path / "run", config=config, progress=Stop())
    assert stopped.status == "interrupted"

    monkeypatch.setattr(own, "_trusted", {})
    images = [stopped.catalog.root / image.path for image in stopped.catalog.split("test").images]
    assert {found.error for found in stopped.predict(images)} == {""}
    for act in (lambda: ta.resume(stopped.path), lambda: ta.export(stopped.path), stopped.model):
        with pytest.raises(UntrustedCodeError, match=r"networks_of_mine:small is custom code.*--trust-code"):
            act()
    found = stopped.explain(images[0], out=tmp_path / "why")
    assert [path.name for path in found.files] == ["heat.png"]
    assert "--trust-code" in found.words[-1]

    run = ta.resume(stopped.path, trust_code=True)
    assert run.status == "done"
    assert run.record["onnx_difference"] < 1e-4
    never = ta.train(shapes, out=tmp_path / "never", config=config, progress=Progress())
    for ours, theirs in zip(run.model().get_weights(), never.model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for form in ("onnx", "keras"):
        assert ta.export(run.path, form, out=tmp_path / f"model.{form}").difference < 1e-4
    found = run.explain(images[0], out=tmp_path / "why now")
    assert found.method == "class activation"
    assert {path.name for path in found.files} == {"heat.png", "feature-maps.png", "filters.png"}


def test_a_run_or_configuration_of_somebody_else_runs_no_code(named: str, shapes: Path, tmp_path: Path) -> None:
    config = Config.from_dict({"model": {"name": named}})
    with pytest.raises(UntrustedCodeError, match="with all your permissions"):
        ta.train(shapes, out=tmp_path / "run", config=config)
    assert not (tmp_path / "run").exists()
    assert "networks_of_mine" not in sys.modules


def test_a_network_that_was_handed_over_begins_with_its_weights_and_is_left_as_it_is(
    shapes: Path, tmp_path: Path
) -> None:
    image = keras.Input((24, 24, 3))
    mine = keras.Model(image, layers.Conv2D(4, 3, activation="relu")(image), name="mine")
    before = mine.get_weights()
    slow = ["train.epochs=1", "train.learning_rate=1e-9"]
    run = ta.train(shapes, out=tmp_path / "run", model=mine, settings=[*SMALL, *slow])
    after = run.model().get_weights()
    np.testing.assert_allclose(after[0], before[0], atol=1e-6)
    for one, other in zip(mine.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    assert run.config.model.name.endswith(":mine")


def convolved(spec: ta.ImageSpec, **given: Any) -> tuple[Any, Any]:
    image = keras.Input(given.pop("shape", spec.shape), **given)
    return image, layers.Conv2D(4, 3)(layers.Rescaling(1.0)(image))


def of_two_inputs(spec: ta.ImageSpec) -> Any:
    one, other = keras.Input(spec.shape), keras.Input(spec.shape)
    return keras.Model([one, other], layers.Add()([one, other]))


def of_bytes(spec: ta.ImageSpec) -> Any:
    return keras.Model(*convolved(spec, dtype="uint8"))


def of_another_size(spec: ta.ImageSpec) -> Any:
    return keras.Model(*convolved(spec, shape=(99, 99, 3)))


def softmaxed(spec: ta.ImageSpec) -> Any:
    image, x = convolved(spec)
    return keras.Model(image, layers.Dense(5, activation="softmax")(layers.Flatten()(x)))


def without_features(spec: ta.ImageSpec) -> Any:
    image, x = convolved(spec)
    return keras.Model(image, layers.Reshape((22, 22, 2, 2))(x))


def no_network(spec: ta.ImageSpec) -> Any:
    return spec.shape


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (of_two_inputs, "has 2 inputs; it must take one"),
        (of_bytes, "takes uint8; it must take float32"),
        (of_another_size, r"takes \(99, 99, 3\); the images are \(24, 24, 3\)"),
        (softmaxed, "ends in a softmax"),
        (without_features, "it must output features"),
        (no_network, r"returns a tuple; it must return a keras\.Model"),
    ],
)
def test_a_network_that_cannot_be_trained_is_told_with_what_is_wrong_about_it(
    make: Callable[[ta.ImageSpec], Any], told: str
) -> None:
    from tellapart.models.build import build

    config = ta.make_config(model=make).model
    with pytest.raises(ModelError, match=told):
        build(ta.Task(("a", "b")), ta.ImageSpec(24, 24), config)


@pytest.mark.parametrize("name", ["networks_of_mine:large", "no_such_module:small", ":small"])
def test_a_network_that_is_not_there_is_told(name: str, named: str) -> None:  # noqa: ARG001 - the folder
    with pytest.raises(ModelError, match="cannot be imported"):
        ta.make_config(model=name)
    with pytest.raises(ModelError, match="given int"):
        ta.make_config(model=3)


def test_a_backbone_of_kerashub_keeps_its_weights_and_the_names_of_its_maps() -> None:
    hub = pytest.importorskip("keras_hub")
    from tellapart.models.build import build

    given: dict[str, Any] = {"input_conv_filters": [64], "input_conv_kernel_sizes": [3], "block_type": "basic_block"}
    given |= {"stackwise_num_filters": [64, 64], "stackwise_num_blocks": [1, 1], "stackwise_num_strides": [1, 2]}
    backbone = hub.models.ResNetBackbone(**given, image_shape=(32, 32, 3))
    config = ta.make_config(model=backbone, settings=["model.scaling=none"]).model
    made = build(ta.Task(("a", "b")), ta.ImageSpec(32, 32), config)
    assert list(made.backbone.maps) == [*list(backbone.pyramid_outputs)[:-1], "top"]
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found = keras.Model(made.backbone.image, made.backbone.maps["top"])(images, training=False)
    expected = backbone(images.astype(np.float32), training=False)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-4, atol=1e-3)


class Waves(layers.Layer):
    """Not written as ONNX by us."""

    def build(self, shape: Any) -> None:
        self.rate = self.add_weight(shape=(shape[-1],), initializer="ones", name="rate")

    def call(self, x: Any) -> Any:
        return keras.ops.sin(x * self.rate)


def with_a_layer_of_its_own(spec: ta.ImageSpec) -> Any:
    image, x = convolved(spec)
    return keras.Model(image, Waves()(x))


def test_a_layer_of_ones_own_is_exported_by_keras_under_the_same_gate(shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx")
    settings = [*SMALL, "train.epochs=1"]
    run = ta.train(shapes, out=tmp_path / "run", model=with_a_layer_of_its_own, settings=settings)
    assert run.status == "done"
    assert run.record["onnx_difference"] < 1e-4
    image = run.catalog.root / run.catalog.split("test").images[0].path
    assert run.explain(image, out=tmp_path / "why").method == "class activation"
    assert ta.export(run.path, out=tmp_path / "model.onnx").difference < 1e-4


def test_a_network_that_cannot_be_exported_is_told_before_it_is_trained(
    shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_by_keras, "CONVERTER", "not_installed_anywhere")
    with pytest.raises(ta.TellapartError, match=r"Waves, which cannot be written as ONNX here.*tellapart\[export\]"):
        ta.train(shapes, out=tmp_path / "run", model=with_a_layer_of_its_own, settings=list(SMALL))
    assert not ta.open_run(tmp_path / "run").history


def test_the_network_of_the_page_is_trained_by_its_command_and_the_run_goes_by_its_name(
    shapes: Path, tmp_path: Path
) -> None:
    text = PAGE.read_text(encoding="utf-8")
    code = next(block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "def small" in block)
    (tmp_path / "mynetworks.py").write_text(code, encoding="utf-8")
    command = next(line for line in text.splitlines() if line.startswith("tellapart train photos/"))
    words = command.replace("photos/", str(shapes)).replace("64", "24").split()[1:]
    line = [sys.executable, "-m", "tellapart", *words, "--epochs", "1"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    (run,) = ta.list_runs(tmp_path / "runs")
    assert run.path.name == "shapes-small-1"
    assert run.config.model.name == "mynetworks:small"
    listed = "".join(line for line in text.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"model\.(\w+)", listed)) == set(own.OwnOptions.model_fields)
