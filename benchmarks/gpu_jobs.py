"""`python -m benchmarks.gpu_jobs JOB ORDER`: one job of the GPU benchmark; a line of JSON for each of its rows.

Started by benchmarks.gpu.
"""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu_order import Order, tell
from benchmarks.gpu_training import training

COMMAND = [sys.executable, "-c", "from tellapart.cli.main import run; run()"]
BACKBONE = "efficientnet-lite0"
CLIENTS = 32


def frozen(order: Order) -> None:
    """The whole command, with empty caches."""
    out = order.run if not order.run.exists() else order.work / f"run-{order.backend}"
    size = ["--set", f"image.height={order.side}", "--set", f"image.width={order.side}"]
    with tempfile.TemporaryDirectory(dir=order.work) as cache:
        arguments = ["train", str(order.work / "images"), "--out", str(out), *size]
        seconds = _seconds(arguments, {"TELLAPART_CACHE": cache})
    tell(order, "", seconds, "s", f"{len(order.files()):,} images; {_accuracy(out)}")


def demo(order: Order) -> None:
    with tempfile.TemporaryDirectory(dir=order.work) as folder:
        out = Path(folder) / "run"
        arguments = ["demo", "--no-open", "--out", str(out), *(["--fast"] if order.smoke else [])]
        seconds = _seconds(arguments, {"TELLAPART_CACHE": str(Path(folder) / "cache")})
        tell(order, "", seconds, "s", _accuracy(out))


def scratch(order: Order) -> None:
    size = 32 if order.smoke else 128
    training(order, ["model.name=resnet-small", f"image.height={size}", f"image.width={size}"])


def fine_tuned(order: Order) -> None:
    size = (f"image.height={order.side}", f"image.width={order.side}")
    training(order, [f"model.name={BACKBONE}", *size, "train.fine_tune=4"])


def features(order: Order) -> None:
    """By Keras, as on a GPU, whatever the machine: one batch repeated, then files."""
    from tellapart.models.backend import choose_precision
    from tellapart.models.classifier import Classifier
    from tellapart.models.feature_engine import _in_keras
    from tellapart.task import ImageSpec, Task

    precision, why = choose_precision("auto")
    tell(order, "chooses for training", None, "", f"{precision}: {why}")
    model = Classifier.from_name(Task(("even", "odd")), ImageSpec(order.side, order.side), BACKBONE)
    engine = _in_keras(model.features_network())
    _features(order, engine, "float32")


def features_onnx(order: Order) -> None:
    """On all cores, and by ONNX Runtime's CUDA provider if it is installed."""
    from tellapart.errors import ConfigError
    from tellapart.models.feature_engine import FeatureEngine, bundled_engine
    from tellapart.models.features import union
    from tellapart.models.pretrained import PRETRAINED, candidates
    from tellapart.models.pretrained_weights import bundled_graph
    from tellapart.models.runtime import open_session
    from tellapart.parallel import cores

    taken = union(candidates(PRETRAINED[BACKBONE]).values())
    names = [pool.key for pool in taken.pools]
    engine = bundled_engine(BACKBONE, taken)
    _features(order, engine, f"ONNX Runtime on {cores()} cores")
    try:
        session = open_session(bundled_graph(BACKBONE), ours=True, device="cuda")
    except ConfigError as error:
        tell(order, "ONNX Runtime's provider for CUDA", None, "", f"not installed: {error}")
        return

    def compute(batch: np.ndarray) -> np.ndarray:
        return np.concatenate(session.run(names, {session.get_inputs()[0].name: batch}), axis=1)

    on_gpu = FeatureEngine("onnxruntime-cuda", compute, engine.widths, many=True, batch=64)
    _features(order, on_gpu, "ONNX Runtime's provider for CUDA")


def _features(order: Order, engine: Any, how: str) -> None:
    """From memory in as many threads as extraction has, and by extraction from files, which it decodes."""
    from tellapart.data.batches import Images
    from tellapart.data.cache import content_digest
    from tellapart.data.catalog import ImageRecord
    from tellapart.parallel import cores, in_order
    from tellapart.task import ImageSpec
    from tellapart.training.features import extract, feature_cache

    batch = np.random.default_rng(0).integers(0, 256, (engine.batch, order.side, order.side, 3), np.uint8)
    engine.compute(batch)
    groups = [batch] * max(2, (64 if order.smoke else 8192) // engine.batch)
    started = time.perf_counter()
    computed = sum(map(len, in_order(engine.compute, groups, ahead=cores() + 2)))
    alone = computed / (time.perf_counter() - started)
    tell(order, f"{how}, from memory", alone, "images/s")
    files, root = order.files(), order.work / "images"
    rows = [
        ImageRecord(str(path.relative_to(root)), path.parent.name, digest=content_digest(path.read_bytes()))
        for path in files
    ]
    spec = ImageSpec(order.side, order.side)
    images = Images(root, rows, spec, open_row=lambda folder, name: folder / name)
    with feature_cache(f"benchmark-{os.getpid()}-{engine.name}", engine.width, 10**9) as cache:
        started = time.perf_counter()
        extract(engine, images, cache)
        found = len(files) / (time.perf_counter() - started)
    tell(order, f"{how}, from files", found, "images/s", f"{100 * found / alone:.0f} % of that from memory")


def predict(order: Order) -> None:
    files = order.files()
    listing = "\n".join(map(str, files)) + "\n"
    for device in ("cpu", "cuda", "auto"):
        started = time.perf_counter()
        done = subprocess.run(
            [*COMMAND, "predict", str(order.run), "-", "--device", device, "--out", str(order.work / "answers.csv")],
            input=listing, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            tell(order, f"--device {device}", None, "", f"exit code {done.returncode}: {done.stderr.strip()[-400:]}")
        else:
            pace = len(files) / (time.perf_counter() - started)
            tell(order, f"--device {device}", pace, "images/s", "from the shell")


def serve(order: Order) -> None:
    for device in ("cpu", "cuda", "auto"):
        try:
            with _server(order, device) as port:
                tell(order, f"--device {device}", _asked(order, port), "images/s")
        except RuntimeError as error:
            tell(order, f"--device {device}", None, "", str(error))


@contextmanager
def _server(order: Order, device: str) -> Iterator[int]:
    """The port of `tellapart serve`. Raises RuntimeError with its output if it does not start."""
    command = [*COMMAND, "serve", str(order.run), "--port", "0", "--device", device, "--queue", "512"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        said = ""
        for line in process.stderr:
            said += line
            if "http://" in line:
                break
        if "http://" not in said:
            raise RuntimeError(f"exit code {process.wait()}: {said.strip()[-400:]}")
        try:
            yield int(said.rpartition("http://")[2].split()[0].rpartition(":")[2])
        finally:
            process.terminate()


def _asked(order: Order, port: int) -> float:
    """Responses per second to CLIENTS, each over a connection of its own, one image per request."""
    contents = [path.read_bytes() for path in order.files()[:256]]
    until = time.perf_counter() + (1 if order.smoke else 4)
    counts = [0] * CLIENTS

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        while time.perf_counter() < until:
            content = contents[(number + counts[number]) % len(contents)]
            connection.request("POST", "/v1/predict", content, {"Content-Type": "image/jpeg"})
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"the server answered {answer.status}")
            counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def _seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """Wall time of a command. Raises RuntimeError with its output if it fails."""
    started = time.perf_counter()
    done = subprocess.run([*COMMAND, *arguments], env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode not in (0, 1):  # 1: something needs a person
        raise RuntimeError(f"exit code {done.returncode}: {done.stderr.strip()[-400:]}")
    return time.perf_counter() - started


def _accuracy(run: Path) -> str:
    found = json.loads((run / "metrics.json").read_text())["test"]["accuracy"]
    return f"test accuracy {found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


DOES: dict[str, Callable[[Order], None]] = {
    does.__name__: does for does in (frozen, scratch, fine_tuned, features, features_onnx, predict, serve, demo)
}


if __name__ == "__main__":
    values = json.loads(sys.argv[2])
    DOES[sys.argv[1]](Order(**{**values, "work": Path(values["work"])}))
