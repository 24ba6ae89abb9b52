"""Runs -> a running server of predictions.

Imports no training library.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tellapart.config import DataConfig
from tellapart.data.feedback import FeedbackFolder
from tellapart.errors import ConfigError
from tellapart.inference.fast import open_fast
from tellapart.inference.predictor import Predictor
from tellapart.models.runtime import Device
from tellapart.runs.run import open_run
from tellapart.serve.app import Application
from tellapart.serve.http_server import answer
from tellapart.serve.limits import Bounds
from tellapart.serve.middleware import Access


def open_predictors(runs: Sequence[str], device: Device = "auto", *, exact: bool = False) -> dict[str, Predictor]:
    """The runs by name, in order, each opened for one thread, as every thread of the server runs the network by itself.
    Each is a run folder or a model.onnx, or NAME=PATH; without a name, the name of the folder. exact: as in
    Run.predictor.

    Raises ConfigError for two of one name and for a device that is not available, RunError or ExportError for one that
    cannot be served.
    """
    found: dict[str, Predictor] = {}
    for given in runs:
        name, path = _named(given)
        if name in found:
            raise ConfigError(f"Two runs are called {name!r}. Give them names: tellapart serve first={path} second=...")
        if path.is_file():
            found[name] = Predictor(path, threads=1, device=device)
        else:
            folder = open_run(path)
            fast = None if exact or device == "cuda" else open_fast(folder, 1, DataConfig())
            file = folder.require(folder.onnx_file, "exported network")
            found[name] = fast or Predictor(file, threads=1, device=device)
    return found


def _named(given: str) -> tuple[str, Path]:
    before, equals, after = given.partition("=")
    if equals and not Path(given).exists():
        return before, Path(after)
    path = Path(given)
    folder = path.absolute().parent if path.is_file() else path.absolute()
    return folder.name, path


def serve(
    predictors: Mapping[str, Predictor],
    place: socket.socket,
    *,
    bounds: Bounds,
    access: Access,
    started: Callable[[str], None],
    feedback: FeedbackFolder | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; then accept nothing more, finish what has begun, and return.

    feedback: where what people say of the answers is kept. started: called with the address once requests are
    answered. A second SIGINT drops what has begun.
    """
    application = Application(predictors, bounds, access, feedback)
    answer(
        application.asgi,
        place,
        per_client=bounds.per_client,
        seconds=bounds.seconds,
        started=started,
        ending=application.service.end,
    )
