"""Networks on a base, each built once for the tests of all files here; what a test changes is put back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tellapart.config import ModelConfig
from tellapart.models.pretrained import BASES, Base
from tellapart.task import ImageSpec, Task

QUICK = ("efficientnet-lite0", "mobilenet-v2", "resnet-50")
ROWS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in BASES]


@pytest.fixture(scope="session", params=ROWS)
def base_name(request: pytest.FixtureRequest) -> str:
    """Every row of BASES in turn. For the session, so that all tests of one base follow each other."""
    return str(request.param)


def spec_of(base: Base) -> ImageSpec:
    return ImageSpec(base.smallest, base.smallest)


@pytest.fixture(scope="session")
def twins(base_name: str) -> tuple[Any, Any]:
    """Three classes behind dense layers and dropout on the base in bfloat16, and its twin in float32; to be left as
    they are. Their random weights are the same each time."""
    keras = pytest.importorskip("keras")
    from tellapart.models.build import build, in_float32

    keras.utils.set_random_seed(0)
    config = ModelConfig(name=base_name, dense=[8], dropout=0.5)
    task, spec = Task(("a", "b", "c")), spec_of(BASES[base_name])
    fast = build(task, spec, config, "bfloat16")
    return fast, in_float32(fast)


@pytest.fixture
def on_base(twins: tuple[Any, Any]) -> Iterator[Any]:
    """The twin in float32; other weights that it is given are taken back."""
    before = twins[1].network.get_weights()
    yield twins[1]
    twins[1].network.set_weights(before)


@pytest.fixture
def sensitive_on_base(on_base: Any, sensitive: Any) -> Any:
    """The same, with predictions that depend on the image."""
    side = on_base.spec.height
    return sensitive(on_base, np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8))


@dataclass(frozen=True)
class Application:
    model: Any
    asked: list[tuple[str, str, str]]
    """Name, address and checksum of the file that Keras would have fetched for its weights."""


@pytest.fixture(scope="session")
def application(base_name: str) -> Application:
    """The network of Keras Applications, with other weights than it begins with; to be left as it is."""
    if not BASES[base_name].application:
        pytest.skip("has no application in Keras")
    keras = pytest.importorskip("keras")
    from keras.src.utils import file_utils

    asked = []

    def fetch(name: str, origin: str, **options: Any) -> str:
        asked.append((name, origin, options.get("file_hash") or ""))
        return name

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file_utils, "get_file", fetch)
        patch.setattr(keras.Model, "load_weights", lambda *_: None)
        return Application(official(BASES[base_name], weights="imagenet", side=BASES[base_name].side), asked)


def official(base: Base, top: bool = False, weights: str | None = None, side: int | None = None) -> Any:
    """The same, of any base; top: with the classes of ImageNet."""
    keras = pytest.importorskip("keras")
    from tellapart.models.backend import without_collecting

    shape = (side or base.smallest,) * 2 + (3,)
    with without_collecting():
        model = getattr(keras.applications, base.application)(include_top=top, weights=weights, input_shape=shape)
    rng = np.random.default_rng(1)
    model.set_weights([(1 + rng.random(value.shape, np.float32)) / 2 for value in model.get_weights()])
    return model
