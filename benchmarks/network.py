"""The network of the recipe cats-dogs-64, as a user of Keras writes it, for the peers of train and predict."""

from __future__ import annotations

from typing import Any

SIDE = 128
BATCH = 15


def network(classes: int, before: tuple[Any, ...] = (), dtype: str = "float32") -> Any:
    """A compiled Sequential model; before: layers that see the image first, such as scaling. Images as floats."""
    import keras
    from keras import layers

    keras.config.set_dtype_policy(dtype)
    # Two classes: one sigmoid unit, as in the recipe.
    head = (1, "sigmoid") if classes == 2 else (classes, "softmax")
    model = keras.Sequential(
        [
            keras.Input((SIDE, SIDE, 3)),
            *before,
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(64, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(head[0], activation=head[1], dtype="float32"),
        ]
    )
    loss = "binary_crossentropy" if classes == 2 else "categorical_crossentropy"
    model.compile(optimizer=optimizer(), loss=loss, metrics=["accuracy"])
    return model


def optimizer() -> str:
    """The optimizer of the recipe."""
    from tellapart.recipes import load_recipe

    return load_recipe("cats-dogs-64").train.optimizer


def label_mode(classes: int) -> str:
    """The label mode of Keras' readers that this head needs."""
    return "binary" if classes == 2 else "categorical"
