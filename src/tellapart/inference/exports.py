"""The table of export formats by name; rows load on demand, so `tellapart export --help` imports no runtime."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tellapart.errors import ExportError
from tellapart.tables import Table

if TYPE_CHECKING:
    from tellapart.inference.export_formats import ExportFormat

_ROWS = {
    "onnx": "export_formats:ONNX",
    "litert": "litert_export:LITERT",
    "mediapipe": "litert_export:MEDIAPIPE",
    "coreml": "coreml_export:COREML",
    "saved-model": "export_formats:SAVED_MODEL",
    "openvino": "export_formats:OPENVINO",
    "keras": "export_formats:KERAS",
    "web": "web_export:WEB",
    "mlflow": "mlflow_export:MLFLOW_MODEL",
}
_OTHER_NAMES = {
    **dict.fromkeys(("tflite", "tensorflow-lite", "tf-lite"), "litert"),
    **dict.fromkeys(("android", "mediapipe-tasks"), "mediapipe"),
    **dict.fromkeys(("core-ml", "mlpackage", "mlmodel", "ios"), "coreml"),
    **dict.fromkeys(("savedmodel", "saved_model", "tensorflow", "tf"), "saved-model"),
    **dict.fromkeys(("vino", "ir"), "openvino"),
    **dict.fromkeys(("h5", "hdf5", ".keras"), "keras"),
    **dict.fromkeys(("pyfunc", "mlmodel"), "mlflow"),
    **dict.fromkeys(("html", "browser", "onnxruntime-web"), "web"),
}

EXPORTS: Table[ExportFormat] = Table(
    "exports",
    "format",
    "tellapart.inference.export_formats:ExportFormat",
    ExportError,
    {name: f"tellapart.inference.{row}" for name, row in _ROWS.items()},
    aliases=_OTHER_NAMES,
)
