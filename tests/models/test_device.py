"""On which device ONNX Runtime computes; no GPU is needed, only what becomes of a wish for one."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from tellapart.errors import ConfigError
from tellapart.models import runtime
from tellapart.models.pretrained_weights import bundled_graph
from tellapart.models.runtime import open_session
from tests.command import COMMAND

GRAPH = bundled_graph("efficientnet-lite0")
CUDA = "CUDAExecutionProvider"
HAS_CUDA = CUDA in onnxruntime.get_available_providers()


@pytest.mark.skipif(HAS_CUDA, reason="ONNX Runtime has CUDA here")
def test_cuda_that_is_not_installed_is_an_error_that_says_what_to_install_and_auto_takes_the_processor() -> None:
    with pytest.raises(ConfigError, match=r"pip install 'onnxruntime-gpu\[cuda,cudnn\]'.*--device cpu"):
        open_session(GRAPH, ours=True, device="cuda")
    assert open_session(GRAPH, ours=True, device="auto").get_providers() == ["CPUExecutionProvider"]


def test_cuda_that_does_not_start_is_an_error_and_auto_takes_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    made = onnxruntime.InferenceSession
    asked = []

    def without_driver(model: Any, options: Any, providers: Any, **_: Any) -> Any:
        asked.append(providers)
        # What ONNX Runtime does where CUDA's libraries are missing: it computes on the processor.
        return made(model, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", without_driver)
    with pytest.raises(ConfigError, match="does not start"):
        open_session(GRAPH, ours=True, device="cuda")
    session = open_session(GRAPH, ours=True, device="auto")
    assert session.run(None, {session.get_inputs()[0].name: np.zeros((1, 32, 32, 3), np.uint8)})
    assert asked == [[(CUDA, runtime._CUDA_OPTIONS)]] * 2 + [["CPUExecutionProvider"]]


@pytest.mark.skipif(HAS_CUDA, reason="ONNX Runtime has CUDA here")
def test_predict_and_serve_refuse_a_device_that_cannot_be_had(tmp_path: Path) -> None:
    file = tmp_path / "model.onnx"
    images = helper.make_tensor_value_info("images", TensorProto.UINT8, [None, 8, 8, 3])
    same = helper.make_tensor_value_info("same", TensorProto.UINT8, [None, 8, 8, 3])
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["same"])], "same", [images], [same])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(file))
    for command in (("predict", str(file), "a.jpg"), ("serve", str(file), "--port", "0")):
        done = subprocess.run([*COMMAND, *command, "--device", "cuda"], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "The device cuda is not available" in done.stderr
