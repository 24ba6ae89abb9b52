"""The table of entry points for untrusted bytes. A new reader is a new row.

Nothing of the package is imported before a target runs: the fuzzer is guided by the modules that it sees imported.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tests.fuzz import seeds
from tests.fuzz.target import Target

PIXELS = 4_000_000
"""Of one image: what is allowed beyond is a matter of memory alone."""


def read_image(data: bytes, _: Path) -> None:
    from tellapart.data.pixels import decode
    from tellapart.task import ImageSpec

    decode(data, ImageSpec(32, 32), PIXELS, thumbnail=True)
    decode(data, None, PIXELS)


def read_archive(data: bytes, folder: Path) -> None:
    from tellapart.config import DataConfig
    from tellapart.data.sources import read_source

    os.environ["TELLAPART_CACHE"] = str(folder / "cache")
    path = folder / "images.zip"
    path.write_bytes(data)
    read_source(path, DataConfig())


def read_table(data: bytes, folder: Path) -> None:
    from tellapart.config import DataConfig
    from tellapart.data.sources import open_row, read_source

    for name in "abc":
        (folder / f"{name}.png").touch()
    os.environ["TELLAPART_CACHE"] = str(folder / "cache")
    path = folder / f"labels{seeds.TABLES[data[0] % len(seeds.TABLES)] if data else '.csv'}"
    path.write_bytes(data[1:])
    source = read_source(path, DataConfig())
    for row in source.rows[:3]:
        open_row(source.root, row.path)


def read_idx(data: bytes, folder: Path) -> None:
    from tellapart.config import DataConfig
    from tellapart.data.sources import open_row, read_source

    name = seeds.IDX[data[0] % len(seeds.IDX)] if data else seeds.IDX[0]
    for number, content in enumerate(seeds.idx().values()):
        if number < 2 and not (number == 0 and name.endswith(".gz")):
            (folder / seeds.IDX[number]).write_bytes(content[1:])
    (folder / name).write_bytes(data[1:])
    source = read_source(folder, DataConfig())
    open_row(source.root, source.rows[0].path)


class _Run:
    """The files of the run that inputs are put into."""

    files: dict[str, bytes]
    network: bytes


def take_run(run: Path) -> None:
    _Run.files = {seeds.RUN_FILES[data[0]]: data[1:] for data in seeds.run_files(run).values()}


def read_run(data: bytes, folder: Path) -> None:
    """What `runs`, `report` and `train --resume` read before anything is done."""
    import numpy as np

    from tellapart.runs.run import open_run
    from tellapart.runs.summary import summarize
    from tellapart.training.checkpoint import Checkpoint

    number = data[0] % len(seeds.RUN_FILES) if data else 0
    for name, content in {**_Run.files, seeds.RUN_FILES[number]: data[1:]}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    run = open_run(folder)
    _ = run.status, run.task, run.spec, run.config, run.history, run.metrics, run.means, run.traits
    task = run.catalog.task
    _ = len(run.catalog), run.catalog.counts(), run.catalog.digest
    summarize(run)
    read_predictions = _reader_of_predictions()
    read_predictions(run.predictions_file, task)
    values = [SimpleNamespace(assign=lambda value: np.empty((2, 2), np.float32).__setitem__(..., value)) for _ in "abc"]
    model: Any = SimpleNamespace(variables=values)
    checkpoint = Checkpoint(run, "")
    checkpoint.restore(model, model)
    checkpoint.restore_best(model)


def _reader_of_predictions() -> Any:
    from tellapart.runs.predictions import read_predictions

    return read_predictions


def take_network(run: Path) -> None:
    _Run.network = (run / "model.onnx").read_bytes()


def open_network(data: bytes, folder: Path) -> None:
    import numpy as np

    from tellapart.inference.predictor import Predictor

    path = folder / "model.onnx"
    path.write_bytes(data)
    predictor = Predictor(path, threads=1)
    if predictor.spec.height * predictor.spec.width > PIXELS:
        return
    for _ in predictor.predict_named([("a", np.zeros((8, 8, 3), np.uint8))]):
        pass


def read_description(data: bytes, folder: Path) -> None:
    from tellapart.inference.predictor import METADATA_KEY

    open_network(seeds.described(_Run.network, METADATA_KEY.encode(), data), folder)


def read_body(data: bytes, _: Path) -> None:
    from tellapart.serve.bodies import parse
    from tellapart.serve.limits import Bounds

    kind, _, body = data.partition(b"\n")
    parse(kind.decode("latin-1"), body, Bounds())


class _Serving:
    """The server that requests are sent to, and how many were."""

    server: Any = None
    sent = 0


EACH = 100
"""After so many requests the server is asked whether it is well."""
SILENCE = 0.3


def start_server(run: Path) -> None:
    from tests.serve.conftest import start

    _Serving.server = start(run)


def send_request(data: bytes, _: Path) -> None:
    """Bytes on a connection of their own. A server that ends, says 500 or is not ready afterwards is at fault."""
    server = _Serving.server
    with socket.create_connection(server.address, timeout=5) as connection:
        connection.settimeout(SILENCE)
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = connection.recv(65_536)
        except OSError:  # it may close, or wait for more
            answer = b""
    if answer and (not answer.startswith(b"HTTP/1.1 ") or answer[9:12] == b"500"):
        raise AssertionError(f"answered {answer[:300]!r}")
    _Serving.sent += 1
    if server.process.poll() is not None:
        raise AssertionError("the server ended")
    if _Serving.sent % EACH == 0:
        _ask_whether_ready(server)


def _ask_whether_ready(server: Any) -> None:
    with socket.create_connection(server.address, timeout=5) as connection:
        connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        answer = connection.recv(65_536)
    if answer[9:12] != b"200":
        raise AssertionError(f"/readyz answered {answer[:300]!r}")


TARGETS = (
    Target("images", seeds.images, read_image, ("tellapart.data.pixels", "PIL")),
    Target("archives", seeds.archives, read_archive, ("tellapart.data.sources",)),
    Target("tables", seeds.tables, read_table, ("tellapart.data.sources",)),
    Target("idx files", seeds.idx, read_idx, ("tellapart.data.sources",)),
    Target(
        "run folders",
        seeds.run_files,
        read_run,
        ("tellapart.runs", "tellapart.config", "tellapart.data.catalog", "tellapart.runs.predictions"),
        prepare=take_run,
    ),
    Target("networks", seeds.networks, open_network, ("tellapart.inference",), promised=None),
    Target(
        "descriptions of networks",
        seeds.descriptions,
        read_description,
        ("tellapart.inference", "tellapart.task", "tellapart.evaluation.selective_prediction"),
        prepare=take_network,
    ),
    Target("request bodies", seeds.bodies, read_body, ("tellapart.serve.bodies", "python_multipart")),
    Target("requests", seeds.requests, send_request, prepare=start_server, connects=True),
)
