"""Decoded pictures on the disk: found again, checked, shared, bounded; no crash, no other picture's pixels."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tellapart.data import pixels
from tellapart.data.cache import ArrayCache, PixelCache, content_digest
from tellapart.task import ImageSpec

SPEC = ImageSpec(8, 6)
BYTES = 8 * 6 * 3


def picture(number: int, spec: ImageSpec = SPEC) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, spec.shape, np.uint8)


def filled(root: Path, numbers: range, spec: ImageSpec = SPEC) -> None:
    with PixelCache(spec, root=root) as cache:
        for number in numbers:
            assert cache.put(str(number), picture(number, spec))


def taken(cache: PixelCache, numbers: list[int]) -> tuple[np.ndarray, list[int]]:
    out = np.zeros((len(numbers), *cache.spec.shape), np.uint8)
    absent = cache.store([str(number) for number in numbers]).take(np.arange(len(numbers)), out)
    return out, absent.tolist()


def data_file(root: Path) -> Path:
    (path,) = root.glob("*/data-*.bin")
    return path


def assert_holds(root: Path, numbers: list[int]) -> None:
    with PixelCache(SPEC, root=root) as cache:
        out, absent = taken(cache, numbers)
        assert not cache.problem
    assert absent == []
    assert np.array_equal(out, np.stack([picture(number) for number in numbers]))


def test_what_was_put_is_found_again_in_any_order_and_process(tmp_path: Path) -> None:
    filled(tmp_path, range(1200))
    assert_holds(tmp_path, [1199, 0, 7, 7, 640])
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert cache.missing(str(number) for number in range(1190, 1210)) == {str(n) for n in range(1200, 1210)}


def test_the_default_root_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path))
    with PixelCache(SPEC) as cache:
        cache.put("a", picture(1))
    assert data_file(tmp_path / "pixels").stat().st_size == BYTES


def test_what_waits_is_not_missing_and_is_written_by_flush(tmp_path: Path) -> None:
    with PixelCache(SPEC, root=tmp_path) as cache:
        cache.put("1", picture(1))
        assert cache.missing(["1", "2"]) == {"2"}
        assert data_file(tmp_path).stat().st_size == 0
        cache.flush()
        assert data_file(tmp_path).stat().st_size == BYTES
        store = cache.store(["1", "2"])
        out = np.zeros((2, *SPEC.shape), np.uint8)
        assert store.take(np.array([1, 0]), out).tolist() == [0]
        assert np.array_equal(out[1], picture(1))
        cache.put("2", picture(2))
        cache.flush()
        assert store.take(np.array([1, 0]), out).tolist() == []
        assert np.array_equal(out[0], picture(2))


def test_many_waiting_pictures_are_written_without_asking(tmp_path: Path) -> None:
    spec = ImageSpec(1024, 1024)
    with PixelCache(spec, root=tmp_path) as cache:
        for number in range(6):
            cache.put(str(number), np.full(spec.shape, number, np.uint8))
        assert data_file(tmp_path).stat().st_size == 6 * 3 * 2**20


def test_a_picture_put_twice_takes_one_place(tmp_path: Path) -> None:
    filled(tmp_path, range(3))
    filled(tmp_path, range(4))
    assert data_file(tmp_path).stat().st_size == 4 * BYTES


def test_specs_do_not_mix(tmp_path: Path) -> None:
    filled(tmp_path, range(3))
    for other in (ImageSpec(6, 8), ImageSpec(8, 6, fit="pad"), ImageSpec(8, 6, interpolation="nearest")):
        with PixelCache(other, root=tmp_path) as cache:
            assert cache.missing(["0"]) == {"0"}


def test_another_road_to_pixels_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path, range(3))
    monkeypatch.setattr(pixels, "ROAD", pixels.ROAD + 1)
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert cache.missing(["0", "1"]) == {"0", "1"}


def test_pixels_of_another_shape_are_refused(tmp_path: Path) -> None:
    with PixelCache(SPEC, root=tmp_path) as cache, pytest.raises(ValueError, match="expected uint8"):
        cache.put("a", np.zeros((6, 8, 3), np.uint8))


def test_a_damaged_record_is_noticed_and_mended_in_its_place(tmp_path: Path) -> None:
    filled(tmp_path, range(4))
    with data_file(tmp_path).open("r+b") as file:
        file.seek(2 * BYTES + 5)
        file.write(b"\0\1\2\3\4")
    with PixelCache(SPEC, root=tmp_path) as cache:
        store = cache.store([str(number) for number in range(4)])
        out = np.zeros((4, *SPEC.shape), np.uint8)
        assert store.take(np.arange(4), out).tolist() == [2]
        assert not out[2].any()
        assert cache.missing(["1", "2"]) == {"2"}
        cache.put("2", picture(2))
        cache.flush()
        assert store.take(np.arange(4), out).tolist() == []
        assert np.array_equal(out[2], picture(2))
    assert data_file(tmp_path).stat().st_size == 4 * BYTES
    assert_holds(tmp_path, [0, 1, 2, 3])


@pytest.mark.parametrize("spec", [SPEC, ImageSpec(5, 7), ImageSpec(1, 2, channels=1)])
@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 0, 2, 0, 1]])
@pytest.mark.parametrize("damage", ["zeros", "ones", "top bit of the first word", "last byte", "another picture"])
def test_every_kind_of_damage_is_noticed(tmp_path: Path, spec: ImageSpec, order: list[int], damage: str) -> None:
    filled(tmp_path, range(4), spec)
    data = bytearray(data_file(tmp_path).read_bytes())
    size = len(data) // 4
    if damage in ("zeros", "ones"):
        data[2 * size : 3 * size] = bytes([0 if damage == "zeros" else 255]) * size
    elif damage == "another picture":
        data[2 * size : 3 * size] = data[:size]
    else:
        data[3 * size - 1 if damage == "last byte" else min(2 * size + 7, 3 * size - 1)] ^= 0x80
    data_file(tmp_path).write_bytes(data)
    with PixelCache(spec, root=tmp_path) as cache:
        assert taken(cache, order)[1] == [order.index(2)]
        assert cache.missing("0123") == {"2"}


@pytest.mark.parametrize("length", [0, BYTES, 2 * BYTES + 7])
def test_a_truncated_data_file_lacks_its_end_and_takes_it_again(tmp_path: Path, length: int) -> None:
    filled(tmp_path, range(4))
    os.truncate(data_file(tmp_path), length)
    whole = length // BYTES
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert taken(cache, [0, 1, 2, 3])[1] == list(range(whole, 4))
        assert cache.missing("0123") == {str(number) for number in range(whole, 4)}
        for number in (9, 3, 2, 1, 0):
            cache.put(str(number), picture(number))
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
        other.execute("CREATE TABLE pictures (x)")
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
        assert cache.put("1", picture(1)) is False
        assert taken(cache, [1, 2])[1] == [0, 1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_a_problem_and_no_crash(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with PixelCache(SPEC, root=tmp_path / "pixels") as cache:
        assert cache.problem
        assert cache.put("1", picture(1)) is False


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    program = "import sys, numpy as np\nfrom pathlib import Path\nfrom tellapart.data.cache import PixelCache\n" + (
        "from tellapart.task import ImageSpec\nSPEC = ImageSpec(8, 6)\nroot = Path(sys.argv[1])\n"
        "def picture(n): return np.random.default_rng(n).integers(0, 256, SPEC.shape, np.uint8)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program + textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="bounds the size of files by setrlimit")
def test_a_full_disk_is_a_problem_and_keeps_what_was_written(tmp_path: Path) -> None:
    filled(tmp_path, range(10))
    child = run(
        """
        import resource
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        with PixelCache(SPEC, root=root) as cache:
            for number in range(5, 300):
                cache.put(str(number), picture(number))
            cache.flush()
            assert "cannot be kept" in cache.problem, cache.problem
            assert cache.put("x", picture(1)) is False
            assert cache.missing(["3"]) == {"3"}
        print("well")
        """,
        tmp_path,
    )
    assert child.communicate(timeout=60)[0] == "well\n"
    assert_holds(tmp_path, list(range(10)))


def test_processes_that_write_at_once_share_one_cache(tmp_path: Path) -> None:
    code = """
        cache = PixelCache(SPEC, root=root)
        print("open", flush=True)
        sys.stdin.readline()
        first = int(sys.argv[2])
        for number in range(first, first + 200):
            cache.put(str(number), picture(number))
            if number % 7 == 0:
                cache.flush()
        cache.close()
        assert not cache.problem, cache.problem
    """
    children = [run(code, tmp_path, first) for first in (0, 100, 200)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "open\n"
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        child.communicate(timeout=60)
        assert child.returncode == 0
    assert_holds(tmp_path, list(range(400)))
    assert data_file(tmp_path).stat().st_size == 400 * BYTES


def test_a_killed_writer_leaves_a_usable_cache(tmp_path: Path) -> None:
    code = """
        cache = PixelCache(SPEC, root=root)
        number = 0
        while True:
            cache.put(str(number), picture(number))
            number += 1
            if number % 3 == 0:
                cache.flush()
            if number == 100:
                print("busy", flush=True)
    """
    for _ in range(3):
        child = run(code, tmp_path)
        assert child.stdout is not None
        assert child.stdout.readline() == "busy\n"
        child.kill()
        child.communicate(timeout=60)
        assert_holds(tmp_path, list(range(99)))
    with PixelCache(SPEC, root=tmp_path) as cache:
        missing = cache.missing(str(number) for number in range(100_000))
        numbers = [number for number in range(3000) if str(number) not in missing]
    assert_holds(tmp_path, numbers)


def test_threads_may_put_and_take_at_once(tmp_path: Path) -> None:
    with PixelCache(SPEC, root=tmp_path) as cache:
        store = cache.store([str(number) for number in range(100)])

        def work(start: int) -> bool:
            good = True
            for number in range(start, 100, 4):
                cache.put(str(number), picture(number))
                cache.flush()
                out = np.zeros((2, *SPEC.shape), np.uint8)
                absent = store.take(np.array([number, (number * 7) % 100]), out)
                good &= np.array_equal(out[0], picture(number))
                good &= 1 in absent or np.array_equal(out[1], picture((number * 7) % 100))
            return good

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(4)))
    assert_holds(tmp_path, list(range(100)))


def test_at_the_limit_put_declines_and_what_fits_is_kept(tmp_path: Path) -> None:
    with PixelCache(SPEC, root=tmp_path, limit_bytes=5 * BYTES + 1) as cache:
        for number in range(8):
            assert cache.put(str(number), picture(number))
        cache.flush()
        assert "limit" in cache.problem
        assert cache.put("9", picture(9)) is False
        assert taken(cache, list(range(8)))[1] == [5, 6, 7]
    assert data_file(tmp_path).stat().st_size == 5 * BYTES


OTHERS = [ImageSpec(8, 6, fit="pad"), ImageSpec(8, 6, fit="crop"), ImageSpec(6, 8)]


def test_the_least_recently_used_folder_that_nobody_has_open_gives_way(tmp_path: Path) -> None:
    for age, spec in enumerate(OTHERS):
        filled(tmp_path, range(4), spec)
        (lock,) = tmp_path.glob(f"{spec.key}-*/lock")
        os.utime(lock, (1000 + age, 1000 + age))
    oldest, second, youngest = (next(tmp_path.glob(f"{spec.key}-*")) for spec in OTHERS)
    (tmp_path / "note.txt").write_text("not ours")
    holder = run(
        """
        with PixelCache(ImageSpec(8, 6, fit="pad"), root=root) as cache:
            import os
            os.utime(cache._shelf.folder / "lock", (1000, 1000))
            print("open", flush=True)
            sys.stdin.readline()
            print(sorted({"0", "1", "2", "3"} - cache.missing(["0", "1", "2", "3"])))
        """,
        tmp_path,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    with PixelCache(SPEC, root=tmp_path, limit_bytes=12 * BYTES) as cache:
        for number in range(4):
            cache.put(str(number), picture(number))
        cache.flush()
        assert not cache.problem
        assert taken(cache, [0, 1, 2, 3])[1] == []
    assert oldest.exists()
    assert not second.exists()
    assert youngest.exists()
    assert holder.communicate("go\n", timeout=60)[0] == "['0', '1', '2', '3']\n"
    with PixelCache(SPEC, root=tmp_path, limit_bytes=8 * BYTES) as cache:
        for number in range(4, 8):
            cache.put(str(number), picture(number))
    assert not oldest.exists()
    assert not youngest.exists()
    assert (tmp_path / "note.txt").exists()
    assert_holds(tmp_path, list(range(8)))


def test_a_folder_full_of_pictures_of_the_past_begins_anew_unless_another_process_reads_it(tmp_path: Path) -> None:
    filled(tmp_path, range(10))
    reader = run(
        """
        with PixelCache(SPEC, root=root):
            print("open", flush=True)
            sys.stdin.readline()
        """,
        tmp_path,
    )
    assert reader.stdout is not None
    assert reader.stdout.readline() == "open\n"
    with PixelCache(SPEC, root=tmp_path, limit_bytes=10 * BYTES) as cache:
        cache.put("20", picture(20))
        cache.flush()
        assert "limit" in cache.problem
    reader.communicate("go\n", timeout=60)
    assert_holds(tmp_path, list(range(10)))
    with PixelCache(SPEC, root=tmp_path, limit_bytes=10 * BYTES) as cache:
        store = cache.store(["3", "20", "21"])
        out = np.zeros((3, *SPEC.shape), np.uint8)
        assert store.take(np.arange(3), out).tolist() == [1, 2]
        for number in (20, 21):
            cache.put(str(number), picture(number))
        cache.flush()
        assert not cache.problem
        assert store.take(np.arange(3), out).tolist() == [0]
        assert np.array_equal(out[1:], np.stack([picture(20), picture(21)]))
    assert data_file(tmp_path).stat().st_size == 2 * BYTES


def test_pictures_in_use_do_not_give_way_to_each_other(tmp_path: Path) -> None:
    filled(tmp_path, range(10))
    with PixelCache(SPEC, root=tmp_path, limit_bytes=10 * BYTES) as cache:
        cache.missing(str(number) for number in range(12))
        for number in (10, 11):
            cache.put(str(number), picture(number))
        cache.flush()
        assert "limit" in cache.problem
    assert_holds(tmp_path, list(range(10)))


def test_a_closed_cache_keeps_nothing_and_closes_again(tmp_path: Path) -> None:
    cache = PixelCache(SPEC, root=tmp_path)
    cache.put("1", picture(1))
    store = cache.store(["1"])
    cache.close()
    cache.close()
    assert cache.put("2", picture(2)) is False
    assert store.take(np.arange(1), np.zeros((1, *SPEC.shape), np.uint8)).tolist() == [0]
    assert_holds(tmp_path, [1])


@pytest.mark.parametrize("place", [0, 5_000, 70_000, 299_999])
def test_one_changed_byte_anywhere_changes_the_digest(place: int) -> None:
    content = np.random.default_rng(0).integers(0, 256, 300_000, np.uint8)
    changed = content.copy()
    changed[place] ^= 1
    assert content_digest(content.tobytes()) != content_digest(changed.tobytes())
    assert content_digest(content.reshape(100, 1000, 3)) != content_digest(changed.reshape(100, 1000, 3))


def test_the_digest_of_an_array_is_of_its_bytes_in_order() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(4, 6)
    assert content_digest(array) == content_digest(array.tobytes())
    assert content_digest(array[:, ::2]) == content_digest(array[:, ::2].tobytes())


def test_no_row_is_asked_for_and_none_is_given(tmp_path: Path) -> None:
    for shape, dtype in (((2, 2, 3), np.uint8), ((5,), np.float16)):
        with ArrayCache("empty", shape, dtype, root=tmp_path / str(dtype.__name__), what="arrays") as cache:
            absent = cache.store([]).take(np.arange(0), np.empty((0, *shape), dtype))
            assert not len(absent)
