"""Shards of other tools -> Catalog: the same images, labels and splits whichever way they came; nothing is unpacked."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

import tellapart as ta
from tellapart.config import DataConfig
from tellapart.data import scan as scanning
from tellapart.data.catalog import ImageRecord
from tellapart.data.groups import METHODS
from tellapart.data.sources import open_row, parquet_images, read_source
from tellapart.errors import SourceError
from tellapart.inference.inputs import find_images
from tests.data.folders import finding, read
from tests.data.shards import CLASSES, FORMS, Photo, features_of, in_folders, photographs, tar_of


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    return photographs()


def contents(catalog: ta.Catalog) -> set[tuple[str, str, bool]]:
    """Which images are for validation is drawn."""
    return {(image.digest, image.label, image.split == "test") for image in catalog.images}


@pytest.mark.parametrize("form", [form for form in FORMS if form != "folders"])
def test_the_catalog_is_the_same_whichever_way_it_came(
    form: str, photos: list[Photo], own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("folders", form):
        (tmp_path / name).mkdir()
    data = FORMS[form](tmp_path / form, photos)
    held = sorted(data.rglob("*"))
    catalog = ta.read(data)
    assert contents(catalog) == contents(ta.read(in_folders(tmp_path / "folders", photos)))
    assert catalog.task.classes == CLASSES
    assert not catalog.broken
    assert sorted(data.rglob("*")) == held
    assert not (own_cache / "archives").exists()
    # A second reading of unchanged shards opens no image.
    monkeypatch.setattr(scanning, "open_row", None)
    assert contents(ta.read(data)) == contents(catalog)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "folders"])
def test_the_images_of_shards_are_given_to_a_prediction_one_by_one(
    form: str, photos: list[Photo], tmp_path: Path
) -> None:
    data = FORMS[form](tmp_path, photos)
    found = list(find_images([data]))
    assert {held.read() for _, held in found} == {photo.content for photo in photos}  # type: ignore[union-attr]
    shard = next(path for path in sorted(data.rglob("*")) if "train" in path.name)
    (name, held), *_ = find_images([shard])
    assert name.startswith(f"{shard}#")
    assert held.read() in {photo.content for photo in photos}  # type: ignore[union-attr]


def test_a_brace_pattern_names_the_shards_as_webdataset_does(photos: list[Photo], tmp_path: Path) -> None:
    FORMS["webdataset"](tmp_path, photos)
    source = read(f"{tmp_path}/train-{{000000..000001}}.tar")
    assert len(source.rows) == sum(photo.split == "train" for photo in photos)
    assert source.root == tmp_path
    with pytest.raises(SourceError, match=r"1 of its files do not exist: .*train-000002\.tar"):
        read(f"{tmp_path}/train-{{000000..000002}}.tar")
    assert len(list(find_images([f"{tmp_path}/{{train,test}}-000000.tar"]))) == 15


def test_rows_of_a_large_row_group_are_decoded_once_when_read_in_order(
    photos: list[Photo], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    rows = [photos[n % len(photos)] for n in range(50)]
    table = pyarrow.table({"image": [row.content for row in rows], "label": [row.label for row in rows]})
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=50)
    monkeypatch.setattr(parquet_images, "BLOCK", 10)
    monkeypatch.setattr(parquet_images, "HELD", 2)
    begun = []
    monkeypatch.setattr(
        parquet_images._Rows,
        "_read",
        lambda self, group, read=parquet_images._Rows._read: begun.append(group) or read(self, group),
    )
    source = read(tmp_path)
    assert [open_row(source.root, row.path) for row in source.rows] == [row.content for row in rows]
    assert begun == [0]
    assert open_row(source.root, "a.parquet#3") == rows[3].content  # a block that is held no more
    assert begun == [0, 0]


def _parquet(path: Path, columns: dict[str, object], names: list[str] | None = None) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    image = pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()})
    arrays = {
        name: pyarrow.array(cells, image if name.startswith("image") else None) for name, cells in columns.items()
    }
    table = pyarrow.table(arrays)
    parquet.write_table(table.replace_schema_metadata({"huggingface": features_of(names)} if names else None), path)
    return path


def _image(content: bytes | None, path: str | None = None) -> dict[str, object]:
    return {"bytes": content, "path": path}


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"image": [_image(None, "/etc/passwd")] * 2, "label": [0, 1]}, "holds paths but no bytes of images"),
        ({"image": [_image(b"x")] * 2, "label": [0, 2]}, "holds the class 2, but 2 classes are named"),
        ({"image": [_image(b"x")] * 2, "objects": [[1], [2]]}, "several labels or boxes a row"),
        ({"image": [_image(b"x")] * 2, "width": [0, 1]}, "no column with a usual name for the class"),
        ({"image_a": [_image(b"x")], "image_b": [_image(b"x")], "label": [0]}, "Choose one with --path-column"),
    ],
)
def test_parquet_that_cannot_be_read_says_what_it_is(columns: dict[str, object], words: str, tmp_path: Path) -> None:
    _parquet(tmp_path / "train.parquet", columns, ["cat", "dog"] if "label" in columns else None)
    with pytest.raises(SourceError, match=words):
        read(tmp_path)


def test_a_row_without_bytes_is_a_broken_image_and_a_class_of_minus_one_is_none(
    photos: list[Photo], tmp_path: Path
) -> None:
    chosen = [photos[0], photos[1], photos[8], photos[9], photos[10]]
    images = [_image(photo.content) for photo in chosen[:3]] + [_image(None), _image(chosen[4].content)]
    _parquet(tmp_path / "a.parquet", {"image": images, "label": [0, 0, 1, 1, -1]}, ["cat", "dog"])
    catalog = ta.read(tmp_path)
    (broken,) = catalog.broken
    assert (broken.path, broken.error) == ("a.parquet#3", "empty: row 3 of a.parquet holds no bytes")
    assert next(found for found in catalog.findings if found.kind == "unlabelled").paths == ("a.parquet#4",)


@pytest.mark.parametrize("form", ["parquet", "webdataset", "tfrecord"])
@pytest.mark.parametrize("kept", [0.4, 0.97])
def test_a_shard_that_is_cut_short_is_refused_by_name(
    form: str, kept: float, photos: list[Photo], tmp_path: Path
) -> None:
    data = FORMS[form](tmp_path, photos)
    shard = next(path for path in sorted(data.rglob("*")) if "train" in path.name)
    os.truncate(shard, int(shard.stat().st_size * kept))
    with pytest.raises(SourceError, match=f"{shard.name} is (not a parquet table|damaged)"):
        read(data)


def test_a_flipped_bit_of_a_tfrecord_is_found_by_its_checksum(photos: list[Photo], tmp_path: Path) -> None:
    shard = next(FORMS["tfrecord"](tmp_path, photos).glob("*train*"))
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    with pytest.raises(SourceError, match="the checksum of record 0 does not match"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"1.jpg": b"x", "1.cls": b"0", "2.jpg": b"x", "2.cls": b"7"}, "holds the class '7', but 2 classes are named"),
        ({"1.jpg": b"x", "1.json": b"{"}, "1.json is damaged"),
        ({"1.jpg": b"x", "1.json": b'{"label": [1, 2]}'}, "several labels or boxes"),
        ({"1.left.jpg": b"x", "1.right.jpg": b"x", "1.cls": b"0"}, "the sample '1' has several images"),
        (
            {f"{n}.{end}": f"a photograph of {n}".encode() for n in range(30) for end in ("jpg", "txt")},
            "captions, not classes",
        ),
    ],
)
def test_a_tar_shard_that_cannot_be_read_says_what_it_is(members: dict[str, bytes], words: str, tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    tar_of(tmp_path / "a.tar", members)
    with pytest.raises(SourceError, match=words):
        read(tmp_path / "a.tar")


def test_a_member_that_leads_outside_a_tar_shard_is_only_a_name(photos: list[Photo], tmp_path: Path) -> None:
    pairs = {f"../{n}": (photo.content, str(photo.number).encode()) for n, photo in enumerate(photos)}
    members = {
        f"{key}.{end}": part for key, pair in pairs.items() for end, part in zip(("jpg", "cls"), pair, strict=True)
    }
    tar_of(tmp_path / "a.tar", members)
    source = read_source(tmp_path / "a.tar", DataConfig())
    assert open_row(source.root, source.rows[0].path) == photos[0].content
    assert list(tmp_path.parent.glob("*.jpg")) == []


def test_a_mask_beside_an_image_is_no_image_and_shards_of_no_split_are_told(
    photos: list[Photo], tmp_path: Path
) -> None:
    for name, chosen in (("train-0", photos[:1] + photos[8:9]), ("extra-0", photos[2:3])):
        members = {}
        for n, photo in enumerate(chosen):
            members |= {f"{n}.jpg": photo.content, f"{n}.seg.png": b"mask", f"{n}.cls": photo.label.encode()}
        tar_of(tmp_path / f"{name}.tar", members)
    source = read(tmp_path)
    assert [(row.path, row.label) for row in source.rows] == [
        ("train-0.tar#0.jpg", "Abyssinian"), ("train-0.tar#1.jpg", "Bengal")
    ]  # fmt: skip
    assert finding(source, "shard-not-used").paths == ("extra-0.tar",)


def test_a_compressed_shard_says_how_to_have_it_read(photos: list[Photo], tmp_path: Path) -> None:
    members = {}
    for n, photo in enumerate(photos):
        members |= {f"{n}.jpg": photo.content, f"{n}.cls": str(photo.number).encode()}
    content = tar_of(tmp_path / "a.tar", members).read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(gzip.compress(content, 1))
    with pytest.raises(SourceError, match="read from tar shards that are not compressed: gunzip these"):
        read(tmp_path / "a.tar.gz")


def test_the_name_of_a_shard_is_no_session_but_that_of_a_member_is() -> None:
    paths = [f"train-{n % 3:05d}-of-00003.parquet#{n}" for n in range(9)]
    paths += [f"train-{n % 3:06d}.tar#dog{n % 2}-{n:02d}.jpg" for n in range(4)]
    images = [ImageRecord(path, label="cat" if n < 9 else "dog") for n, path in enumerate(paths)]
    assert METHODS["name"].find(images) == [""] * 9 + ["dog0", "dog1", "dog0", "dog1"]
