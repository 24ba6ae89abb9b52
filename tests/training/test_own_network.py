"""Networks of one's own: trained, resumed, exported, explained; their code runs only where the user says so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tellapart as ta
from tellapart.config import Config
from tellapart.errors import ModelError, RunError, UntrustedCodeError
from tellapart.models import onnx_by_keras, own
from tellapart.models.keras_file import open_keras
from tellapart.progress import Progress
from tests.command import PATIENCE

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
    assert [path.name for path in found.files] == ["heat.svg", "explain.html"]
    assert "--trust-code" in found.words[-1]

    run = ta.resume(stopped.path, trust_code=True)
    assert run.status == "done"
    assert run.record.onnx_difference < 1e-4
    never = ta.train(shapes, out=tmp_path / "never", config=config, progress=Progress())
    for ours, theirs in zip(run.model().get_weights(), never.model().get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for form in ("onnx", "keras"):
        assert ta.export(run.path, form, out=tmp_path / f"model.{form}").difference < 1e-4
    found = run.explain(images[0], out=tmp_path / "why now")
    assert found.method == "class activation"
    assert {path.name for path in found.files} == {"heat.svg", "feature-maps.svg", "filters.svg", "explain.html"}


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


@pytest.mark.parametrize("name", ["networks_of_mine:large", "no_such_module:small", ":small"])
def test_a_network_that_is_not_there_is_told(name: str, named: str) -> None:  # noqa: ARG001 - the folder
    with pytest.raises(ModelError, match="cannot be imported"):
        ta.make_config(model=name)
    with pytest.raises(ModelError, match="given int"):
        ta.make_config(model=3)


def test_a_backbone_of_kerashub_keeps_its_weights_and_the_names_of_its_maps() -> None:
    hub = pytest.importorskip("keras_hub")
    from tellapart.models.classifier import Classifier

    given: dict[str, Any] = {"input_conv_filters": [64], "input_conv_kernel_sizes": [3], "block_type": "basic_block"}
    given |= {"stackwise_num_filters": [64, 64], "stackwise_num_blocks": [1, 1], "stackwise_num_strides": [1, 2]}
    backbone = hub.models.ResNetBackbone(**given, image_shape=(32, 32, 3))
    made = Classifier.from_network(ta.Task(("a", "b")), ta.ImageSpec(32, 32), backbone, scaling="none")
    assert list(made.backbone.maps) == [*list(backbone.pyramid_outputs)[:-1], "top"]
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    found = keras.Model(made.backbone.image, made.backbone.maps["top"])(images, training=False)
    expected = backbone(images.astype(np.float32), training=False)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=1e-4, atol=1e-3)


class Halves(keras.Model):
    """Of layers that do not say how they are made, which the model does, as KerasHub's ViT."""

    def __init__(self, width: int, **given: Any) -> None:
        class Half(layers.Layer):
            def get_config(self) -> dict[str, Any]:
                return super().get_config() | {"part": 0.5}  # which its __init__ does not take

            def call(self, x: Any) -> Any:
                return x / 2

        image = keras.Input((24, 24, 3))
        super().__init__(image, Half()(layers.Conv2D(width, 3)(image)), **given)
        self.width = width

    def get_config(self) -> dict[str, Any]:
        return {"width": self.width}


class Undescribed(keras.Model):
    """Of plain layers, and it does not say how it is made."""

    def __init__(self, width: int, **given: Any) -> None:
        image = keras.Input((24, 24, 3))
        super().__init__(image, layers.Conv2D(width, 3)(image), **given)


@pytest.mark.parametrize("kind", [Halves, Undescribed])
def test_a_model_of_a_class_of_ones_own_is_copied_by_its_own_description_or_by_its_layers(kind: type) -> None:
    from tellapart.models.classifier import Classifier

    mine = kind(4)
    made = Classifier.from_network(ta.Task(("a", "b")), ta.ImageSpec(24, 24), mine, scaling="none")
    images = np.random.default_rng(0).integers(0, 256, (2, 24, 24, 3), np.uint8)
    found = keras.Model(made.backbone.image, made.backbone.maps["top"])(images, training=False)
    np.testing.assert_allclose(np.asarray(found), np.asarray(mine(images.astype(np.float32))), rtol=1e-4, atol=1e-3)


def of_patches(spec: ta.ImageSpec) -> Any:
    """Tokens, as of a vision transformer: the first weights read what is no image."""
    image = keras.Input(spec.shape)
    patches = layers.Reshape((9, spec.height * spec.width // 9 * spec.channels))(image)
    return keras.Model(image, layers.Dense(5, activation="relu")(patches))


def test_a_network_of_tokens_is_built_and_has_no_filters_to_show() -> None:
    from tellapart.explain.feature_maps import feature_maps, first_filters
    from tellapart.models.classifier import Classifier

    spec = ta.ImageSpec(24, 24)
    made = Classifier.from_network(ta.Task(("a", "b")), spec, of_patches)
    assert made.features.width == 5
    assert feature_maps(made, np.zeros(spec.shape, np.uint8), 3) == []
    assert first_filters(made) is None


class Waves(layers.Layer):
    """Not written as ONNX by us."""

    def build(self, shape: Any) -> None:
        self.rate = self.add_weight(shape=(shape[-1],), initializer="ones", name="rate")

    def call(self, x: Any) -> Any:
        return keras.ops.sin(x * self.rate)


def with_a_layer_of_its_own(spec: ta.ImageSpec) -> Any:
    image = keras.Input(spec.shape)
    return keras.Model(image, Waves()(layers.Conv2D(4, 3)(image)))


def test_a_layer_of_ones_own_is_exported_by_keras_under_the_same_gate(shapes: Path, tmp_path: Path) -> None:
    pytest.importorskip("tf2onnx")
    settings = [*SMALL, "train.epochs=1"]
    run = ta.train(shapes, out=tmp_path / "run", model=with_a_layer_of_its_own, settings=settings)
    assert run.status == "done"
    assert run.record.onnx_difference < 1e-4
    image = run.catalog.root / run.catalog.split("test").images[0].path
    assert run.explain(image, out=tmp_path / "why").method == "class activation"
    assert ta.export(run.path, out=tmp_path / "model.onnx").difference < 1e-4


class Placed(layers.Layer):
    """As a vision transformer has it: an exact GELU, of what is learned of each row beside the map."""

    def build(self, shape: Any) -> None:
        self.embedding = layers.Embedding(shape[1], shape[-1])
        self.embedding.build((1, shape[1]))
        self.rows = keras.ops.expand_dims(keras.ops.arange(shape[1]), axis=0)

    def call(self, x: Any) -> Any:
        return keras.activations.gelu(x + self.embedding(self.rows)[:, :, None], approximate=False)


@pytest.mark.parametrize("scaling", ["signed", "none"])
def test_an_exact_gelu_and_constants_that_a_layer_made_are_exported_near_zero_and_far_from_it(
    scaling: str, tmp_path: Path
) -> None:
    pytest.importorskip("tf2onnx")
    from tellapart.inference.onnx_export import export_onnx
    from tellapart.inference.predictor import Metadata
    from tellapart.models.classifier import Classifier

    def make(spec: ta.ImageSpec) -> Any:
        image = keras.Input(spec.shape)
        return keras.Model(image, Placed()(layers.Conv2D(4, 3)(image)))

    task, spec = ta.Task(("a", "b")), ta.ImageSpec(24, 24)
    made = Classifier.from_network(task, spec, make, scaling=scaling)
    images = np.random.default_rng(0).integers(0, 256, (8, *spec.shape), np.uint8)
    assert export_onnx(made, Metadata(task, spec), tmp_path / "model.onnx", images) < 1e-5


def test_the_file_of_a_run_may_hold_the_layers_of_its_own_network_that_run_json_names_and_no_others(
    shapes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("tf2onnx")
    settings = [*SMALL, "train.epochs=1"]
    run = ta.train(shapes, out=tmp_path / "run", model=with_a_layer_of_its_own, settings=settings)
    assert run.record.own_layers == (f"{Waves.__module__}.Waves",)
    assert run.model().count_params() == run.record.parameters
    assert ta.export(run.path, "keras", out=tmp_path / "model.keras").difference < 1e-4
    with pytest.raises(RunError, match="refused: it holds Waves of"):
        open_keras(tmp_path / "model.keras")
    for others in (("keras.layers.Lambda",), ()):
        run.update(own_layers=others)
        with pytest.raises(RunError, match=r"model\.keras is (refused: it holds Waves of|damaged)"):
            run.model()


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
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    (run,) = ta.list_runs(tmp_path / "runs")
    assert run.path.name == "shapes-small-1"
    assert run.config.model.name == "mynetworks:small"
    listed = "".join(line for line in text.splitlines() if line.startswith("| `"))
    assert set(re.findall(r"model\.(\w+)", listed)) == set(own.OwnOptions.model_fields)
