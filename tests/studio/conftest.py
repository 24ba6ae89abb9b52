"""A run on real photographs with known faults, a studio of it in a process of its own, and a browser."""

from __future__ import annotations

import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

import tellapart as ta
from tests.command import COMMAND, PATIENCE, WARNINGS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

httpx = pytest.importorskip("httpx")
pytest.importorskip("cleanlab")
pytest.importorskip("uvicorn")

BUILTIN = Path(ta.__file__).parent / "data" / "builtin" / "pets"
SWAPPED = ("cat/wrong-1.jpg", "cat/wrong-2.jpg")


@dataclass
class Studio:
    """A `tellapart studio` that answers, and the file of its decisions."""

    process: subprocess.Popen[str]
    url: str
    file: Path
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.token}"}

    def get(self, path: str) -> Any:
        return httpx.get(self.url + path, timeout=PATIENCE, headers=self.headers).json()

    def post(self, path: str, **body: Any) -> Any:
        return httpx.post(self.url + path, json=body, timeout=PATIENCE, headers=self.headers)

    def address(self, path: str = "/") -> str:
        """As it is opened in a browser, where the token in it gives a cookie."""
        return f"{self.url}{path}{'&' if '?' in path else '?'}token={self.token}"

    def undo_all(self) -> None:
        state = self.get("/v1/state")
        while state["made"]:
            state = self.post("/v1/undo", version=state["version"]).json()

    def kill(self) -> None:
        """With SIGKILL: nothing is written any more."""
        self.process.kill()
        self.process.communicate()


def start(run: Path, file: Path, environment: Mapping[str, str] | None = None) -> Studio:
    """Start a studio on a free port, and wait until it has looked at all images."""
    return started([str(run), "--corrections", str(file)], file, environment)


def started(arguments: list[str], file: Path, environment: Mapping[str, str] | None = None) -> Studio:
    """A studio of these arguments, once all images were looked at."""
    studio, deadline = answering(arguments, file, environment), time.monotonic() + PATIENCE
    while not (looking := studio.get("/v1/state")["looking"])["over"]:
        assert time.monotonic() < deadline, "the studio never looked at all images"
        time.sleep(0.05)
    assert environment or not looking["problem"]
    return studio


def answering(
    arguments: list[str], file: Path, environment: Mapping[str, str] | None = None, folder: Path | None = None
) -> Studio:
    """A studio of these arguments, started in a folder."""
    command = [*COMMAND, "studio", *arguments, "--no-browser", "--port", "0"]
    variables = {**(os.environ if environment is None else environment), "PYTHONWARNINGS": WARNINGS}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables, cwd=folder)
    assert process.stderr is not None
    said, deadline = "", time.monotonic() + PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        if select.select([process.stderr], [], [], 0.5)[0]:
            line = process.stderr.readline()
            said += line
            if line.startswith("Studio "):
                url, _, token = line.split(" on ")[1].split()[0].partition("/?token=")
                return Studio(process, url, file, token)
    process.kill()
    raise AssertionError(f"the studio did not start: {said}{process.stderr.read()}")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of photographs: two dogs are labelled cats, one image stands under both, one shows nothing."""
    folder = tmp_path_factory.mktemp("studio") / "photos"
    for label, breed in (("cat", "Bengal"), ("dog", "american_bulldog")):
        (folder / label).mkdir(parents=True)
        for path in sorted((BUILTIN / breed).glob("*.jpg"))[:24]:
            shutil.copy(path, folder / label / path.name.lower())
    dogs = sorted((folder / "dog").iterdir())
    for name, taken in zip(SWAPPED, (dogs[20], dogs[12]), strict=True):
        taken.rename(folder / name)
    twin = sorted((folder / "cat").glob("bengal*.jpg"))[0]
    Image.open(twin).resize((180, 150)).save(folder / "dog" / "twin.jpg", quality=80)
    Image.new("RGB", (120, 90), (200, 200, 200)).save(folder / "cat" / "blank.png")
    return folder


@pytest.fixture(scope="module")
def run(photos: Path, shared_cache: Path) -> Path:  # noqa: ARG001 - features of its images are kept there
    pytest.importorskip("keras")
    settings = ["model.filters=[4]", "model.dense=[4]", "train.epochs=1", "image.height=24", "image.width=24"]
    out = photos.parent / "run"
    ta.train(photos, config=ta.make_config(model="cnn", settings=settings), out=out)
    return out


@pytest.fixture(scope="module")
def shared_studio(run: Path) -> Iterator[Studio]:
    studio = start(run, run.parent / "decisions.csv")
    yield studio
    studio.kill()


@pytest.fixture
def studio(shared_studio: Studio) -> Studio:
    """With nothing decided."""
    shared_studio.undo_all()
    return shared_studio


@pytest.fixture
def visit(browser: Browser, studio: Studio) -> Iterator[Callable[..., Page]]:
    """Opens a page of the studio; afterwards looks that it asked nobody else and broke no policy."""
    opened: list[tuple[Page, list[str], list[str]]] = []

    def go(path: str = "/", **options: Any) -> Page:
        page = browser.new_context(**options).new_page()
        page.set_default_timeout(1000 * PATIENCE)
        asked: list[str] = []
        said: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(studio.address(path))
        opened.append((page, asked, said))
        return page

    yield go
    for page, asked, said in opened:
        assert not [one for one in asked if not one.startswith(studio.url)]
        # A browser says so itself of every answer that is not good.
        assert not [text for text in said if not text.startswith("Failed to load resource")]
        page.context.close()
