"""tfds:NAME -> a folder of TFRecord files, prepared by TensorFlow Datasets itself, and read like any other."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta
from tellapart.data.cache import content_digest
from tellapart.errors import FetchError
from tests.data.shards import CLASSES, photographs


@pytest.mark.slow
def test_a_data_set_of_tensorflow_datasets_is_prepared_by_its_name_and_read_with_its_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tfds = pytest.importorskip("tensorflow_datasets")
    pytest.importorskip("google_crc32c")
    photos = photographs()

    class PetsOfThisTest(tfds.core.GeneratorBasedBuilder):  # type: ignore[misc, name-defined]
        VERSION = tfds.core.Version("1.0.0")

        def _info(self) -> Any:
            label = tfds.features.ClassLabel(names=list(CLASSES))
            return self.dataset_info_from_configs(
                features=tfds.features.FeaturesDict(
                    {"image": tfds.features.Image(encoding_format="jpeg"), "label": label}
                )
            )

        def _split_generators(self, _: Any) -> Any:
            return {split: self._generate_examples(split) for split in ("train", "test")}

        def _generate_examples(self, split: str) -> Any:
            for number, photo in enumerate(photos):
                if photo.split == split:
                    yield number, {"image": io.BytesIO(photo.content), "label": photo.label}

    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    monkeypatch.setattr(tfds.core.constants, "DATA_DIR", str(tmp_path), raising=False)
    place = ta.fetch("tfds:pets_of_this_test")
    catalog = ta.read(place)
    assert catalog.task.classes == CLASSES
    assert {image.digest for image in catalog.images} == {content_digest(photo.content) for photo in photos}
    assert sum(image.split == "test" for image in catalog.images) == sum(photo.split == "test" for photo in photos)
    with pytest.raises(FetchError, match="tfds:no_such_set could not be prepared"):
        ta.fetch("tfds:no_such_set")
