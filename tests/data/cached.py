"""Generated images, written to a cache and read from it, here and in other processes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np

from tellapart.data.cache import PixelCache
from tellapart.task import ImageSpec

SPEC = ImageSpec(8, 6)

BYTES = 8 * 6 * 3


def image(number: int, spec: ImageSpec = SPEC) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, spec.shape, np.uint8)


def filled(root: Path, numbers: range, spec: ImageSpec = SPEC) -> None:
    with PixelCache(spec, root=root) as cache:
        for number in numbers:
            assert cache.put(str(number), image(number, spec))


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
    assert np.array_equal(out, np.stack([image(number) for number in numbers]))


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    program = "import sys, numpy as np\nfrom pathlib import Path\nfrom tellapart.data.cache import PixelCache\n" + (
        "from tellapart.task import ImageSpec\nSPEC = ImageSpec(8, 6)\nroot = Path(sys.argv[1])\n"
        "def image(n): return np.random.default_rng(n).integers(0, 256, SPEC.shape, np.uint8)\n"
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program + textwrap.dedent(code), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
