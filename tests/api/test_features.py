"""Embeddings: of labelled images and of any, their neighbours, and the files of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tellapart as ta
from tellapart.errors import ConfigError, ImageError, SourceError
from tests.command import call

BUILTIN = Path(ta.__file__).parent / "data" / "builtin" / "pets"

pytestmark = pytest.mark.usefixtures("shared_cache")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine real ones in three class folders, a copy of one at half its size, and a broken one."""
    folder = tmp_path_factory.mktemp("photographs")
    for label in ("Abyssinian", "Bengal", "american_bulldog"):
        (folder / label).mkdir()
        for path in sorted(BUILTIN.rglob(f"{label}_*.jpg"))[:3]:
            (folder / label / path.name).write_bytes(path.read_bytes())
    with Image.open(min((folder / "Bengal").iterdir())) as image:
        image.resize((image.width * 3 // 4, image.height * 3 // 4)).save(folder / "Bengal" / "copy.png")
    (folder / "Bengal" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    return folder


@pytest.fixture(scope="module")
def found(photographs: Path, shared_cache: Path) -> ta.Features:
    assert shared_cache
    return ta.features(photographs)


def test_every_image_has_its_label_split_and_numbers_and_a_broken_one_is_named(found: ta.Features) -> None:
    assert len(found) == 10
    assert found.values.shape == (10, 1280)
    assert found.values.dtype == np.float32
    assert [label for label in found.labels if label == "Bengal"] == ["Bengal"] * 4
    assert set(found.splits) <= {"train", "validation", "test"}
    assert [path for path, _ in found.errors] == ["Bengal/broken.jpg"]
    assert "truncated" in found.errors[0][1]


def test_the_nearest_image_of_a_smaller_copy_is_its_original(found: ta.Features, photographs: Path) -> None:
    copy = found.paths.index("Bengal/copy.png")
    original = min(path.name for path in (photographs / "Bengal").glob("Bengal*"))
    near = found.neighbours(2)
    assert near.places.shape == (10, 2)
    assert found.paths[near.places[copy, 0]] == f"Bengal/{original}"
    assert near.similarity[copy, 0] > 0.9
    (similar,) = found.similar([photographs / "Bengal" / "copy.png"], 2)
    assert similar[0] == ("Bengal/copy.png", pytest.approx(1, abs=1e-4))
    assert similar[1][0] == found.paths[near.places[copy, 0]]
    with pytest.raises(ConfigError, match="1 to 20"):
        found.neighbours(0)
    with pytest.raises(ImageError, match=r"broken\.jpg"):
        found.similar([photographs / "Bengal" / "broken.jpg"])


def test_the_same_pixels_have_the_same_numbers_however_they_are_given(found: ta.Features, photographs: Path) -> None:
    path = photographs / found.paths[0]
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    ways = ta.features([path, path.read_bytes(), pixels], labelled=False).values
    assert np.array_equal(ways[0], ways[1])
    assert np.array_equal(ways[0], found.values[0])
    # A JPEG is decoded at a fraction of its size where that is enough.
    assert ways[2] @ ways[0] / np.linalg.norm(ways[2]) / np.linalg.norm(ways[0]) > 0.99


def test_the_file_holds_everything_and_other_tools_read_it(photographs: Path, tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    done = call("features", photographs, "--out", tmp_path / "a.npz", "--neighbours", "3")
    assert done.returncode == 0, done.stderr
    assert "10 images, 1,280 numbers each" in done.stdout
    assert "left out  Bengal/broken.jpg: truncated" in done.stdout
    with np.load(tmp_path / "a.npz") as file:
        assert {name: file[name].shape for name in file} == {
            "path": (10,), "label": (10,), "split": (10,), "features": (10, 1280),
            "neighbours": (10, 3), "similarity": (10, 3),
        }  # fmt: skip
        values = file["features"]
    done = call("features", photographs / "Bengal", "--no-labels", "--out", tmp_path / "a.parquet")
    assert done.returncode == 0, done.stderr
    rows = pandas.read_parquet(tmp_path / "a.parquet")
    assert rows["label"].tolist() == [""] * 4
    assert np.stack(rows["features"]).shape == (4, 1280)
    assert np.isin(np.stack(rows["features"])[:, 0], values[:, 0]).all()


def test_what_cannot_be_done_is_told(tmp_path: Path) -> None:
    done = call("features", "builtin:pets", "--out", tmp_path / "a.csv")
    assert done.returncode == 2
    assert ".npz or .parquet" in done.stderr
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(SourceError, match="None of the 1 images can be read"):
        ta.features(tmp_path, labelled=False)
    with pytest.raises(ConfigError, match="labelled=False"):
        ta.features(tmp_path, labelled=False, label_column="a")
