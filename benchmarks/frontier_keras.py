"""Transfer learning as Keras documents it: a head on the frozen backbone, then the whole backbone at a low rate.

`python benchmarks/frontier_keras.py FOLDER SEED`, FOLDER with train, validation and test; prints accuracy as JSON.
The epochs are those of keras.io/guides/transfer_learning: 18 for the head, 9 for fine-tuning; the best on validation is
kept, as its early stopping does elsewhere in the documentation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import keras
import tensorflow
from keras import layers

from tellapart.models.efficientnet_lite import OFFSET, SCALE, efficientnet_lite
from tellapart.models.features import TOP
from tellapart.models.weights_file import BUNDLED, load_weights

SIDE, BATCH = 224, 32
HEAD_EPOCHS, FINE_TUNE_EPOCHS = 18, 9


def main(folder: Path, seed: int) -> None:
    keras.utils.set_random_seed(seed)
    parts = {
        split: keras.utils.image_dataset_from_directory(
            folder / split, image_size=(SIDE, SIDE), batch_size=BATCH, label_mode="int", shuffle=False, verbose=False
        ).cache()
        for split in ("train", "validation", "test")
    }
    classes = len(list((folder / "train").iterdir()))
    train = parts["train"].unbatch().shuffle(2000, seed=seed).batch(BATCH).prefetch(tensorflow.data.AUTOTUNE)
    inputs = keras.Input((SIDE, SIDE, 3))
    inside = keras.Input((SIDE, SIDE, 3))
    maps = efficientnet_lite(layers.Rescaling(SCALE, OFFSET)(inside), "efficientnet-lite0")
    backbone = keras.Model(inside, maps[TOP])
    load_weights(backbone, BUNDLED / "efficientnet-lite0.safetensors")
    backbone.trainable = False
    # Outside training the layers of augmentation pass the image on.
    x = layers.RandomRotation(0.1)(layers.RandomFlip("horizontal")(inputs))
    x = layers.GlobalAveragePooling2D()(backbone(x, training=False))
    outputs = layers.Dense(classes, activation="softmax")(layers.Dropout(0.2)(x))
    model = keras.Model(inputs, outputs)
    for rate, epochs, trainable in ((1e-3, HEAD_EPOCHS, False), (1e-5, FINE_TUNE_EPOCHS, True)):
        backbone.trainable = trainable
        model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
        best = keras.callbacks.EarlyStopping("val_accuracy", patience=epochs, restore_best_weights=True)
        model.fit(train, validation_data=parts["validation"], epochs=epochs, callbacks=[best], verbose=0)
    n = sum(len(labels) for _, labels in parts["test"])
    print(json.dumps({"accuracy": float(model.evaluate(parts["test"], verbose=0)[1]), "n": n}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
