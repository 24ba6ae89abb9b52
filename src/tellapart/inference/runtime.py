"""The one place that starts ONNX Runtime: without telemetry, on the cores there are, with files looked through before.

Imports no TensorFlow. Read by: predictor, export, formats, training.features.
"""

from __future__ import annotations

import importlib
import mmap
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.errors import ExportError
from tellapart.inference.onnx_file import refuse_other_files
from tellapart.parallel import cores

if TYPE_CHECKING:
    import onnxruntime


_SENDING = "AzureExecutionProvider"  # it sends what it is given to the address that a file names


def onnx_runtime(part: str = "") -> Any:
    """The onnxruntime module, or a part of it such as `.quantization`, told to report nothing to its maker.

    Only the variable keeps it from looking up its maker's server, and only where it is set before the import; the call
    is for a process that had imported it before.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    runtime = importlib.import_module("onnxruntime")
    getattr(runtime, "disable_telemetry_events", lambda: None)()  # not in every version
    return importlib.import_module(f"onnxruntime{part}") if part else runtime


def open_session(
    path: Path, threads: int | None = None, addition: bytes = b"", *, ours: bool = False
) -> onnxruntime.InferenceSession:
    """An ONNX file in ONNX Runtime, on all cores or as many as given. Raises ExportError for one that is no use, or
    that would have the runtime read other files.

    addition: a piece of an ONNX file with more nodes and outputs. Protocol buffers that stand behind each other are
    read as one. ours: the file is the package's own, and may read another of its files.
    """
    runtime = onnx_runtime()
    model = os.fspath(path) if ours else _checked(path, addition)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.log_severity_level = 3
    # Threads that wait in a loop take the processor from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its other format, which the first bytes of a file would choose, is not what was looked through.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    providers = [name for name in runtime.get_available_providers() if name != _SENDING]
    try:
        # Falling back from a GPU is told on standard output, which holds answers: only where there is one.
        return runtime.InferenceSession(model, options, providers=providers, enable_fallback=int(len(providers) > 1))
    except Exception as error:  # noqa: BLE001 - onnxruntime's errors share no base class
        raise ExportError(f"{path} cannot be read as an ONNX model: {error}") from None


def _checked(path: Path, addition: bytes) -> bytes | str:
    """What ONNX Runtime opens: the file's path, or its bytes with the addition, looked through before."""
    try:
        with path.open("rb") as file:
            whole = None if addition else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            content = file.read() + addition if whole is None else whole
    except (OSError, ValueError) as error:  # ValueError: an empty file
        raise ExportError(f"{path} cannot be read as an ONNX model: {error}.") from None
    refuse_other_files(memoryview(content), str(path))
    return content if isinstance(content, bytes) else os.fspath(path)
