"""The only module that starts ONNX Runtime: without telemetry, with all cores, after inspecting the file.

Imports no TensorFlow.
"""

from __future__ import annotations

import importlib
import mmap
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tellapart.errors import ConfigError, ExportError
from tellapart.models.onnx_safety import refuse_other_files
from tellapart.parallel import cores

if TYPE_CHECKING:
    import onnxruntime


Device = Literal["auto", "cpu", "cuda"]
"""Where ONNX Runtime computes. auto: on an NVIDIA GPU if the CUDA version of the runtime is installed and starts."""

CUDA = "CUDAExecutionProvider"
_CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}
"""The same results as on a CPU, and no search for the fastest algorithm at each new batch size."""


def onnx_runtime(part: str = "") -> Any:
    """The onnxruntime module, or a part of it such as `.quantization`, with telemetry off.

    Only the environment variable keeps it from looking up its maker's server, and only if set before the import; the
    call is for a process that had imported it before.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    runtime = importlib.import_module("onnxruntime")
    getattr(runtime, "disable_telemetry_events", lambda: None)()  # not in every version
    return importlib.import_module(f"onnxruntime{part}") if part else runtime


def open_session(
    path: Path,
    threads: int | None = None,
    addition: bytes = b"",
    *,
    ours: bool = False,
    device: Device = "cpu",
) -> onnxruntime.InferenceSession:
    """An ONNX file in ONNX Runtime, on all cores or a given number, or on a GPU.

    Raises ExportError for a file that is invalid, or would make the runtime read other files, and ConfigError if the
    device `cuda` is not available.

    addition: a part of an ONNX file with more nodes and outputs: concatenated protocol buffers are read as one. ours:
    the file belongs to the package, and may read another of its files.
    """
    runtime = onnx_runtime()
    model = os.fspath(path) if ours else _checked(path, addition)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.log_severity_level = 3
    # Busy-waiting threads would take processor time from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # The other format of ONNX Runtime, selected by the first bytes of a file, was not checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    if device != "cpu":
        session = _on_cuda(runtime, model, options, device)
        if session is not None:
            return session
    try:
        # No other provider is enabled: one of them sends data to a URL given in the file.
        providers = ["CPUExecutionProvider"]
        return runtime.InferenceSession(model, options, providers=providers, enable_fallback=0)
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
        raise ExportError(f"{path} cannot be read as an ONNX model: {error}") from None


def processor() -> str:
    """The processor's name, as far as the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _on_cuda(
    runtime: Any, model: bytes | str, options: onnxruntime.SessionOptions, device: Device
) -> onnxruntime.InferenceSession | None:
    """The file on the GPU; None, for the device `auto`, if that is not possible."""
    there = runtime.get_available_providers()
    reason = f"the installed ONNX Runtime supports only {', '.join(there)}"
    if CUDA in there:
        if hasattr(runtime, "preload_dlls"):
            runtime.preload_dlls()  # CUDA's libraries, if installed as Python packages
        try:
            providers = [(CUDA, _CUDA_OPTIONS)]
            # Falling back from a GPU would print to standard output, which is for results.
            session = runtime.InferenceSession(model, options, providers=providers, enable_fallback=0)
            if CUDA in session.get_providers():
                return session
            reason = "its CUDA provider does not start: an NVIDIA GPU, its driver, CUDA or cuDNN is missing"
        except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
            reason = str(error)
    if device == "auto":
        return None
    raise ConfigError(
        f"The device cuda is not available: {reason}. Install it with: pip uninstall -y onnxruntime && "
        "pip install 'onnxruntime-gpu[cuda,cudnn]'. Or use the CPU: --device cpu"
    )


def _checked(path: Path, addition: bytes) -> bytes | str:
    """What ONNX Runtime opens: the file's path, or its bytes with the addition, after checking them."""
    try:
        with path.open("rb") as file:
            whole = None if addition else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            content = file.read() + addition if whole is None else whole
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise ExportError(f"{path} cannot be read as an ONNX model: {error}.") from None
    refuse_other_files(memoryview(content), str(path))
    return content if isinstance(content, bytes) else os.fspath(path)
