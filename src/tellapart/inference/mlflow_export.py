"""A network -> a folder that `mlflow.pyfunc.load_model` opens: the export format `mlflow`. Needs the extra `track`."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from tellapart import __version__
from tellapart.errors import require_extra
from tellapart.files import to_json
from tellapart.inference.export_formats import ONNX, ExportFormat, Run, Shipment
from tellapart.inference.mlflow_model import IMAGE, PATH, output_columns
from tellapart.inference.predictor import Predictor
from tellapart.models.quiet import quiet

LOADER = "tellapart.inference.mlflow_model"
_NETWORK = "model.onnx"


def start_mlflow() -> None:
    """Set what MLflow reads when it is imported. A server that is down may delay training for seconds, not minutes; and
    MLflow's own telemetry is off."""
    for name, value in (
        ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1"),
        ("MLFLOW_HTTP_REQUEST_TIMEOUT", "10"),
        ("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true"),
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
    ):
        os.environ.setdefault(name, value)


def save_pyfunc(onnx: Path, path: Path) -> None:
    """Write the MLflow model of a model.onnx, with signature and example, into a folder that does not exist yet."""
    require_extra("The format mlflow", "tables", "pandas")
    start_mlflow()
    predictor = Predictor(onnx)
    with quiet(errors=True), tempfile.TemporaryDirectory() as folder:
        import pandas
        from mlflow import pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types import ColSpec, Schema

        data = Path(folder) / _NETWORK
        shutil.copyfile(onnx, data)
        kinds = {"label": "string", "verdict": "string", "error": "string"}
        pyfunc.save_model(
            str(path),
            loader_module=LOADER,
            data_path=str(data),
            signature=ModelSignature(
                Schema([ColSpec("binary", IMAGE, required=False), ColSpec("string", PATH, required=False)]),
                Schema([ColSpec(kinds.get(name, "double"), name) for name in output_columns(predictor.task.classes)]),
            ),
            input_example=pandas.DataFrame({IMAGE: [_example(predictor)]}),
            pip_requirements=[f"tellapart=={__version__}", "pandas"],
            metadata=predictor.metadata.to_dict(),
        )


def _example(predictor: Predictor) -> bytes:
    """A drawn image of the network's size."""
    file = io.BytesIO()
    gradient = Image.linear_gradient("L").resize((predictor.spec.width, predictor.spec.height))
    gradient.convert("RGB").save(file, "PNG")
    return file.getvalue()


def _write(shipment: Shipment, path: Path) -> None:
    path.mkdir()
    ONNX.write(shipment, path / _NETWORK)


def _finish(path: Path, record: dict[str, Any]) -> None:
    """The network with its metadata -> the model of MLflow, in its place."""
    assert ONNX.embed is not None
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / _NETWORK
        shutil.move(path / _NETWORK, network)
        ONNX.embed(network, to_json({name: value for name, value in record.items() if name != "path"}))
        path.rmdir()
        save_pyfunc(network, path)


def _run(path: Path) -> Run | None:
    return ONNX.run(next(place for place in (path / _NETWORK, path / "data" / _NETWORK) if place.exists()))


MLFLOW_MODEL = ExportFormat(
    "mlflow", "", "ONNX Runtime", _write, _run, needs=("mlflow", "track"), of_onnx=True, finish=_finish
)  # fmt: skip
