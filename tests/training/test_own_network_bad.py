"""A network of one's own that cannot be trained, or not truly: each is told before it is trained, by what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart.errors import ModelError

keras = pytest.importorskip("keras")

from keras import layers, ops  # noqa: E402

SMALL = ("image.height=24", "image.width=24", "train.epochs=1")


def convolved(spec: ta.ImageSpec, **given: Any) -> tuple[Any, Any]:
    image = keras.Input(given.pop("shape", spec.shape), **given)
    return image, layers.Conv2D(4, 3)(layers.Rescaling(1.0)(image))


def of_two_inputs(spec: ta.ImageSpec) -> Any:
    one, other = keras.Input(spec.shape), keras.Input(spec.shape)
    return keras.Model([one, other], layers.Add()([one, other]))


def of_bytes(spec: ta.ImageSpec) -> Any:
    return keras.Model(*convolved(spec, dtype="uint8"))


def giving_whole_numbers(spec: ta.ImageSpec) -> Any:
    image, x = convolved(spec)
    return keras.Model(image, ops.cast(x, "int32"))


def of_another_size(spec: ta.ImageSpec) -> Any:
    return keras.Model(*convolved(spec, shape=(99, 99, 3)))


def of_another_rank(spec: ta.ImageSpec) -> Any:
    image = keras.Input((spec.height * spec.width * spec.channels,))
    return keras.Model(image, layers.Dense(4)(image))


def softmaxed(spec: ta.ImageSpec) -> Any:
    image, x = convolved(spec)
    return keras.Model(image, layers.Dense(5, activation="softmax")(layers.Flatten()(x)))


def without_features(spec: ta.ImageSpec) -> Any:
    image, x = convolved(spec)
    return keras.Model(image, layers.Reshape((22, 22, 2, 2))(x))


def no_number(spec: ta.ImageSpec) -> Any:
    image, x = convolved(spec)
    return keras.Model(image, ops.log(-1 - ops.abs(x)))


def no_network(spec: ta.ImageSpec) -> Any:
    return spec.shape


def nothing(spec: ta.ImageSpec) -> Any:
    convolved(spec)


class Written(keras.Model):
    """By a subclass, whose graph Keras does not know."""

    def call(self, image: Any) -> Any:
        return image


def not_functional(spec: ta.ImageSpec) -> Any:  # noqa: ARG001 - what it is to take
    return Written()


def raising(spec: ta.ImageSpec) -> Any:
    raise ArithmeticError(f"no sizes but 32, and not {spec.height}")


def wanting_more(spec: ta.ImageSpec, depth: int) -> Any:
    return convolved(spec)[depth]


def of_all_images(spec: ta.ImageSpec) -> Any:
    """Less the mean over the batch, as a normalisation is in training, and here always."""
    image, x = convolved(spec)
    return keras.Model(image, x - ops.mean(x, axis=0, keepdims=True))


def one_of_all_images(spec: ta.ImageSpec) -> Any:
    image, x = convolved(spec)
    return keras.Model(image, ops.mean(x, axis=0, keepdims=True))


class Chance(layers.Layer):
    """Dropout that knows no end."""

    def call(self, x: Any) -> Any:
        return keras.random.dropout(x, 0.5)


def by_chance(spec: ta.ImageSpec) -> Any:
    image, x = convolved(spec)
    return keras.Model(image, Chance()(x))


class Unnamed(layers.Layer):
    """It takes what Keras cannot write down, and does not say how it is made."""

    def __init__(self, function: Any, **given: Any) -> None:
        super().__init__(**given)
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)


def not_to_be_saved(spec: ta.ImageSpec) -> Any:
    image, x = convolved(spec)
    return keras.Model(image, Unnamed(ops.sin)(x))


BAD = {
    of_two_inputs: "has 2 inputs; it must take one",
    of_bytes: "takes uint8; it must take float32",
    giving_whole_numbers: "outputs int32; it must output float32",
    of_another_size: r"takes \(99, 99, 3\); the images are \(24, 24, 3\)",
    of_another_rank: r"takes \(1728,\); the images are \(24, 24, 3\)",
    softmaxed: "ends in a softmax",
    without_features: "it must output features",
    no_number: "features that are not finite",
    no_network: r"returns a tuple; it must return a keras\.Model",
    nothing: r"returns a NoneType; it must return a keras\.Model",
    not_functional: "returns a Written that is not functional",
    raising: "cannot be built: ArithmeticError: no sizes but 32, and not 24",
    wanting_more: "cannot be built: TypeError: .*depth",
    of_all_images: "different features for an image alone and for the same image in a batch",
    one_of_all_images: "different features for an image alone and for the same image in a batch",
    by_chance: "without randomness",
    not_to_be_saved: "cannot be saved",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_a_network_that_cannot_be_trained_is_told_with_what_is_wrong_about_it(
    make: Callable[[ta.ImageSpec], Any], shapes: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=BAD[make]):
        ta.train(shapes, out=tmp_path / "run", model=make, settings=list(SMALL))
    run = ta.open_run(tmp_path / "run")
    assert run.status == "failed"
    assert not run.history
