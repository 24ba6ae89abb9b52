from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass
class TwoNodes:
    """address: of the cluster. raylet: the process of the second node that makes it a node."""

    address: str
    raylet: int
    process: subprocess.Popen[str]

    def kill_second(self) -> None:
        os.kill(self.raylet, signal.SIGKILL)

    def add_another(self) -> None:
        """In place of one that was killed, for the next test."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("another\n")
        self.process.stdin.flush()
        self.raylet = int(next(line for line in self.process.stdout if line.strip().isdigit()))


TRIES = 3
"""A node of Ray ends itself if its agent, a process of Python, takes more than 15 seconds to start."""


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[TwoNodes]:
    pytest.importorskip("ray")
    words = [sys.executable, str(Path(__file__).with_name("two_nodes.py"))]
    for _ in range(TRIES):
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = next((line for line in process.stdout if line.startswith("{")), "")
            if said:
                yield TwoNodes(**json.loads(said), process=process)
                process.communicate()
                return
    pytest.skip(f"the machine is too busy for Ray, which did not start in {TRIES} tries")
