from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from tellapart.errors import ExportError
from tellapart.models.onnx_graph import write_graph
from tellapart.models.runtime import open_session

keras = pytest.importorskip("keras")
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer  # noqa: E402

layers = keras.layers

Network = Callable[[Any], Any]


def network(body: Network, shape: tuple[int, ...] = (13, 10, 3)) -> Any:
    """Image in, with weights and statistics that are all different."""
    image = keras.Input(shape, dtype="uint8" if len(shape) == 3 else "float32", name="image")
    model = keras.Model(image, body(image))
    generator = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(generator.uniform(0.2, 1.5, variable.shape) * np.where(variable.path.count("variance"), 1, 0.3))
    return model


def difference(model: Any, graph: Any, path: Path) -> float:
    import onnx

    onnx.checker.check_model(graph, full_check=True)
    onnx.save(graph, str(path))
    generator = np.random.default_rng(1)
    shape = (5, *model.input.shape[1:])
    given = generator.integers(0, 256, shape, np.uint8) if len(shape) == 4 else generator.normal(size=shape)
    given = given.astype(model.input.dtype)
    session = open_session(path)
    found = session.run(None, {session.get_inputs()[0].name: given})[0]
    expected = np.asarray(model(given))
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def convolution(*arguments: Any, **options: Any) -> Network:
    return lambda x: layers.Conv2D(*arguments, **options)(layers.Rescaling(1 / 255)(x))


BODIES: dict[str, Network] = {
    "one scale": lambda x: layers.Rescaling(1 / 127.5, -1)(x),
    "a scale a channel": lambda x: layers.Rescaling([0.1, 0.2, 0.3], [-1, 0, 1])(x),
    "valid convolution": convolution(4, 3, activation="relu"),
    "same convolution of stride 2": convolution(4, 3, strides=2, padding="same"),
    "even kernel and stride": convolution(4, (2, 4), strides=(2, 1), padding="same", use_bias=False),
    "grouped convolution": convolution(6, 3, groups=3, padding="same"),
    "depthwise": lambda x: layers.DepthwiseConv2D(5, 2, padding="same")(layers.Rescaling(0.01)(x)),
    "normalisation": lambda x: layers.BatchNormalization(epsilon=0.01)(layers.Rescaling(0.01)(x)),
    "normalisation alone": lambda x: layers.BatchNormalization(center=False, scale=False)(layers.Rescaling(1.0)(x)),
    "bounded relu": lambda x: layers.ReLU(6)(layers.Rescaling(0.1, -3)(x)),
    "max pooling, valid": lambda x: layers.MaxPooling2D(2)(layers.Rescaling(1.0)(x)),
    "max pooling, same": lambda x: layers.MaxPooling2D(3, 2, padding="same")(layers.Rescaling(1.0)(x)),
    "average pooling, valid": lambda x: layers.AveragePooling2D((2, 3), 2)(layers.Rescaling(1.0)(x)),
    "average pooling, same, whose edges are no zeros": lambda x: layers.AveragePooling2D(3, 1, padding="same")(
        layers.Rescaling(1.0, 9)(x)
    ),
    "zeros on three sides": lambda x: layers.ZeroPadding2D(((0, 2), (1, 3)))(layers.Rescaling(1.0, 9)(x)),
    "cropped on three sides": lambda x: layers.Cropping2D(((1, 0), (2, 3)))(layers.Rescaling(1.0)(x)),
    "separable": lambda x: layers.SeparableConv2D(5, (3, 2), 2, padding="same", activation="relu")(
        layers.Rescaling(0.01, -1)(x)
    ),
    "separable without bias": lambda x: layers.SeparableConv2D(2, 3, use_bias=False)(layers.Rescaling(0.01)(x)),
    "channels in reverse": lambda x: keras.ops.flip(layers.Rescaling([0.1, 0.2, 0.3])(x), axis=-1),
    "beside each other": lambda x: layers.Concatenate()([layers.Rescaling(scale)(x) for scale in (0.1, 0.2)]),
    "vectors beside each other": lambda x: layers.Concatenate(axis=1)(
        [pool()(layers.Rescaling(0.1)(x)) for pool in (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)]
    ),
    "a gate by reshape": lambda x: layers.Multiply()(
        [layers.Rescaling(0.1)(x), layers.Reshape((1, 1, 3))(layers.GlobalAveragePooling2D()(layers.Rescaling(1.0)(x)))]
    ),
    "a gate that kept its axes": lambda x: layers.Multiply()(
        [layers.Rescaling(0.1)(x), layers.GlobalAveragePooling2D(keepdims=True)(layers.Rescaling(1.0)(x))]
    ),
    "silu": lambda x: layers.Activation("silu")(layers.Rescaling(0.05, -6)(x)),
    "hard silu": lambda x: layers.Activation("hard_silu")(layers.Rescaling(0.05, -6)(x)),
    "numbers between layers": lambda x: layers.ReLU(6)(layers.Rescaling(0.05, -6)(x) + 3.0) * (1 / 6),
    "a scaled sum": lambda x: CustomScaleLayer(0.17)([layers.Rescaling(0.1)(x), layers.Rescaling(1.0, 5)(x)]),
    "average": lambda x: layers.GlobalAveragePooling2D()(layers.Rescaling(1.0)(x)),
    "maximum": lambda x: layers.GlobalMaxPooling2D()(layers.Rescaling(1.0)(x)),
    "flatten and dense": lambda x: layers.Dense(4, activation="sigmoid")(
        layers.Flatten()(layers.Rescaling(1e-4, -0.01)(x))
    ),
    "unit length": lambda x: layers.UnitNormalization()(layers.Flatten()(layers.Rescaling(0.1, -5)(x))),
    "normalisation of each place": lambda x: layers.LayerNormalization(epsilon=1e-6)(
        layers.Rescaling([0.1, 0.02, 0.3])(x)
    ),
    "normalisation of a vector": lambda x: layers.LayerNormalization()(layers.Flatten()(layers.Rescaling(0.1, -5)(x))),
    "dense at each place": lambda x: layers.Dense(4, activation="gelu")(layers.Rescaling(0.01, -1)(x)),
    "dense without bias at each place": lambda x: layers.Dense(4, use_bias=False)(layers.Rescaling(0.01, -1)(x)),
    "sum of three": lambda x: layers.Add()([layers.Rescaling(scale)(x) for scale in (0.1, 0.2, 0.3)]),
    "dropout and activation": lambda x: layers.Activation("relu")(layers.Dropout(0.5)(layers.Rescaling(1.0, -99)(x))),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_layer_that_is_written_here_computes_what_keras_computes(name: str, tmp_path: Path) -> None:
    model = network(BODIES[name])
    assert difference(model, write_graph(model, ["given"]), tmp_path / "model.onnx") < 1e-5


def test_a_vector_goes_in_and_softmax_comes_out(tmp_path: Path) -> None:
    model = network(lambda x: layers.Dense(3, activation="softmax")(layers.Dense(5, activation="relu")(x)), (7,))
    assert difference(model, write_graph(model, ["given"]), tmp_path / "model.onnx") < 1e-5


def test_a_layer_of_two_networks_is_written_with_the_inputs_it_has_in_this_one(tmp_path: Path) -> None:
    whole = network(lambda x: layers.Dense(2, name="head")(layers.GlobalMaxPooling2D()(layers.Rescaling(0.1)(x))))
    features = keras.Input((3,), name="features")
    head = keras.Model(features, whole.get_layer("head")(features))
    for number, model in enumerate((whole, head)):
        assert difference(model, write_graph(model, ["given"]), tmp_path / f"{number}.onnx") < 1e-5


def test_several_inputs_and_outputs_keep_their_order_and_get_the_names_asked_for(tmp_path: Path) -> None:
    import onnx

    vector, image = keras.Input((4,), name="vector"), keras.Input((None, None, 3), name="map")
    outputs = [layers.Dense(2)(vector), layers.Conv2D(5, 1)(image), layers.UnitNormalization()(vector)]
    model = keras.Model([vector, image], outputs)
    onnx.save(write_graph(model, ["a", "b", "c"]), str(tmp_path / "model.onnx"))
    generator = np.random.default_rng(0)
    given = [generator.normal(size=shape).astype(np.float32) for shape in ((2, 4), (2, 3, 6, 3))]
    given[0][1] = 0  # A row that has no direction.
    found = open_session(tmp_path / "model.onnx").run(["a", "b", "c"], dict(zip(("vector", "map"), given, strict=True)))
    for ours, theirs in zip(found, model(given), strict=True):
        np.testing.assert_allclose(ours, np.asarray(theirs), atol=1e-5)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (lambda x: layers.LeakyReLU()(layers.Rescaling(0.1, -5)(x)), "LeakyReLU"),
        (convolution(4, 3, dilation_rate=2), "dilation"),
        (convolution(4, 3, activation="tanh"), "tanh"),
        (lambda x: layers.ReLU(negative_slope=0.1)(layers.Rescaling(0.1, -5)(x)), "slope"),
        (lambda x: layers.SeparableConv2D(4, 3, dilation_rate=2)(layers.Rescaling(0.01)(x)), "dilation"),
        (lambda x: layers.SeparableConv2D(4, 3, depth_multiplier=2)(layers.Rescaling(0.01)(x)), "multiplier"),
        (lambda x: layers.Reshape((10, 13, 3))(layers.Rescaling(0.01)(x)), "a reshape other than"),
        (lambda x: layers.Concatenate(axis=1)([layers.Rescaling(s)(x) for s in (0.1, 0.2)]), "another axis"),
        (lambda x: layers.Multiply()([layers.Rescaling(s)(x) for s in (0.1, 0.2, 0.3)]), "more than two"),
        (lambda x: keras.ops.flip(layers.Rescaling(0.1)(x), axis=1), "another axis"),
        (lambda x: layers.Rescaling(0.1)(x) + np.arange(3, dtype=np.float32), "Add"),
        (lambda x: layers.Dense(2)(layers.Reshape((1, 1, 30, 13))(layers.Rescaling(0.01)(x))), "a reshape other than"),
        (lambda x: layers.LayerNormalization(axis=1)(layers.Rescaling(0.01)(x)), "axis"),
        (lambda x: layers.LayerNormalization(center=False)(layers.Rescaling(0.01)(x)), "no scale or offset"),
        (lambda x: layers.DepthwiseConv2D(3, depth_multiplier=2)(layers.Rescaling(0.01)(x)), "multiplier"),
        (lambda x: layers.BatchNormalization(axis=1)(layers.Rescaling(0.01)(x)), "axis"),
    ],
)
def test_what_is_not_written_here_is_named(body: Network, told: str) -> None:
    with pytest.raises(ExportError, match=f"{told}.*cannot be written as ONNX"):
        write_graph(network(body), ["given"])


def test_a_tiny_vector_gets_unit_length_in_every_runtime(tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    vector = keras.Input((4,), name="vector")
    model = keras.Model(vector, keras.layers.UnitNormalization()(vector))
    path = tmp_path / "unit.onnx"
    path.write_bytes(write_graph(model, ["unit"]).SerializeToString())
    tiny = np.array([[3e-11, 0, 4e-11, 0], [0, 0, 0, 0]], np.float32)
    (in_onnxruntime,) = onnxruntime.InferenceSession(path).run(None, {"vector": tiny})
    in_openvino = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(tiny)["unit"]
    for unit in (np.asarray(model(tiny)), in_onnxruntime, in_openvino):
        np.testing.assert_allclose(unit, [[0.6, 0, 0.8, 0], [0, 0, 0, 0]], rtol=1e-3)
