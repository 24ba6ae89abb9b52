"""A cache that is damaged, foreign, full or read-only: noticed, mended or told; no crash, no other image's pixels."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest

from tellapart.data import cache as cache_module
from tellapart.data.cache import PixelCache
from tellapart.task import ImageSpec
from tests.command import PATIENCE
from tests.data.cached import BYTES, SPEC, assert_holds, data_file, filled, image, run, taken


def test_a_damaged_record_is_noticed_and_mended_in_its_place(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    with data_file(tmp_path).open("r+b") as file:
        file.seek(2 * BYTES + 5)
        file.write(b"\0\1\2\3\4")
    with PixelCache(SPEC, root=tmp_path) as cache:
        store = cache.store([str(number) for number in range(4)])
        out = np.zeros((4, *SPEC.shape), np.uint8)
        assert store.take(np.arange(4), out).tolist() == [2]
        assert cache.missing(["1", "2"]) == {"2"}
        cache.put("2", image(2))
        cache.flush()
        assert store.take(np.arange(4), out).tolist() == []
        assert np.array_equal(out[2], image(2))
    assert data_file(tmp_path).stat().st_size == 4 * BYTES
    assert_holds(tmp_path, [0, 1, 2, 3])


@pytest.mark.parametrize("spec", [SPEC, ImageSpec(5, 7), ImageSpec(1, 2, channels=1)])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 0, 2, 0, 1]])
@pytest.mark.parametrize("damage", ["zeros", "ones", "top bit of the first word", "last byte", "another image"])
def test_every_kind_of_damage_is_noticed(tmp_path: Path, spec: ImageSpec, order: list[int], damage: str) -> None:
    filled(tmp_path, range(4), spec)
    data = bytearray(data_file(tmp_path).read_bytes())
    size = len(data) // 4
    if damage in ("zeros", "ones"):
        data[2 * size : 3 * size] = bytes([0 if damage == "zeros" else 255]) * size
    elif damage == "another image":
        data[2 * size : 3 * size] = data[:size]
    else:
        data[3 * size - 1 if damage == "last byte" else min(2 * size + 7, 3 * size - 1)] ^= 0x80
    data_file(tmp_path).write_bytes(data)
    with PixelCache(spec, root=tmp_path) as cache:
        assert taken(cache, order)[1] == [order.index(2)]
        assert cache.missing("0123") == {"2"}


@pytest.fixture
def from_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record is read each time, as of a large set."""
    monkeypatch.setattr(cache_module, "_HELD_BYTES", 0)


@pytest.mark.usefixtures("from_disk")
def test_no_flipped_bit_passes(tmp_path: Path) -> None:
    filled(tmp_path, range(60))
    whole = data_file(tmp_path).read_bytes()
    places = np.random.default_rng(0).choice(8 * len(whole), 600, replace=False)
    with PixelCache(SPEC, root=tmp_path) as cache:
        store = cache.store([str(number) for number in range(60)])
        for place in places.tolist():
            flipped = bytearray(whole)
            flipped[place // 8] ^= 1 << place % 8
            data_file(tmp_path).write_bytes(flipped)
            (row,) = store.take(np.arange(60), np.empty((60, *SPEC.shape), np.uint8))
            assert row == place // 8 // BYTES
            data_file(tmp_path).write_bytes(whole)
            cache._damaged.clear()


@pytest.mark.parametrize("length", [8, 16, 2 * BYTES])
def test_exchanged_words_and_exchanged_records_are_noticed(tmp_path: Path, length: int) -> None:
    filled(tmp_path, range(4))
    data = bytearray(data_file(tmp_path).read_bytes())
    half = length // 2
    data[:half], data[half:length] = data[half:length], data[:half]
    data_file(tmp_path).write_bytes(data)
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert taken(cache, [0, 1, 2, 3])[1] == ([0, 1] if length > BYTES else [0])


def test_a_record_that_moved_with_its_sum_is_noticed(tmp_path: Path) -> None:
    """A damaged index, not a damaged record: the digest is part of the sum."""
    filled(tmp_path, range(3))
    with sqlite3.connect(next(tmp_path.glob("*/index.sqlite"))) as index:
        index.execute("DELETE FROM images WHERE digest = '1'")
        index.execute("UPDATE images SET digest = '1' WHERE digest = '0'")
    index.close()
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert taken(cache, [0, 1, 2])[1] == [0, 1]


@pytest.mark.usefixtures("from_disk")
def test_a_file_that_was_cut_is_never_filled_from_what_the_memory_held(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    with PixelCache(SPEC, root=tmp_path) as cache:
        store = cache.store("0123")
        out = np.empty((4, *SPEC.shape), np.uint8)
        assert not len(store.take(np.arange(4), out))
        os.truncate(data_file(tmp_path), 2 * BYTES)
        assert store.take(np.arange(4), out).tolist() == [2, 3]


@pytest.mark.usefixtures("from_disk")
def test_a_record_that_changes_after_it_was_read_once_is_noticed(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    with PixelCache(SPEC, root=tmp_path) as cache:
        store = cache.store("0123")
        assert not len(store.take(np.arange(4), np.empty((4, *SPEC.shape), np.uint8)))
        with data_file(tmp_path).open("r+b") as file:
            file.write(b"changed")
        assert store.take(np.arange(4), np.empty((4, *SPEC.shape), np.uint8)).tolist() == [0]


def test_a_few_small_records_are_held_when_they_are_read_again(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    with PixelCache(SPEC, root=tmp_path) as cache:
        store = cache.store("0123x")
        out = np.empty((3, *SPEC.shape), np.uint8)
        assert store.take(np.array([0, 4, 2]), out).tolist() == [1]  # once
        for _ in range(2):
            assert store.take(np.array([3, 4, 1]), out).tolist() == [1]
        data_file(tmp_path).write_bytes(b"")
        out[:] = 0
        assert not len(store.take(np.array([1, 3, 1]), out))
        assert np.array_equal(out, np.stack([image(1), image(3), image(1)]))
        assert store.take(np.array([1, 3, 2]), out).tolist() == [0, 1, 2]


def test_a_data_file_that_another_process_cuts_lacks_its_end_and_kills_nobody(tmp_path: Path) -> None:
    filled(tmp_path, range(100))
    child = run(
        """
        from tellapart.data import cache as module
        module._HELD_BYTES = 0
        with PixelCache(SPEC, root=root) as cache:
            store = cache.store([str(number) for number in range(100)])
            out = np.empty((100, *SPEC.shape), np.uint8)
            assert store.take(np.arange(100), out).tolist() == []
            print("open", flush=True)
            sys.stdin.readline()
            print(store.take(np.arange(100), out).tolist() == list(range(1, 100)))
            for number in range(100):
                cache.put(str(number), image(number))
            cache.flush()
            print(store.take(np.arange(100), out).tolist())
        """,
        tmp_path,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "open\n"
    os.truncate(data_file(tmp_path), BYTES + 7)
    said, _ = child.communicate("go\n", timeout=PATIENCE)
    assert (child.returncode, said) == (0, "True\n[]\n")
    assert_holds(tmp_path, list(range(100)))


def test_the_index_is_kept_as_sqlite_advises(tmp_path: Path) -> None:
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert cache._shelf is not None
        index = cache._shelf._index
        assert index.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert index.execute("PRAGMA synchronous").fetchone() == (1,)  # NORMAL


def test_a_cache_of_an_earlier_layout_is_begun_anew(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    with sqlite3.connect(next(tmp_path.glob("*/index.sqlite"))) as index:
        index.execute(f"PRAGMA application_id = {0x7E11A9A7}")
    index.close()
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert cache.missing("0123") == set("0123")
    assert data_file(tmp_path).stat().st_size == 0


@pytest.mark.parametrize("length", [0, BYTES, 2 * BYTES + 7])
def test_a_truncated_data_file_lacks_its_end_and_takes_it_again(tmp_path: Path, length: int) -> None:
    filled(tmp_path, range(4))
    os.truncate(data_file(tmp_path), length)
    whole = length // BYTES
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert taken(cache, [0, 1, 2, 3])[1] == list(range(whole, 4))
        assert cache.missing("0123") == {str(number) for number in range(whole, 4)}
        for number in (9, 3, 2, 1, 0):
            cache.put(str(number), image(number))
    assert_holds(tmp_path, [0, 1, 2, 3, 9])
    assert data_file(tmp_path).stat().st_size == 5 * BYTES


def test_a_removed_data_file_is_begun_anew(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    data_file(tmp_path).unlink()
    filled(tmp_path, range(2, 6))
    assert_holds(tmp_path, [2, 3, 4, 5])


def rubbish(path: Path) -> None:
    path.write_bytes(b"this is no index " * 400)


def foreign(path: Path) -> None:
    path.unlink()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE images (x)")
    other.close()


def torn(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)


def nothing(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [rubbish, foreign, torn, nothing, Path.unlink])
def test_a_damaged_or_foreign_index_is_begun_anew(tmp_path: Path, damage: object) -> None:
    filled(tmp_path, range(50))
    damage(next(tmp_path.glob("*/index.sqlite")))  # type: ignore[operator]
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert not cache.problem
        assert cache.missing(["1"]) == {"1"}
    filled(tmp_path, range(40, 60))
    assert_holds(tmp_path, list(range(40, 60)))
    assert data_file(tmp_path).stat().st_size == 20 * BYTES


def test_a_root_that_cannot_be_written_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_bytes(b"")
    with PixelCache(SPEC, root=blocked / "pixels") as cache:
        assert "TELLAPART_CACHE" in cache.problem
        assert cache.missing(["1"]) == {"1"}
        assert cache.put("1", image(1)) is False
        assert taken(cache, [1, 2])[1] == [0, 1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with PixelCache(SPEC, root=tmp_path / "pixels") as cache:
        assert cache.problem
        assert cache.put("1", image(1)) is False


@pytest.mark.skipif(sys.platform == "win32", reason="bounds the size of files by setrlimit")
def test_a_full_disk_is_a_problem_and_keeps_what_was_written(tmp_path: Path) -> None:
    filled(tmp_path, range(10))
    child = run(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with PixelCache(SPEC, root=root) as cache:
            for number in range(5, 300):
                cache.put(str(number), image(number))
            cache.flush()
            assert "cannot be kept" in cache.problem, cache.problem
            assert cache.put("x", image(1)) is False
            assert cache.missing(["3"]) == {"3"}
        print("well")
        """,
        tmp_path,
    )
    assert child.communicate(timeout=PATIENCE)[0] == "well\n"
    assert_holds(tmp_path, list(range(10)))
