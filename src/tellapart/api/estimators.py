"""Estimators of scikit-learn: ImageFeatures, a transformer, and ImageClassifier, which trains as `train` does.

Both take images of any kind that `tellapart.predict` takes, one a sample: a list or column of paths, arrays, ...
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d

from tellapart.api.datasets import catalog_of
from tellapart.api.features import required
from tellapart.api.options import make_config
from tellapart.api.training import train
from tellapart.config import Config
from tellapart.data.address import Address
from tellapart.data.sources.source import LabelledPath, Source
from tellapart.errors import ImageError, TellapartError
from tellapart.inference.inputs import Held
from tellapart.inference.predictor import Predictor
from tellapart.inference.python_inputs import images_of
from tellapart.progress import SILENT
from tellapart.training.embedding import WIDTH, embed


class _TakesImages(BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True  # images are validated as they are decoded
        return tags


class ImageFeatures(TransformerMixin, _TakesImages):  # type: ignore[misc]  # scikit-learn has no types
    """Images -> embeddings, float32 (n, 1280), of the bundled backbone, for any estimator. It learns nothing from the
    images, needs no Keras, and caches what it computed.

    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> catalog = ta.read("photos/")
    >>> paths, labels = [f"photos/{i.path}" for i in catalog.images], [i.label for i in catalog.images]
    >>> pipeline = make_pipeline(ta.ImageFeatures(), LogisticRegression(max_iter=1000)).fit(paths, labels)
    >>> pipeline.score(paths, labels) > 0.9
    True
    """

    def fit(self, X: Any, y: Any = None) -> ImageFeatures:  # noqa: ARG002 - of every estimator
        """Nothing is learned."""
        self.n_features_out_ = WIDTH
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embeddings (n, 1280), in order. Raises ImageError for an image that cannot be read."""
        return required(embed(images_of(X)))

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:  # noqa: ARG002 - as above
        """f0, f1 ..."""
        return np.array([f"f{number}" for number in range(WIDTH)], dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        return True


class ImageClassifier(ClassifierMixin, _TakesImages):  # type: ignore[misc]  # scikit-learn has no types
    """`tellapart.train` as an estimator: fit(images, labels), predict, predict_proba, score.

    model, image_size, epochs, fine_tune, seed, settings: as in `make_config`. out: keep the run, with its report, in
    this new folder, and its images in OUT-images; otherwise the network alone is kept, in the estimator. A validation
    split is taken from the images for calibration and choices, a test split only with `out`. Needs the extra `train`.

    >>> from sklearn.model_selection import cross_val_score
    >>> catalog = ta.read("photos/")
    >>> paths, labels = [f"photos/{i.path}" for i in catalog.images], [i.label for i in catalog.images]
    >>> cross_val_score(ta.ImageClassifier(fine_tune=0), paths, labels, cv=3)  # doctest: +SKIP
    """

    def __init__(
        self,
        *,
        model: str | None = None,
        image_size: int | None = None,
        epochs: int | None = None,
        fine_tune: int | None = None,
        seed: int = 0,
        settings: Sequence[str] = (),
        out: str | os.PathLike[str] | None = None,
    ) -> None:
        self.model = model
        self.image_size = image_size
        self.epochs = epochs
        self.fine_tune = fine_tune
        self.seed = seed
        self.settings = settings
        self.out = out

    def fit(self, X: Any, y: ArrayLike) -> ImageClassifier:
        """Train on images (n) and labels (n), of any type that can be compared. Raises ImageError for an image that
        cannot be read, ValueError where their numbers differ, and whatever `train` raises."""
        labels = column_or_1d(y, warn=True)
        check_classification_targets(labels)
        self.classes_, codes = np.unique(labels, return_inverse=True)
        names = [str(value) for value in self.classes_.tolist()]
        config = make_config(
            model=self.model,
            image_size=self.image_size,
            epochs=self.epochs,
            fine_tune=self.fine_tune,
            seed=self.seed,
            settings=[*([] if self.out else ["data.test_fraction=0"]), *self.settings],
        )
        # With `out`, the images must stay where the run says that they are.
        with tempfile.TemporaryDirectory(prefix="tellapart-") as folder:
            images = Path(self.out).with_name(f"{Path(self.out).name}-images") if self.out else Path(folder) / "images"
            rows = _written(X, images, config)
            check_consistent_length(rows, labels)
            labelled = (LabelledPath(row, names[code]) for row, code in zip(rows, codes, strict=True))
            source = Source(images.absolute(), tuple(labelled), "images and labels in Python")
            catalog = catalog_of(source, config, None, SILENT)
            broken = next((image for image in catalog.images if image.error), None)
            if broken is not None:
                raise ImageError(
                    ImageError.reason_of(broken.error), f"sample {rows.index(broken.path)}: {broken.error}"
                )
            run = train(catalog, config=config, out=self.out or Path(folder) / "run", progress=SILENT)
            self.order_ = np.array([names.index(label) for label in run.task.classes])
            self.network_ = run.onnx_file.read_bytes()
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Calibrated probabilities (n, classes), in the order of `classes_`. Raises ImageError for an image that cannot
        be read."""
        check_is_fitted(self)
        with tempfile.TemporaryDirectory(prefix="tellapart-") as folder:
            (file := Path(folder) / "model.onnx").write_bytes(self.network_)
            answers = list(Predictor(file).predict(X))
        out = np.empty((len(answers), len(self.classes_)))
        for number, answer in enumerate(answers):
            if answer.error:
                raise ImageError(ImageError.reason_of(answer.error), f"sample {number}, {answer.path}: {answer.error}")
            out[number, self.order_] = list(answer.probabilities.values())
        return out

    def predict(self, X: Any) -> NDArray[Any]:
        """The most probable label of each image."""
        chosen: NDArray[Any] = self.classes_[self.predict_proba(X).argmax(axis=1)]
        return chosen


def _written(X: Any, folder: Path, config: Config) -> list[str]:
    """The images as files of a new folder, which training reads: linked or copied if they are files. Their names."""
    folder.mkdir(parents=True)
    names = []
    for number, (name, held) in enumerate(images_of(X)):
        if isinstance(held, ImageError):
            raise ImageError(held.reason, f"sample {number}: {held.detail}")
        suffix = Path(name).suffix if isinstance(held, str | Path) else ".png"
        place = folder / f"{number:07}{suffix}"
        try:
            _put(held, place, config.data.max_bytes)
        except OSError as error:
            raise ImageError("unreadable", f"sample {number}, {name}: {error.strerror or error}") from None
        names.append(place.name)
    return names


def _put(held: Held, place: Path, most: int) -> None:
    if isinstance(held, str | Path):
        with suppress(OSError):
            os.link(Path(held).resolve(), place)
        if not place.exists():
            shutil.copyfile(held, place)
    elif isinstance(held, bytes):
        place.write_bytes(held)
    elif isinstance(held, Address):
        place.write_bytes(held.read(most))
    elif isinstance(held, np.ndarray):
        Image.fromarray(held[:, :, 0] if held.ndim == 3 and held.shape[2] == 1 else held).save(place)
    elif isinstance(held, Image.Image):
        (held if held.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else held.convert("RGB")).save(place)
    else:
        raise TellapartError(f"An image in {type(held).__name__} cannot be trained on. Give its path or bytes.")
