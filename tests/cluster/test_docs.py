"""docs/how-to/cluster.md, run as it stands, from `ray start --head` to the answers."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cluster.conftest import TRIES
from tests.command import COMMAND

parquet = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("ray")
pytestmark = pytest.mark.soak

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "cluster.md"


def test_the_commands_of_the_page_lead_from_no_cluster_to_the_answers(
    shapes_run: Path, two_shapes: Path, tmp_path: Path
) -> None:
    lines = re.findall(r"```\n(.*?)```", PAGE.read_text(), re.DOTALL)[0].splitlines()
    install, head, _, predict = (shlex.split(line, comments=True) for line in lines)
    assert install == ["pip", "install", "tellapart[cluster]"]
    assert head[:3] == ["ray", "start", "--head"]

    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "pets").symlink_to(shapes_run)
    (tmp_path / "photos").symlink_to(two_shapes)
    train = shlex.split(next(line for line in PAGE.read_text().splitlines() if line.startswith("tellapart train")))
    log = tmp_path / "ray.log"
    for _ in range(TRIES):
        with started(head[1:], log) as (cluster, address):
            # Nothing else takes its processor meanwhile: a node ends itself if its agent is too slow to start.
            while cluster.poll() is None and b"Ray runtime started" not in log.read_bytes():
                time.sleep(0.5)
            done = told(predict, address, tmp_path)
            taught = told(train, address, tmp_path) if done.returncode == 0 else done
        if taught.returncode == 0:
            break
    assert taught.returncode == 0, taught.stderr + log.read_text()
    assert parquet.read_table(tmp_path / "answers").num_rows == 60
    assert list((tmp_path / "features").glob("*/*.arrow"))


def told(words: list[str], address: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """A command of the page, given in a folder, with the cluster's address."""
    words = [*COMMAND, *words[1:]]
    words[words.index("auto")] = address
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)


@contextmanager
def started(head: list[str], log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """`ray start --head` as on the page, and its address; but it ends with this process, on a port that is free, and
    with the cores that Ray Data needs."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # short, as it holds sockets
    words = [str(Path(sys.executable).with_name("ray")), *head]
    words[words.index("6379")] = str(port)
    words += ["--block", "--num-cpus", "3", "--temp-dir", folder, "--include-dashboard", "false"]
    env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with (
        log.open("wb") as file,
        subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT, env=env) as cluster,
    ):
        try:
            yield cluster, f"127.0.0.1:{port}"
        finally:
            cluster.terminate()
    shutil.rmtree(folder, ignore_errors=True)
