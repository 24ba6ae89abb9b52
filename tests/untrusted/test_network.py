"""No command looks up a name or connects to anything beyond this machine, and nothing is queued for later.

Each runs under strace, which sees what C++ libraries do as well, with a home folder of its own: ONNX Runtime writes
what it will send there at once, and sends it some ten seconds later.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tellapart.cli.commands import COMMANDS
from tests.command import COMMAND
from tests.conftest import make_shapes

pytestmark = pytest.mark.slow

STRACE = shutil.which("strace")
TRACED = bool(STRACE) and subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True).returncode == 0
if not TRACED and "CI" not in os.environ:
    pytest.skip("strace is not installed, or may not trace", allow_module_level=True)
pytest.importorskip("keras")

SMALL = [
    word
    for setting in (
        "model.name=cnn", "model.filters=[4]", "model.dense=[4]", "image.height=24", "image.width=24", "train.epochs=2",
        "data.validation_fraction=0.5",
    )
    for word in ("--set", setting)
]  # fmt: skip
ADDRESS = re.compile(r'sin6?_port=htons\((\d+)\).*?(?:inet_addr\(|inet_pton\(AF_INET6, )"([^"]+)"')
RESOLVER = re.compile(r'sun_path="[^"]*resolve[^"]*"')
OURS = re.compile(r"\.cache/(tellapart|matplotlib)(/|$)|\.config/matplotlib(/|$)|\.keras(/|$)|\.(cache|config)$")
"""What may come to lie in a home folder: tellapart's cache, Keras' settings, and what MLflow's matplotlib keeps."""
COMMAND_LINES: dict[str, list[str]] = {
    "demo": ["demo", "--fast", "--no-open"],
    "check": ["check", "shapes", "--deep"],
    "train": ["train", "shapes", *SMALL, "--out", "run"],
    "train on a backbone": [
        "train",
        "shapes",
        "--out",
        "on-base",
        "--set",
        "image.height=64",
        "--set",
        "image.width=64",
    ],
    "predict": ["predict", "run", "shapes"],
    "evaluate": ["evaluate", "run"],
    "explain": ["explain", "run", "shapes/disc/disc 0.png"],
    "report": ["report", "run"],
    "runs": ["runs", "."],
    "compare": ["compare", "run", "on-base"],
    "ladder": ["ladder", "shapes", "--rung", "dense", "--rung", "conv", "--budget", "1m", "--out", "ladder"],
    "models": ["models"],
    "recipes": ["recipes"],
    "layouts": ["layouts"],
    "fetch": ["fetch"],
    "features": ["features", "shapes", "--out", "features.npz", "--neighbours", "2"],
    "export": ["export", "run"],
    "export to web": ["export", "run", "--to", "web"],
    "push": ["push", "run", "hf://me/pets", "--dry-run"],
    "optimize": ["optimize", "run", "--keep", "0.9"],
    "export int8": ["export", "run", "--to", "onnx", "--quantize", "int8"],
}
EXTRAS = {
    "export to litert": ("ai_edge_litert", ["export", "run", "--to", "litert"]),
    "export to coreml": ("coremltools", ["export", "run", "--to", "coreml"]),
    "export to mlflow": ("mlflow", ["export", "run", "--to", "mlflow"]),
    "export to openvino": ("openvino", ["export", "run", "--to", "openvino"]),
    "tune": ("optuna", ["tune", "shapes", *SMALL, "--trials", "2", "--budget", "1m", "--out", "tune"]),
    "mlflow": ("mlflow", ["train", "shapes", *SMALL, "--track", "mlflow", "--out", "told"]),
    "tensorboard": ("tensorboard", ["train", "shapes", *SMALL, "--track", "tensorboard", "--out", "tracked"]),
}
NEEDS = {"on-base": "train on a backbone", "run": "train"}


@dataclass
class Machine:
    """A folder to work in, and a home folder."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def words(self, arguments: Sequence[str]) -> list[str]:
        traced = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg,sendmmsg"]
        return [*traced, "-o", str(self.folder / "trace"), *COMMAND, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """None of the variables by which a library knows a machine of tests, where it keeps quiet."""
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG") if name in os.environ}
        return {**kept, "HOME": str(self.home), "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}

    def call(self, arguments: Sequence[str]) -> None:
        done = subprocess.run(
            self.words(arguments), capture_output=True, text=True, check=False, cwd=self.folder, env=self.environment
        )
        assert done.returncode in (0, 1), done.stderr
        assert "Traceback" not in done.stderr
        self.assert_alone()

    def assert_alone(self) -> None:
        lines = (self.folder / "trace").read_text(errors="replace").splitlines()
        outside = [line for line in lines if RESOLVER.search(line) or any(map(_leaves, ADDRESS.findall(line)))]
        assert outside == []
        left = [str(path.relative_to(self.home)) for path in self.home.rglob("*")]
        assert [name for name in left if not OURS.search(name)] == []


def _leaves(found: tuple[str, str]) -> bool:
    """Whether a port and address are not this machine's, or are its name server's."""
    port, address = found
    return port == "53" or not (address.startswith("127.") or address in ("::1", "::ffff:127.0.0.1"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    made = Machine(tmp_path_factory.mktemp("machine"))
    made.home.mkdir()
    make_shapes(made.folder / "shapes", ("disc", "stripes"), 30)
    return made


def test_every_command_is_tried() -> None:
    tried = {words[0] for words in (*COMMAND_LINES.values(), *(words for _, words in EXTRAS.values()))}
    assert tried | {"serve", "studio", "pull"} == set(COMMANDS)


@pytest.mark.parametrize("name", [*COMMAND_LINES, *EXTRAS])
def test_a_command_reaches_for_nobody(name: str, machine: Machine) -> None:
    if name in EXTRAS:
        pytest.importorskip(EXTRAS[name][0])
    words = COMMAND_LINES.get(name) or EXTRAS[name][1]
    for needed, command in NEEDS.items():
        if needed in words and "train" not in words and not (machine.folder / needed).exists():
            machine.call(COMMAND_LINES[command])
    machine.call(words)


def test_a_server_reaches_for_nobody_while_it_waits(machine: Machine) -> None:
    """For as long as telemetry would wait before it sends, which is longer than a command runs."""
    pytest.importorskip("uvicorn")
    if not (machine.folder / "run").exists():
        machine.call(COMMAND_LINES["train"])
    words = machine.words(["serve", "run", "--port", "0"])
    server = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, cwd=machine.folder, env=machine.environment, start_new_session=True
    )
    assert server.stderr is not None
    line = next(line for line in server.stderr if line.startswith("Serving "))
    content = (machine.folder / "shapes/disc/disc 0.png").read_bytes()
    asked = urllib.request.Request(
        line.split(" on ")[1].split()[0] + "/v1/predict", content, {"content-type": "image/png"}
    )
    with urllib.request.urlopen(asked) as answer:
        assert answer.status == 200
    time.sleep(15)
    os.killpg(server.pid, signal.SIGTERM)
    server.communicate(timeout=30)
    machine.assert_alone()


def test_the_studio_reaches_for_nobody(machine: Machine) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("cleanlab")
    words = machine.words(["studio", "shapes", "--no-browser", "--port", "0"])
    server = subprocess.Popen(
        words, stderr=subprocess.PIPE, text=True, cwd=machine.folder, env=machine.environment, start_new_session=True
    )
    assert server.stderr is not None
    place = next(line for line in server.stderr if line.startswith("Studio ")).split(" on ")[1].split()[0]
    place, _, token = place.partition("/?token=")
    asked = urllib.request.Request(f"{place}/v1/state", headers={"authorization": f"Bearer {token}"})
    looking = True
    while looking:
        with urllib.request.urlopen(asked) as answer:
            looking = not json.load(answer)["looking"]["over"]
        time.sleep(0.2)
    os.killpg(server.pid, signal.SIGTERM)
    server.communicate(timeout=30)
    machine.assert_alone()
