"""What strangers send, and a marker that must not appear. What else they send is tried elsewhere:

| thing | tried in |
|---|---|
| an archive: members that lead outside, links, devices, bytes, depth | tests/data/test_sources_archive_harm.py |
| too many pixels, truncated, flipped bytes, no image at all | tests/data/test_pixels_harm.py |
| a request: bodies, headers, trailers, slow clients, other origins | tests/serve |
| scripts in what a report or a comparison shows | tests/report/test_report.py, test_in_browser.py, test_pages.py |
| damaged idx files, csv and caches | tests/data |
| a file on its way from a server | tests/test_download.py, tests/data/test_fetch.py |
| an address: bytes, time, redirects, other protocols | tests/data/test_image_url.py |
| scripts in what a notebook shows | tests/api/test_notebook.py |
| plug-ins: named by a run, or in the current folder | tests/test_tables.py, tests/test_plugins.py |
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tellapart as ta
from tests.command import COMMAND, PATIENCE
from tests.conftest import draw

SCRIPT = "<script>document.title='harm'</script>"
FORMULA = "=1+cmd|'/C calc'!A0"
TERMINAL = "\x1b[2J\x9b31m\x07 $\\frac{ \u202ecod"
IMAGE = '"><img src=x onerror="document.title=\'harm\'">{{7*7}}'
HOSTILE = (SCRIPT, FORMULA, TERMINAL, IMAGE)
SETTINGS = (
    "model.name=cnn", "model.filters=[4]", "model.dense=[4]", "image.height=24", "image.width=24", "train.epochs=2",
)  # fmt: skip


class Opens:
    """Writes the marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "harm was done"


@pytest.fixture(autouse=True)
def nothing_ran(tmp_path: Path) -> object:
    yield
    assert not list(tmp_path.rglob("harm was done"))


@pytest.fixture
def evil_pickle(marker: Path) -> bytes:
    return pickle.dumps(Opens(marker))


@pytest.fixture(scope="session")
def hostile_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of such names, with images of such names; a slash is a folder in a folder."""
    root = tmp_path_factory.mktemp("hostile") / "images"
    for number, name in enumerate(HOSTILE):
        (root / name).mkdir(parents=True)
        for image in range(8):
            kind = ("disc", "square", "stripes", "disc")[number]
            stem = name.replace("/", "") if image % 2 else ""
            draw(kind, 100 * number + image).save(root / name / f"{stem}{image}.png")
    return root


@pytest.fixture(scope="session")
def hostile_run(hostile_images: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    """Trained on them; only to be read."""
    pytest.importorskip("keras")
    out = tmp_path_factory.mktemp("runs") / "hostile <b>$x"
    return ta.train(hostile_images, out=out, config=ta.make_config(settings=SETTINGS))


@pytest.fixture(scope="session")
def plain_run(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> ta.Run:
    """Tells `disc` from `stripes`; only to be read."""
    pytest.importorskip("keras")
    return ta.train(two_shapes, out=tmp_path_factory.mktemp("runs") / "plain", config=ta.make_config(settings=SETTINGS))


@pytest.fixture
def tellapart() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The command line, as a person starts it."""

    def start(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
        words = [*COMMAND, *map(str, arguments)]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE, **options)  # type: ignore[call-overload]

    return start


@pytest.fixture
def megabytes() -> Callable[[str], tuple[int, str]]:
    """The most memory that a piece of Python takes beside what the imports take, and what it prints."""

    def measure(code: str) -> tuple[int, str]:
        program = (
            "import re, resource, sys\n"
            "from pathlib import Path\n"
            "from tellapart.config import DataConfig\n"
            "from tellapart.data.sources import read_source\n"
            "from tellapart.data import pixels\n"
            "from tellapart.errors import TellapartError\n"
            # ru_maxrss begins with what the process took that started this one, which would hide all below that.
            "status = Path('/proc/self/status')\n"
            "def peak():\n"
            "    if status.exists():\n"
            "        return int(re.search(r'VmHWM:\\s+(\\d+)', status.read_text())[1]) // 1024\n"
            "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
            "before = peak()\n"
            f"try:\n    {code}\n"
            "except TellapartError as error:\n    print(error)\n"
            "print(peak() - before)\n"
        )
        found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stderr
        said, _, taken = found.stdout.strip().rpartition("\n")
        return int(taken), said

    return measure


SECRET = b"a secret of this machine, as long as the weights."


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "elsewhere" / "secret"
    path.parent.mkdir()
    path.write_bytes(SECRET)
    return path
