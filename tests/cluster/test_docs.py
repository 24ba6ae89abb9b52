"""docs/how-to/cluster.md, run as it stands, from `ray start --head` to the answers."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

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
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    # As on the page, but it ends with this process, on a port that is free, and with cores that Ray Data needs.
    words = [str(Path(sys.executable).with_name("ray")), *head[1:]]
    words[words.index("6379")] = str(port)
    words += ["--block", "--num-cpus", "3", "--temp-dir", folder, "--include-dashboard", "false"]
    env = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env) as cluster:
        try:
            words = [*COMMAND, *predict[1:]]
            words[words.index("auto")] = f"127.0.0.1:{port}"
            for _ in range(20):
                time.sleep(5)
                done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
                if done.returncode == 0 or cluster.poll() is not None:
                    break
        finally:
            cluster.terminate()
    assert done.returncode == 0, done.stderr
    assert parquet.read_table(tmp_path / "answers").num_rows == 60
