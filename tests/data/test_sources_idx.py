"""idx files (MNIST, Fashion-MNIST) -> Source, and rows of them -> pixels."""

from __future__ import annotations

import gzip
import os
import struct
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tellapart.config import DataConfig
from tellapart.data.sources import Source, open_row, read_source
from tellapart.data.sources.idx import FASHION, _loaded
from tellapart.errors import SourceError

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


def write(path: Path, array: NDArray[np.uint8]) -> None:
    data = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def make(
    folder: Path, suffix: str = ".gz", parts: tuple[str, ...] = ("train", "t10k"), n: int = 12
) -> dict[str, NDArray[np.uint8]]:
    folder.mkdir(parents=True, exist_ok=True)
    images = {}
    for seed, part in enumerate(parts):
        images[part] = np.random.default_rng(seed).integers(0, 256, (n, 5, 4), dtype=np.uint8)
        write(folder / f"{part}-images-idx3-ubyte{suffix}", images[part])
        write(folder / f"{part}-labels-idx1-ubyte{suffix}", (np.arange(n) % 10).astype(np.uint8))
    return images


def read(folder: Path) -> Source:
    return read_source(folder, DataConfig())


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_train_and_t10k_are_the_splits_and_digits_the_labels(suffix: str, tmp_path: Path) -> None:
    images = make(tmp_path, suffix)
    source = read(tmp_path)
    assert [row.split for row in source.rows] == ["test"] * 12 + ["train"] * 12
    assert [row.label for row in source.rows[12:]] == [str(n % 10) for n in range(12)]
    assert source.rows[-1].path == f"train-images-idx3-ubyte{suffix}#11"
    for row, expected in zip(source.rows, [*images["t10k"], *images["train"]], strict=True):
        pixels = open_row(source.root, row.path)
        assert isinstance(pixels, np.ndarray)
        assert pixels.dtype == np.uint8
        assert np.array_equal(pixels, expected)


def test_training_alone_leaves_the_split_open_and_test_alone_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a", parts=("train",))
    assert {row.split for row in read(tmp_path / "a").rows} == {""}
    make(tmp_path / "b", parts=("t10k",))
    with pytest.raises(SourceError, match="test images only"):
        read(tmp_path / "b")


def test_names_come_from_labels_txt_or_from_fashion_in_the_folders_name(tmp_path: Path) -> None:
    make(tmp_path / "Fashion-MNIST")
    assert [row.label for row in read(tmp_path / "Fashion-MNIST").rows[:10]] == list(FASHION)
    make(tmp_path / "mnist")
    (tmp_path / "mnist/labels.txt").write_text("\n".join("abcdefghij") + "\n")
    assert [row.label for row in read(tmp_path / "mnist").rows[:10]] == list("abcdefghij")
    (tmp_path / "mnist/labels.txt").write_text("a\nb\n")
    with pytest.raises(SourceError, match="holds label 9, but 2 classes are named"):
        read(tmp_path / "mnist")


def test_the_plain_file_is_taken_where_both_lie(tmp_path: Path) -> None:
    make(tmp_path, ".gz")
    make(tmp_path, "")
    assert {row.path.partition("#")[0] for row in read(tmp_path).rows} == {
        "t10k-images-idx3-ubyte",
        "train-images-idx3-ubyte",
    }


def damage(folder: Path, what: str) -> None:
    images = folder / "train-images-idx3-ubyte.gz"
    plain = gzip.decompress(images.read_bytes())
    pieces = {
        "short": gzip.compress(plain[:-1]),
        "long": gzip.compress(plain + b"x"),
        "header only": gzip.compress(plain[:9]),
        "cut": images.read_bytes()[:-30],
        "no gzip": b"hello, this is no idx file",
        "empty": b"",
        "floats": gzip.compress(b"\0\0\x0d\x03" + plain[4:]),
        "flat": gzip.compress(b"\0\0\x08\x01" + plain[4:]),
        "immense": gzip.compress(plain[:4] + b"\xff" * 12 + plain[16:]),
        "fewer": gzip.compress(plain[:4] + struct.pack(">I", 11) + plain[8:-20]),
    }
    images.write_bytes(pieces[what])


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("short", "too short: its header promises 240 bytes, it has 239"),
        ("long", "too long"),
        ("header only", "ends within its header"),
        ("cut", "damaged"),
        ("no gzip", "damaged"),
        ("empty", "does not begin"),
        ("floats", "does not begin"),
        ("flat", "does not begin"),
        ("immense", "promises"),
        ("fewer", "11 images and 12 labels"),
    ],
)
def test_damaged_files_say_so(what: str, words: str, tmp_path: Path) -> None:
    make(tmp_path)
    damage(tmp_path, what)
    with pytest.raises(SourceError, match=words):
        read(tmp_path)


def test_parts_that_do_not_fit_are_explained(tmp_path: Path) -> None:
    make(tmp_path / "a")
    (tmp_path / "a/t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(SourceError, match="no counterpart"):
        read(tmp_path / "a")
    make(tmp_path / "b", parts=("other", "train"))
    with pytest.raises(SourceError, match=r"other-\.\.\. is not a known part"):
        read(tmp_path / "b")
    make(tmp_path / "c/one")
    make(tmp_path / "c/two")
    with pytest.raises(SourceError, match="idx files in one, two"):
        read(tmp_path / "c")


def test_a_position_outside_and_a_missing_file_are_explained(tmp_path: Path) -> None:
    make(tmp_path)
    with pytest.raises(SourceError, match="holds 12 images; there is no image 12"):
        open_row(tmp_path, "train-images-idx3-ubyte.gz#12")
    missing = "test-images-idx3-ubyte.gz#1"
    assert open_row(tmp_path, missing) == tmp_path / missing  # reading it says that there is no such file


def test_a_file_is_loaded_once_by_many_threads(tmp_path: Path) -> None:
    make(tmp_path, parts=("train",), n=100_000)
    before = _loaded.cache_info().misses
    start = threading.Barrier(8)
    seen: list[object] = []

    def open_one() -> None:
        start.wait()
        seen.append(open_row(tmp_path, "train-images-idx3-ubyte.gz#3"))

    threads = [threading.Thread(target=open_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert _loaded.cache_info().misses == before + 1


def test_a_file_that_changes_is_loaded_again(tmp_path: Path) -> None:
    make(tmp_path, "")
    open_row(tmp_path, "train-images-idx3-ubyte#3")
    changed = np.full((12, 5, 4), 7, np.uint8)
    write(tmp_path / "train-images-idx3-ubyte", changed)
    os.utime(tmp_path / "train-images-idx3-ubyte", ns=(1, 1))
    assert np.array_equal(open_row(tmp_path, "train-images-idx3-ubyte#3"), changed[3])  # type: ignore[arg-type]


def test_a_row_cannot_be_written_to(tmp_path: Path) -> None:
    make(tmp_path)
    pixels = open_row(tmp_path, "train-images-idx3-ubyte.gz#0")
    assert isinstance(pixels, np.ndarray)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0] = 1


@pytest.mark.parametrize("name", ["a#1.jpg", "cats/x.jpg#3", "a#1", "train-labels-idx1-ubyte#3"])
def test_other_names_with_a_hash_are_files(name: str, tmp_path: Path) -> None:
    assert open_row(tmp_path, name) == tmp_path / name


@pytest.mark.skipif(not FASHION_MNIST.is_dir(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist() -> None:
    source = read(FASHION_MNIST)
    assert len(source.rows) == 70_000
    assert {row.label for row in source.rows} == set(FASHION)
    assert sum(row.split == "test" and row.label == "Bag" for row in source.rows) == 1000
    pixels = open_row(source.root, source.rows[0].path)
    assert isinstance(pixels, np.ndarray)
    assert pixels.shape == (28, 28)
