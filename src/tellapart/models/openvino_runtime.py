"""An ONNX file -> OpenVINO in bfloat16, with the calls of an ONNX Runtime session. Needs the extra `openvino`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.errors import ExportError
from tellapart.models.onnx_safety import refuse_other_files
from tellapart.parallel import cores


def openvino_module() -> Any:
    """The module, without the telemetry package that reports each conversion to its maker."""
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return importlib.import_module("openvino")


def has_bfloat16() -> bool:
    """Whether OpenVINO is installed and the processor computes in bfloat16."""
    if importlib.util.find_spec("openvino") is None:
        return False
    return "BF16" in openvino_module().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class Bfloat16:
    """The file, compiled. threads: of a call, as in models.runtime; of one thread each, as many calls run at the same
    time as there are cores. Raises ExportError for a file that is invalid or would read others.
    """

    def __init__(self, path: Path, threads: int) -> None:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ExportError(f"{path} cannot be read as an ONNX model: {error}.") from None
        refuse_other_files(content, str(path))
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16",
            "INFERENCE_NUM_THREADS": cores() if threads == 1 else threads,
            "NUM_STREAMS": cores() if threads == 1 else 1,
        }
        try:
            self._model = openvino_module().Core().compile_model(os.fspath(path), "CPU", settings)
        except Exception as error:  # noqa: BLE001 - OpenVINO's errors share no base class
            raise ExportError(f"{path} cannot be read by OpenVINO: {error}") from None
        self._mine = threading.local()

    def run(self, names: Sequence[str], given: dict[str, NDArray[np.uint8]]) -> list[NDArray[np.float32]]:
        """The outputs of these names. Thread-safe."""
        request = getattr(self._mine, "request", None)
        if request is None:
            request = self._mine.request = self._model.create_infer_request()
        found = request.infer(given)
        return [np.array(found[self._model.output(name)], np.float32) for name in names]
