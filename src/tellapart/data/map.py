"""Features of images -> a map of them: two axes on which images that look alike lie near each other.

Run as a program, it makes the map by UMAP in a process of its own, which can be killed: the package imports numba, and
TensorFlow wherever that is installed. Never imports Keras.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tellapart.data.cache import ArrayCache, content_digest
from tellapart.data.neighbours import Floats, directions_of
from tellapart.errors import TellapartError, require_extra
from tellapart.files import cache_root

FEWEST = 30
"""Images of a map by UMAP: of fewer, each is the neighbour of most others."""

_NEIGHBOURS = 15
_VERSION = 1  # of what is cached


def principal(values: Floats) -> Floats:
    """The rows (n, width) on the two axes along which their directions differ most, (n, 2) in 0..1; nan for rows of
    zeros. One in a hundred lies on the edge, so that a few far ones do not press the others together.

    >>> principal(np.array([[2, 1], [0, 1], [0, 0]], np.float32)).round(1)[:, 0].tolist()
    [1.0, 0.0, nan]
    """
    there = values.any(axis=1)
    found = np.full((len(values), 2), np.nan, np.float32)
    if not there.any():
        return found
    directions = directions_of(values[there])
    directions = directions - directions.mean(axis=0)
    _, every = np.linalg.eigh(directions.T @ directions)
    axes = every[:, :-3:-1]
    axes = axes * np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])  # the same whichever library
    found[there] = _spread(directions @ axes if axes.shape[1] > 1 else np.repeat(directions, 2, axis=1))
    return found


def has_umap() -> bool:
    """Whether it is installed; it is not imported."""
    return importlib.util.find_spec("umap") is not None


class UmapMaker:
    """Makes a map by UMAP (McInnes, Healy, Melville 2018, arXiv 1802.03426) once, and keeps it in the cache of
    features. `stop`, from any thread, ends it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False

    def make(self, values: Floats) -> Floats | None:
        """As `principal`, in seconds for hundreds of rows and minutes for 100,000; None of fewer than FEWEST, and once
        stopped. Raises MissingExtraError without the package, TellapartError with what it said where it fails."""
        require_extra("A map by UMAP", "map", "umap")
        there = values.any(axis=1)
        if there.sum() < FEWEST:
            return None
        found = np.full((len(values), 2), np.nan, np.float32)
        rows = np.ascontiguousarray(values[there])
        name, shape = f"map-umap{_VERSION}-{len(rows)}", (len(rows), 2)
        key, place = content_digest(rows.reshape(-1).view(np.uint8)), np.empty((1, *shape), np.float32)
        with ArrayCache(name, shape, np.float32, root=cache_root() / "features", what="maps") as cache:
            if len(cache.store([key]).take(np.array([0]), place)):
                made = self._computed(rows)
                if made is None:
                    return None
                place[0] = made
                cache.put(key, place[0])
        found[there] = place[0]
        return found

    def stop(self) -> None:
        self._stopped = True
        if self._process is not None:
            self._process.kill()

    def _computed(self, rows: Floats) -> Floats | None:
        with tempfile.TemporaryDirectory() as folder:
            given, made = Path(folder) / "values.npy", Path(folder) / "map.npy"
            np.save(given, rows)
            command = [sys.executable, "-W", "ignore", "-m", __name__, str(given), str(made)]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
            )
            if self._stopped:
                self._process.kill()
            _, said = self._process.communicate()
            if self._stopped:
                return None
            if self._process.returncode:
                last = (said.strip().splitlines() or ["nothing"])[-1]
                raise TellapartError(f"UMAP made no map (exit code {self._process.returncode}): {last}")
            return np.asarray(np.load(made), np.float32)


def _spread(placed: NDArray[np.floating]) -> Floats:
    low, high = np.quantile(placed, [0.005, 0.995], axis=0)
    return np.asarray(np.clip((placed - low) / np.maximum(high - low, 1e-9), 0, 1), np.float32)


def _main(given: str, made: str) -> None:
    # Without it, umap imports TensorFlow, for a part of it that is not used here.
    sys.modules["tensorflow"] = None  # type: ignore[assignment]
    from umap import UMAP

    # One thread and a seed: the same map each time.
    found = UMAP(n_neighbors=_NEIGHBOURS, metric="cosine", random_state=0, n_jobs=1).fit_transform(np.load(given))
    np.save(made, _spread(found))


if __name__ == "__main__":
    _main(*sys.argv[1:])
