"""Networks on a backbone, each built once for the tests of all files here; what a test changes is put back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from tellapart.config import ModelConfig
from tellapart.models.pretrained import PRETRAINED, PretrainedBackbone
from tellapart.task import ImageSpec, Task
from tests.architectures import rows


@pytest.fixture(scope="session", params=rows((name,) for name in PRETRAINED))
def backbone_name(request: pytest.FixtureRequest) -> str:
    """Every row of PRETRAINED in turn. For the session, so that all tests of one backbone follow each other."""
    return str(request.param)


def spec_of(pretrained: PretrainedBackbone) -> ImageSpec:
    return ImageSpec(pretrained.smallest, pretrained.smallest)


@pytest.fixture(scope="session")
def twins(backbone_name: str) -> tuple[Any, Any]:
    """Three classes behind dense layers and dropout on the backbone in bfloat16, and its twin in float32; to be left as
    they are. Their random weights are the same each time."""
    keras = pytest.importorskip("keras")
    from tellapart.models.classifier import Classifier

    keras.utils.set_random_seed(0)
    config = ModelConfig(name=backbone_name, dense=[8], dropout=0.5)
    task, spec = Task(("a", "b", "c")), spec_of(PRETRAINED[backbone_name])
    fast = Classifier.from_config(task, spec, config, "bfloat16")
    return fast, fast.in_float32()


@pytest.fixture
def on_backbone(twins: tuple[Any, Any]) -> Iterator[Any]:
    """The twin in float32; other weights that it is given are taken back."""
    before = twins[1].network.get_weights()
    yield twins[1]
    twins[1].network.set_weights(before)


@pytest.fixture
def sensitive_on_backbone(on_backbone: Any, sensitive: Any) -> Any:
    """The same, with predictions that depend on the image."""
    side = on_backbone.spec.height
    return sensitive(on_backbone, np.random.default_rng(0).integers(0, 256, (3, side, side, 3), dtype=np.uint8))


@dataclass(frozen=True)
class Application:
    model: Any
    asked: list[tuple[str, str, str]]
    """Name, address and checksum of the file that Keras would have fetched for its weights."""


@pytest.fixture(scope="session")
def application(backbone_name: str) -> Application:
    """The network of Keras Applications, with other weights than it begins with; to be left as it is."""
    if not PRETRAINED[backbone_name].application:
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
        return Application(
            official(PRETRAINED[backbone_name], weights="imagenet", side=PRETRAINED[backbone_name].side), asked
        )


def official(
    pretrained: PretrainedBackbone, top: bool = False, weights: str | None = None, side: int | None = None
) -> Any:
    """The same, of any backbone; top: with the classes of ImageNet."""
    keras = pytest.importorskip("keras")
    from tellapart.parallel import without_collecting

    shape = (side or pretrained.smallest,) * 2 + (3,)
    with without_collecting():
        model = getattr(keras.applications, pretrained.application)(include_top=top, weights=weights, input_shape=shape)
    rng = np.random.default_rng(1)
    model.set_weights([(1 + rng.random(value.shape, np.float32)) / 2 for value in model.get_weights()])
    return model
