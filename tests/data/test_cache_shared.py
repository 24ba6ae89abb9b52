"""A cache that processes and threads share, and that is bounded: what gives way, and to whom."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from tellapart.data.cache import PixelCache
from tellapart.task import ImageSpec
from tests.command import PATIENCE
from tests.data.cached import BYTES, SPEC, assert_holds, data_file, filled, image, run, taken


def test_processes_that_write_at_once_share_one_cache(tmp_path: Path) -> None:
    code = """
        cache = PixelCache(SPEC, root=root)
        print("open", flush=True)
        sys.stdin.readline()
        first = int(sys.argv[2])
        for number in range(first, first + 200):
            cache.put(str(number), image(number))
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
        child.communicate(timeout=PATIENCE)
        assert child.returncode == 0
    assert_holds(tmp_path, list(range(400)))
    assert data_file(tmp_path).stat().st_size == 400 * BYTES


def test_a_killed_writer_leaves_a_usable_cache(tmp_path: Path) -> None:
    code = """
        cache = PixelCache(SPEC, root=root)
        number = 0
        while True:
            cache.put(str(number), image(number))
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
        child.communicate(timeout=PATIENCE)
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
                cache.put(str(number), image(number))
                cache.flush()
                out = np.zeros((2, *SPEC.shape), np.uint8)
                absent = store.take(np.array([number, (number * 7) % 100]), out)
                good &= np.array_equal(out[0], image(number))
                good &= 1 in absent or np.array_equal(out[1], image((number * 7) % 100))
            return good

        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(work, range(4)))
    assert_holds(tmp_path, list(range(100)))


def test_at_the_limit_put_declines_and_what_fits_is_kept(tmp_path: Path) -> None:
    with PixelCache(SPEC, root=tmp_path, limit_bytes=5 * BYTES + 1) as cache:
        for number in range(8):
            assert cache.put(str(number), image(number))
        cache.flush()
        assert "limit" in cache.problem
        assert cache.put("9", image(9)) is False
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
            cache.put(str(number), image(number))
        cache.flush()
        assert not cache.problem
        assert taken(cache, [0, 1, 2, 3])[1] == []
    assert oldest.exists()
    assert not second.exists()
    assert youngest.exists()
    assert holder.communicate("go\n", timeout=PATIENCE)[0] == "['0', '1', '2', '3']\n"
    with PixelCache(SPEC, root=tmp_path, limit_bytes=8 * BYTES) as cache:
        for number in range(4, 8):
            cache.put(str(number), image(number))
    assert not oldest.exists()
    assert not youngest.exists()
    assert (tmp_path / "note.txt").exists()
    assert_holds(tmp_path, list(range(8)))


def test_a_folder_full_of_images_of_the_past_begins_anew_unless_another_process_reads_it(tmp_path: Path) -> None:
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
        cache.put("20", image(20))
        cache.flush()
        assert "limit" in cache.problem
    reader.communicate("go\n", timeout=PATIENCE)
    assert_holds(tmp_path, list(range(10)))
    with PixelCache(SPEC, root=tmp_path, limit_bytes=10 * BYTES) as cache:
        store = cache.store(["3", "20", "21"])
        out = np.zeros((3, *SPEC.shape), np.uint8)
        assert store.take(np.arange(3), out).tolist() == [1, 2]
        for number in (20, 21):
            cache.put(str(number), image(number))
        cache.flush()
        assert not cache.problem
        assert store.take(np.arange(3), out).tolist() == [0]
        assert np.array_equal(out[1:], np.stack([image(20), image(21)]))
    assert data_file(tmp_path).stat().st_size == 2 * BYTES


def test_images_in_use_do_not_give_way_to_each_other(tmp_path: Path) -> None:
    filled(tmp_path, range(10))
    with PixelCache(SPEC, root=tmp_path, limit_bytes=10 * BYTES) as cache:
        cache.missing(str(number) for number in range(12))
        for number in (10, 11):
            cache.put(str(number), image(number))
        cache.flush()
        assert "limit" in cache.problem
    assert_holds(tmp_path, list(range(10)))
