"""`python -m benchmarks gpu`: the speed of training, features, predict and serve on this machine's GPU, in one table.

Each job runs in its own process with a time limit, so that a job that fails or hangs does not affect the others; the
table is written again after each. What is not installed here is a row that says so. Jobs: gpu_jobs.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.gpu_images import make_images
from benchmarks.process import ROOT
from tellapart.parallel import cores

BACKENDS = ("tensorflow", "jax")
PRECISIONS = ("bfloat16", "float32")
LIBRARIES = ("tensorflow", "jax", "keras", "numpy", "opencv-python-headless", "onnxruntime", "onnxruntime-gpu")
IMAGES = {True: 40, False: 4096}
"""With smoke."""


@dataclass(frozen=True)
class Job:
    """name: of its function in gpu_jobs. seconds: its time limit."""

    name: str
    title: str
    seconds: int = 75
    backends: tuple[str, ...] = BACKENDS
    precisions: tuple[str, ...] = ("",)


JOBS = (
    Job("frozen", "train on a frozen backbone, from the shell", 100),
    Job("scratch", "train from nothing: resnet-small, 128x128, batch 64, augmented", precisions=PRECISIONS),
    Job(
        "fine_tuned",
        "fine-tune efficientnet-lite0, 224x224, batch 64, augmented",
        100,
        precisions=PRECISIONS,
    ),
    Job("features", "features of efficientnet-lite0, 224x224, by Keras"),
    Job("features_onnx", "features of efficientnet-lite0, 224x224, by ONNX Runtime", backends=("",)),
    Job("predict", "predict files with the run of the first row", backends=("",)),
    Job("serve", "serve the run of the first row, 32 clients in Python on the same cores", backends=("",)),
    Job("demo", "tellapart demo, from the shell", 100),
)


@dataclass(frozen=True)
class Row:
    """value: None if there is none; note: the reason, or a remark."""

    job: str
    way: str
    value: float | None
    unit: str
    note: str = ""


def main(arguments: list[str]) -> None:
    given = _parser().parse_args(arguments)
    about = _machine()
    if about["gpu"] == "none" and not given.smoke:
        _parser().error("there is no GPU here (nvidia-smi names none); --smoke runs all jobs, small, on the processor")
    rows: list[Row] = []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="tellapart-gpu-") as temporary:
        work = Path(temporary)
        make_images(work / "images", IMAGES[given.smoke], 96 if given.smoke else 320)
        for job in JOBS:
            for backend in job.backends if not given.only or job.name in given.only else ():
                for precision in job.precisions:
                    left = 60 * given.minutes - (time.monotonic() - begun)
                    found = _run(job, backend, precision, work, given.smoke, left)
                    rows += found
                    for row in found:
                        print(_line(row), file=sys.stderr, flush=True)
                    _write(given.out, given.json, about, rows)
    if not given.out:
        print(_table(about, rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description="One table of what the GPU reaches.")
    parser.add_argument("--out", type=Path, help="write the table here, in Markdown, after each job")
    parser.add_argument("--json", type=Path, help="write the figures here, after each job")
    parser.add_argument("--minutes", type=float, default=6.0, help="no job goes on after these  [%(default)s]")
    parser.add_argument("--only", nargs="+", choices=[job.name for job in JOBS], metavar="JOB", help="these jobs alone")
    parser.add_argument("--smoke", action="store_true", help="see that all runs: few images, small, on any machine")
    return parser


def _run(job: Job, backend: str, precision: str, work: Path, smoke: bool, left: float) -> list[Row]:
    """The rows of one process: those that it reported before it ended, and one more if it failed."""
    way = " ".join(part for part in (backend, precision) if part)
    if backend and importlib.util.find_spec(backend) is None:
        return [Row(job.title, way, None, "", "not installed")]
    limit = min(job.seconds, left)
    if limit < 5:
        return [Row(job.title, way, None, "", "no time was left (--minutes)")]
    order = {"work": str(work), "backend": backend, "precision": precision, "smoke": smoke}
    environment = {
        **os.environ,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TELLAPART_CACHE": str(work / "cache"),
        # Also for processes that set none: code compiled by one job is used by the next.
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]),
        **({"KERAS_BACKEND": backend} if backend else {}),
    }
    command = [sys.executable, "-m", "benchmarks.gpu_jobs", job.name, json.dumps(order)]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
        )
        try:
            ended = process.wait(limit)
            failure = "" if ended == 0 else f"failed with exit code {ended}"
        except subprocess.TimeoutExpired:
            failure = f"was stopped after {limit:.0f} s"
        finally:
            _end(process)
        out.seek(0)
        err.seek(0)
        said = [json.loads(line) for line in out.read().splitlines() if line.startswith('{"row"')]
        if failure:
            last = [line for line in err.read().splitlines() if line.strip()][-1:]
            said.append({"row": way, "value": None, "unit": "", "note": " ".join([failure, *last])[:400]})
    return [Row(job.title, row["row"], row["value"], row["unit"], row["note"]) for row in said]


def _end(process: subprocess.Popen[Any]) -> None:
    """Including child processes, which are in a session of their own."""
    if process.poll() is None:
        os.killpg(process.pid, 9)
        process.wait()


def _machine() -> dict[str, str]:
    versions = {}
    for name in LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "gpu": _gpu() or "none",
        "cores": str(cores()),
        "python": platform.python_version(),
        **versions,
    }


def _gpu() -> str:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ""
    query = [tool, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=60)
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else ""


def _write(table: Path | None, figures: Path | None, about: dict[str, str], rows: list[Row]) -> None:
    if table:
        table.write_text(_table(about, rows), encoding="utf-8")
    if figures:
        figures.write_text(json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=2), encoding="utf-8")


def _table(about: dict[str, str], rows: list[Row]) -> str:
    lines = [", ".join(f"{name} {value}" for name, value in about.items()), ""]
    lines += ["| job | way | figure | beside |", "|---|---|---|---|"]
    before = ""
    for row in rows:
        cells = ("" if row.job == before else row.job, row.way, _figure(row), row.note.replace("|", "/"))
        lines.append("| " + " | ".join(cells) + " |")
        before = row.job
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    return "  ".join(part for part in (row.job, row.way, _figure(row), row.note) if part)


def _figure(row: Row) -> str:
    if row.value is None:
        return ""
    return f"{row.value:,.0f} {row.unit}" if row.value >= 100 else f"{row.value:.3g} {row.unit}"
