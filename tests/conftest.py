"""Images for the tests: generated ones, and the real ones if they are beside the checkout."""

from __future__ import annotations

import gc
import os

if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores. With a thread per core in each worker, threads busy-wait for each other: fitting a
    # head took five times the CPU time. Set before anything imports NumPy or TensorFlow.
    for threads in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
        os.environ.setdefault(threads, "1")

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from tests.report.browser import CHROMIUM

if TYPE_CHECKING:
    from playwright.sync_api import Browser

# Before any test imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# No test fails because of time, however busy the machine is, or because of the number of draws for its examples.
_UNTIMED = [HealthCheck.too_slow, HealthCheck.filter_too_much]
settings.register_profile("tellapart", deadline=None, suppress_health_check=_UNTIMED)
settings.load_profile("tellapart")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Headless Chromium, with a camera that shows a test pattern."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    camera = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu", *camera])
        yield found
        found.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Distribute the files to the workers of pytest-xdist, which run their tests in order (--dist worksteal): slow
    tests first, so that quick ones are left when a worker helps another at the end. Tests of every backbone are treated
    as one file, so that a backbone is built once."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        of_backbones = "backbone_name" in getattr(item, "fixturenames", ())
        files.setdefault(Path("every backbone") if of_backbones else item.path, []).append(item)
    slow = [path for path in files if any(item.get_closest_marker("slow") for item in files[path])]
    quick = [path for path in files if path not in slow]
    items[:] = [
        item
        for worker in range(workers)
        for part in (slow, quick)
        for path in part[worker::workers]
        for item in files[path]
    ]


@pytest.fixture(autouse=True, scope="module")
def set_apart() -> Iterator[None]:
    """Exclude what a test file leaves behind, networks and traced functions, from later garbage collections: in a
    worker that has built all backbones each takes a second, and training many networks collects after each."""
    yield
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope="session")
def no_cache_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cache folder of these tests alone, for fixtures that several tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLAPART_CACHE", str(tmp_path_factory.mktemp("session-cache")))
        yield


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """For modules (pytest.mark.usefixtures) whose tests and fixtures share cached results, as a user's commands do."""
    folder = tmp_path_factory.mktemp("shared cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TELLAPART_CACHE", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def own_cache(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """No test finds what another left in the cache, except in a module that asks for it."""
    shares = "shared_cache" in request.fixturenames
    folder: Path = request.getfixturevalue("shared_cache") if shares else tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("TELLAPART_CACHE", str(folder))
    return folder


def draw(kind: str, number: int, side: int = 40) -> Image.Image:
    """A noisy image with a disc, a square or stripes at a random place; a small network can distinguish them."""
    rng = np.random.default_rng([number, *kind.encode()])
    canvas = rng.normal(90, 25, (side, side, 3))
    y, x = np.mgrid[:side, :side]
    centre, size = rng.uniform(0.35, 0.65, 2) * side, rng.uniform(0.2, 0.3) * side
    inside = {
        "disc": np.hypot(y - centre[0], x - centre[1]) < size,
        "square": np.maximum(abs(y - centre[0]), abs(x - centre[1])) < size,
        "stripes": (x + int(centre[0])) % 8 < 3,
    }[kind]
    canvas[inside] += rng.uniform(70, 120, 3)
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8))


def make_shapes(folder: Path, kinds: tuple[str, ...] = ("disc", "square", "stripes"), count: int = 20) -> Path:
    """Class folders of generated images."""
    for kind in kinds:
        (folder / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            draw(kind, number).save(folder / kind / f"{kind} {number}.png")
    return folder


@pytest.fixture
def sensitive() -> Callable[[Any, np.ndarray], Any]:
    """Enlarge what follows the features of a backbone with random weights, which are so small that predictions hardly
    depend on them, and the initial layer scales of a ConvNeXt, which hide its blocks. The random weights are the same
    each time."""
    from tellapart.models.backend import start_keras

    start_keras().utils.set_random_seed(0)

    def enlarge(made: Any, images: np.ndarray) -> Any:
        for layer in made.backbone.layers:
            if layer.name.endswith("_scale"):
                layer.set_weights([np.ones_like(value) for value in layer.get_weights()])
        features = np.asarray(made.features_network()(images))
        spread = features.std(axis=0).mean()
        assert spread > 0
        after = next(layer for layer in made.head.layers if layer.weights)
        kernel, bias = after.get_weights()
        after.set_weights([kernel / spread, bias - features.mean(axis=0) @ kernel / spread])
        values = np.asarray(made.network(images))
        assert values.std(axis=0).max() > 0.001, "predictions still do not depend on the image"
        return made

    return enlarge


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images in three class folders; read-only."""
    return make_shapes(tmp_path_factory.mktemp("shapes") / "shapes")


@pytest.fixture(scope="session")
def two_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 images in two class folders; read-only."""
    return make_shapes(tmp_path_factory.mktemp("two") / "two shapes", ("disc", "stripes"), 30)


@pytest.fixture(scope="session")
def shapes_run(two_shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a small network; read-only."""
    import tellapart as ta

    settings = ["model.filters=[4]", "model.dense=[4]", "train.epochs=1", "image.height=24", "image.width=24"]
    out = tmp_path_factory.mktemp("shapes-run") / "run"
    ta.train(two_shapes, config=ta.make_config(model="cnn", settings=settings), out=out)
    return out


@pytest.fixture(scope="session")
def cats_dogs() -> Path:
    """The 1,200 real photographs, if they are beside the checkout."""
    folder = SHARED / "cats-dogs"
    if not folder.is_dir():
        pytest.skip("shared/data/cats-dogs is not beside the checkout")
    return folder
