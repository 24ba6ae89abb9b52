"""The same labelled photographs as the field keeps them, each written by the library of its format."""

from __future__ import annotations

import io
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import tellapart as ta

PETS = Path(ta.__file__).parent / "data" / "builtin" / "pets"
SHARED = Path(ta.__file__).parents[3] / "shared" / "data" / "pets-three-breeds"
CLASSES = ("Abyssinian", "Bengal", "american_bulldog")


@dataclass(frozen=True)
class Photo:
    content: bytes
    label: str
    split: str

    @property
    def number(self) -> int:
        return CLASSES.index(self.label)


def photographs() -> list[Photo]:
    """Six for training and two for testing of each breed; of the shared photographs, where they are."""
    found = []
    for breed in CLASSES:
        here = sorted(SHARED.glob(f"{breed}_*.jpg")) or sorted((PETS / breed).iterdir())
        found += [Photo(path.read_bytes(), breed, "test" if n > 5 else "train") for n, path in enumerate(here[:8])]
    return found


def in_folders(root: Path, photos: list[Photo]) -> Path:
    for number, photo in enumerate(photos):
        path = root / photo.split / photo.label / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.content)
    return root


def as_dataset(photos: list[Photo]) -> Any:
    """A DatasetDict of Hugging Face, with Image and ClassLabel."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))})
    parts = {}
    for split in ("train", "test"):
        of = [photo for photo in photos if photo.split == split]
        rows = {"image": [{"bytes": photo.content, "path": None} for photo in of], "label": [p.number for p in of]}
        parts[split] = datasets.Dataset.from_dict(rows, features=features)
    return datasets.DatasetDict(parts)


def in_parquet(root: Path, photos: list[Photo]) -> Path:
    """As the hub has them: two shards for training, one for testing."""
    for split, part in as_dataset(photos).items():
        shards = 2 if split == "train" else 1
        for number in range(shards):
            name = f"{split}-{number:05d}-of-{shards:05d}.parquet"
            part.shard(shards, number, contiguous=True).to_parquet(root / "data" / name, batch_size=5)
    return root


def in_webdataset(root: Path, photos: list[Photo]) -> Path:
    """Two shards for training with .cls, one for testing with .json."""
    webdataset = pytest.importorskip("webdataset")
    train = [photo for photo in photos if photo.split == "train"]
    parts = {"train-000000": train[::2], "train-000001": train[1::2]}
    parts["test-000000"] = [photo for photo in photos if photo.split == "test"]
    for name, part in parts.items():
        with webdataset.TarWriter(str(root / f"{name}.tar")) as shard:
            for number, photo in enumerate(part):
                label = {"json": {"label": photo.number}} if name.startswith("test") else {"cls": photo.number}
                shard.write({"__key__": f"{number:06d}", "jpg": photo.content, **label})
    (root / "classnames.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def in_tfrecord(root: Path, photos: list[Photo], *, slim: bool = False) -> Path:
    """As TensorFlow Datasets names and fills them; slim: as TF-Slim does."""
    tensorflow = pytest.importorskip("tensorflow")
    pytest.importorskip("google_crc32c")
    train = tensorflow.train

    def bytes_of(content: bytes) -> Any:
        return train.Feature(bytes_list=train.BytesList(value=[content]))

    def number_of(number: int) -> Any:
        return train.Feature(int64_list=train.Int64List(value=[number]))

    for split in ("train", "test"):
        name = f"pets_{split}_00000-of-00001.tfrecord" if slim else f"pets-{split}.tfrecord-00000-of-00001"
        with tensorflow.io.TFRecordWriter(str(root / name)) as file:
            for photo in (photo for photo in photos if photo.split == split):
                features = {"image": bytes_of(photo.content), "label": number_of(photo.number)}
                if slim:
                    features = {
                        "image/encoded": bytes_of(photo.content), "image/format": bytes_of(b"jpeg"),
                        "image/class/label": number_of(photo.number + 1), "image/height": number_of(320),
                        "image/class/text": bytes_of(photo.label.encode()),
                    }  # fmt: skip
                file.write(train.Example(features=train.Features(feature=features)).SerializeToString())
    (root / "label.labels.txt").write_text("\n".join(CLASSES) + "\n")
    return root


def in_slim(root: Path, photos: list[Photo]) -> Path:
    return in_tfrecord(root, photos, slim=True)


def tar_of(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as shard:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            shard.addfile(info, io.BytesIO(content))
    return path


def features_of(names: list[str]) -> bytes:
    """The schema's metadata of a ClassLabel, as `datasets` writes it."""
    return json.dumps({"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}).encode()


FORMS = {
    "folders": in_folders,
    "parquet": in_parquet,
    "webdataset": in_webdataset,
    "tfrecord": in_tfrecord,
    "tf-slim": in_slim,
}
