from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from tellapart.data import pixels
from tellapart.errors import ModelError
from tellapart.models.efficientnet_lite import FEATURES, OFFSET, SCALE, Variant, efficientnet_lite, stages
from tellapart.models.features import TOP
from tellapart.models.weights_file import BUNDLED, load_weights, named_variables
from tellapart.task import ImageSpec

keras = pytest.importorskip("keras")

from safetensors import safe_open  # noqa: E402
from safetensors.numpy import load_file, save_file  # noqa: E402

LITE0 = BUNDLED / "efficientnet-lite0.safetensors"
GOLDEN = Path(__file__).parent / "golden" / "efficientnet-lite0.safetensors"
PETS = Path(pixels.__file__).parent / "builtin" / "pets"


def network(name: str = "efficientnet-lite0", shape: tuple[int | None, ...] = (None, None, 3)) -> keras.Model:
    image = keras.Input(shape, dtype="uint8", name="image")
    scaled = keras.layers.Rescaling(SCALE, OFFSET, name="scaling")(image)
    top = efficientnet_lite(scaled, name)[TOP]
    pooled = keras.layers.GlobalAveragePooling2D(name="pooling")(top)
    return keras.Model(image, [top, pooled], name=name)


@pytest.fixture(scope="module")
def lite0() -> keras.Model:
    return network()


@pytest.fixture
def stored() -> dict[str, np.ndarray]:
    return load_file(LITE0)


def saved(tensors: dict[str, np.ndarray], folder: Path) -> Path:
    path = folder / "given.safetensors"
    save_file(tensors, path)
    return path


def test_the_bundled_weights_give_the_features_of_the_source_network_on_real_images(lite0: keras.Model) -> None:
    with safe_open(GOLDEN, "numpy") as file:
        described, theirs = json.loads(file.metadata()["tellapart"]), file.get_tensor("pooled")
    names, side = described["images"], described["side"]
    images = np.stack([pixels.read(PETS / name, ImageSpec(side, side)) for name in names])
    assert hashlib.sha256(images.tobytes()).hexdigest() == described["pixels_sha256"], (
        "pixels.read gives other pixels than those of the golden file; write it anew with tools/"
    )
    load_weights(lite0, LITE0)
    feature_map, pooled = (np.asarray(output) for output in lite0.predict_on_batch(images))
    assert pooled.shape == (8, FEATURES)
    assert feature_map.shape == (8, 7, 7, FEATURES)
    np.testing.assert_allclose(pooled, feature_map.mean(axis=(1, 2)), atol=1e-5)
    # What rounding the pointwise kernels to float16 does: 0.0096 and 0.0020 measured; symmetric padding: 2.0.
    assert np.abs(pooled - theirs).max() < 0.015
    assert (np.linalg.norm(pooled - theirs, axis=1) / np.linalg.norm(theirs, axis=1)).max() < 0.004


def test_the_bundled_file_says_where_it_comes_from_and_under_which_licence() -> None:
    with safe_open(LITE0, "numpy") as file:
        described = json.loads(file.metadata()["tellapart"])
    assert described["network"] == "efficientnet-lite0"
    assert described["licence"] == "Apache-2.0"
    notice = (BUNDLED / "LICENSE-efficientnet-lite0.md").read_text(encoding="utf-8")
    for key in ("source", "wheel_sha256", "member_sha256", "changes"):
        assert described[key] in notice


def test_stored_float16_arrives_as_the_float32_of_the_variable(lite0, stored, tmp_path) -> None:
    name = "end_convolution/kernel"
    assert stored[name].dtype == np.float16
    stored[name] = np.full_like(stored[name], 0.1)
    load_weights(lite0, saved(stored, tmp_path))
    variable = named_variables(lite0)[name]
    assert variable.dtype == "float32"
    np.testing.assert_array_equal(np.asarray(variable.value), np.float32(np.float16(0.1)))


def test_images_of_any_size_from_32_give_features(lite0: keras.Model) -> None:
    for height, width in ((32, 32), (97, 64)):
        feature_map, pooled = lite0.compute_output_shape((None, height, width, 3))
        assert feature_map == (None, -(-height // 32), -(-width // 32), FEATURES)
        assert pooled == (None, FEATURES)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("efficientnet-lite0", 3_413_024), ("efficientnet-lite1", 4_189_344), ("efficientnet-lite2", 4_869_168)],
)
def test_every_variant_has_the_weights_of_its_source(name: str, parameters: int) -> None:
    model = network(name)
    assert model.count_params() == parameters
    assert model.get_layer("stem_convolution").filters == 32
    assert model.get_layer("end_convolution").filters == FEATURES


def test_the_depth_of_the_first_and_last_stage_is_not_multiplied() -> None:
    wide = stages(Variant(2, 3, 224))
    assert [stage.blocks for stage in wide] == [1, 6, 6, 9, 9, 12, 1]
    assert [stage.channels for stage in wide] == [32, 48, 80, 160, 224, 384, 640]


def test_channels_are_never_rounded_below_nine_tenths() -> None:
    assert [stage.channels for stage in stages(Variant(1.2, 1.4, 280))] == [24, 32, 48, 96, 136, 232, 384]


def test_nothing_is_normalised_by_other_constants_or_cut_elsewhere_than_at_six(lite0: keras.Model) -> None:
    kinds = {kind: [layer for layer in lite0.layers if isinstance(layer, kind)] for kind in (
        keras.layers.BatchNormalization, keras.layers.ReLU)}  # fmt: skip
    normalisations, cuts = kinds.values()
    assert len(normalisations) == 49
    assert {(layer.momentum, layer.epsilon) for layer in normalisations} == {(0.99, 1e-3)}
    assert len(cuts) == 33
    assert {layer.max_value for layer in cuts} == {6}


def test_a_backbone_inside_a_whole_network_is_loaded_through_its_own_part(lite0: keras.Model) -> None:
    pretrained = keras.Model(lite0.input, lite0.get_layer("pooling").output)
    whole = keras.Model(lite0.input, keras.layers.Dense(1, name="probability")(pretrained.output))
    load_weights(pretrained, LITE0)
    name = "stem_normalization/gamma"
    np.testing.assert_array_equal(np.asarray(named_variables(whole)[name].value), load_file(LITE0)[name])
    with pytest.raises(ModelError, match="2 missing: probability/kernel, probability/bias"):
        load_weights(whole, LITE0)


@pytest.mark.parametrize("bias", [True, False])
def test_a_file_with_the_classifier_is_told_as_such(lite0, stored, tmp_path, bias) -> None:
    stored["classifier/kernel"] = np.zeros((FEATURES, 1000), np.float16)
    if bias:
        stored["classifier/bias"] = np.zeros(1000, np.float16)
    with pytest.raises(ModelError, match=r"holds a classifier .*classifier/kernel.*without the top"):
        load_weights(lite0, saved(stored, tmp_path))


def test_weights_of_another_variant_are_refused_whole_and_named(stored, tmp_path) -> None:
    lite1, lite2 = network("efficientnet-lite1"), network("efficientnet-lite2")
    before = [np.asarray(value) for value in lite1.get_weights()]
    with pytest.raises(ModelError, match=r"of efficientnet-lite1\. \d+ missing: stage_2_block_3_expansion/kernel, "):
        load_weights(lite1, LITE0)
    assert all(np.array_equal(value, other) for value, other in zip(before, lite1.get_weights(), strict=True))
    with pytest.raises(ModelError, match=r"of another shape: .*\(1, 1, 144, 40\) in the file, \(1, 1, 144, 48\) in"):
        load_weights(lite2, LITE0)
    stored["classifier/kernel"] = np.zeros((FEATURES, 1000), np.float16)
    with pytest.raises(ModelError, match="1 unexpected: classifier/kernel"):
        load_weights(lite1, saved(stored, tmp_path))


def test_a_tensor_that_is_unexpected_and_no_classifier_is_named(lite0, stored, tmp_path) -> None:
    stored["attention/query"] = np.zeros((2, 3, 4), np.float16)
    with pytest.raises(ModelError, match="1 unexpected: attention/query"):
        load_weights(lite0, saved(stored, tmp_path))


def test_numbers_of_another_type_are_refused(lite0, stored, tmp_path) -> None:
    stored["stem_convolution/kernel"] = np.zeros((3, 3, 3, 32), np.int8)
    with pytest.raises(ModelError, match="number types other than F16 and F32: stem_convolution/kernel"):
        load_weights(lite0, saved(stored, tmp_path))


def test_a_file_that_is_none_and_a_file_that_is_not_there_are_told_apart(lite0: keras.Model, tmp_path: Path) -> None:
    foreign = tmp_path / "weights.safetensors"
    foreign.write_bytes(b"\x89HDF\r\n\x1a\n and more bytes than a header has")
    with pytest.raises(ModelError, match="cannot be read as a safetensors file"):
        load_weights(lite0, foreign)
    with pytest.raises(ModelError, match="No such file"):
        load_weights(lite0, tmp_path / "absent.safetensors")
