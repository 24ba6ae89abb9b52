"""Maps of images by their features."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tellapart.data.map import FEWEST, UmapMaker, principal
from tellapart.errors import MissingExtraError, TellapartError


def kinds(count: int = 40) -> np.ndarray:
    """Rows around three directions, and one of zeros at the end."""
    generator = np.random.default_rng(0)
    centres = np.eye(3, 8, dtype=np.float32)
    rows = centres[np.arange(count) % 3] + generator.normal(0, 0.05, (count, 8)).astype(np.float32)
    return np.concatenate([rows, np.zeros((1, 8), np.float32)])


def apart(placed: np.ndarray) -> float:
    """How far the nearest two kinds are from each other, beside the spread of a kind."""
    of = [placed[kind:-1:3] for kind in range(3)]
    middles = np.array([each.mean(axis=0) for each in of])
    far = min(np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
    return float(far / max(each.std() for each in of))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TELLAPART_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_principal_components_keep_three_kinds_apart_and_leave_out_rows_of_zeros() -> None:
    placed = principal(kinds())
    assert apart(placed) > 2
    assert np.isnan(placed[-1]).all()
    assert ((placed[:-1] >= 0) & (placed[:-1] <= 1)).all()


def test_a_map_by_umap_keeps_kinds_apart_and_is_made_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("umap")
    rows = kinds(90)
    placed = UmapMaker().make(rows)
    assert placed is not None
    assert placed.shape == (91, 2)
    assert apart(placed) > 2
    assert np.isnan(placed[-1]).all()
    monkeypatch.setattr(sys, "executable", str(cache / "none"))
    again = UmapMaker().make(rows)
    np.testing.assert_array_equal(again, placed)
    with pytest.raises(OSError, match="none"):
        UmapMaker().make(rows[:-2])  # other images: another map


@pytest.fixture
def broken(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Puts a package that ends with these words before the one of its name, for the processes that are started."""

    def put(package: str, ends: str) -> None:
        folder = cache.parent / "broken"
        (folder / package).mkdir(parents=True)
        (folder / package / "__init__.py").write_text(f"raise {ends}")
        monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)

    return put


def test_umap_does_not_start_tensorflow(broken: Callable[[str, str], None]) -> None:
    pytest.importorskip("umap")
    broken("tensorflow", "SystemExit('TensorFlow was started')")
    assert UmapMaker().make(kinds(60)) is not None


@pytest.mark.usefixtures("cache")
def test_few_images_and_a_stopped_maker_give_no_map() -> None:
    pytest.importorskip("umap")
    maker = UmapMaker()
    assert maker.make(kinds(FEWEST - 1)) is None
    threading.Timer(0.5, maker.stop).start()  # numba alone takes longer to start
    assert maker.make(kinds(2000)) is None
    assert maker.make(kinds(60)) is None


def test_what_umap_says_of_its_failure_is_told(broken: Callable[[str, str], None]) -> None:
    pytest.importorskip("umap")
    broken("numba", "ImportError('no numba for this processor')")
    with pytest.raises(TellapartError, match=r"exit code 1.*no numba for this processor"):
        UmapMaker().make(kinds(60))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match="map"):
        UmapMaker().make(kinds(60))
