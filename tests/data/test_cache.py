"""Decoded images on the disk: found again, checked, each under its own spec and digest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tellapart.data import pixels
from tellapart.data.cache import ArrayCache, PixelCache, content_digest
from tellapart.task import ImageSpec
from tests.data.cached import BYTES, SPEC, assert_holds, data_file, filled, image


def test_what_was_put_is_found_again_in_any_order_and_process(tmp_path: Path) -> None:
    filled(tmp_path, range(1200))
    assert_holds(tmp_path, [1199, 0, 7, 7, 640])
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert cache.missing(str(number) for number in range(1190, 1210)) == {str(n) for n in range(1200, 1210)}


def test_the_default_root_is_the_users_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path))
    with PixelCache(SPEC) as cache:
        cache.put("a", image(1))
    assert data_file(tmp_path / "pixels").stat().st_size == BYTES


def test_what_waits_is_not_missing_and_is_written_by_flush(tmp_path: Path) -> None:
    with PixelCache(SPEC, root=tmp_path) as cache:
        cache.put("1", image(1))
        assert cache.missing(["1", "2"]) == {"2"}
        assert data_file(tmp_path).stat().st_size == 0
        cache.flush()
        assert data_file(tmp_path).stat().st_size == BYTES
        store = cache.store(["1", "2"])
        out = np.zeros((2, *SPEC.shape), np.uint8)
        assert store.take(np.array([1, 0]), out).tolist() == [0]
        assert np.array_equal(out[1], image(1))
        cache.put("2", image(2))
        cache.flush()
        assert store.take(np.array([1, 0]), out).tolist() == []
        assert np.array_equal(out[0], image(2))


def test_many_waiting_images_are_written_without_asking(tmp_path: Path) -> None:
    spec = ImageSpec(1024, 1024)
    with PixelCache(spec, root=tmp_path) as cache:
        for number in range(6):
            cache.put(str(number), np.full(spec.shape, number, np.uint8))
        assert data_file(tmp_path).stat().st_size == 6 * 3 * 2**20


def test_an_image_put_twice_takes_one_place(tmp_path: Path) -> None:
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
    monkeypatch.setattr(pixels, "ROAD", "another")
    with PixelCache(SPEC, root=tmp_path) as cache:
        assert cache.missing(["0", "1"]) == {"0", "1"}


@pytest.mark.parametrize("library", ["cv2", "PIL", "simplejpeg"])
def test_pixels_that_another_version_of_a_decoder_made_are_not_taken(tmp_path: Path, library: str) -> None:
    script = (
        # Pillow compares its version with its compiled part's as it is imported.
        f"import sys, {library}, PIL.Image\nfrom pathlib import Path\n{library}.__version__ = sys.argv[2]\n"
        "import numpy as np\n"
        "from tellapart.data.cache import PixelCache\n"
        "from tellapart.task import ImageSpec\n"
        "with PixelCache(ImageSpec(8, 6), root=Path(sys.argv[1])) as cache:\n"
        "    print(cache.missing(['0']))\n"
        "    cache.put('0', np.zeros((8, 6, 3), np.uint8))\n"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", script, tmp_path, version], capture_output=True, text=True, check=True
        ).stdout.strip()
        for version in ("1.0", "1.0", "2.0")
    ]
    assert said == ["{'0'}", "set()", "{'0'}"]


def test_pixels_of_another_shape_are_refused(tmp_path: Path) -> None:
    with PixelCache(SPEC, root=tmp_path) as cache, pytest.raises(ValueError, match="expected uint8"):
        cache.put("a", np.zeros((6, 8, 3), np.uint8))


def test_a_closed_cache_keeps_nothing_and_closes_again(tmp_path: Path) -> None:
    cache = PixelCache(SPEC, root=tmp_path)
    cache.put("1", image(1))
    store = cache.store(["1"])
    cache.close()
    cache.close()
    assert cache.put("2", image(2)) is False
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
