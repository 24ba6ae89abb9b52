"""Networks on a base, each built once for the tests of all files here; what a test changes is put back."""

from __future__ import annotations

from collections.abc import Iterator
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
    """Three classes on the base in bfloat16, and its twin in float32; to be left as they are."""
    pytest.importorskip("keras")
    from tellapart.models.build import build, in_float32

    task, spec, config = Task(("a", "b", "c")), spec_of(BASES[base_name]), ModelConfig(name=base_name)
    fast = build(task, spec, config, "bfloat16")
    return fast, in_float32(fast, task, spec, config)


@pytest.fixture
def plain(twins: tuple[Any, Any]) -> Iterator[Any]:
    """Three classes on the base in float32; other weights that it is given are taken back."""
    model = twins[1]
    before = model.get_weights()
    yield model
    model.set_weights(before)


@pytest.fixture(scope="session")
def session_with_head(base_name: str) -> Any:
    """As `with_head` gives it out, with the same random weights each time."""
    keras = pytest.importorskip("keras")
    from tellapart.models.build import build

    keras.utils.set_random_seed(0)
    config = ModelConfig(name=base_name, dense=[8], dropout=0.5)
    return build(Task(("a", "b", "c")), spec_of(BASES[base_name]), config)


@pytest.fixture
def with_head(session_with_head: Any, sensitive: Any) -> Iterator[Any]:
    """Three classes behind dense layers and dropout on the base, whose predictions depend on the picture."""
    before, side = session_with_head.get_weights(), session_with_head.input.shape[1]
    yield sensitive(session_with_head, np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8))
    session_with_head.set_weights(before)


@pytest.fixture(scope="session")
def application(base_name: str) -> Any:
    """The network of Keras Applications, with other weights than it begins with; to be left as it is."""
    if not BASES[base_name].application:
        pytest.skip("has no application in Keras")
    return official(BASES[base_name])


def official(base: Base, top: bool = False) -> Any:
    """The same, of any base; top: with the classes of ImageNet."""
    keras = pytest.importorskip("keras")
    model = getattr(keras.applications, base.application)(
        include_top=top, weights=None, input_shape=(base.smallest, base.smallest, 3)
    )
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.5, 1, value.shape).astype(value.dtype) for value in model.get_weights()])
    return model
