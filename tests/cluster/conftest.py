from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class TwoNodes:
    """address: of the cluster. raylet: the process of the second node that makes it a node."""

    address: str
    raylet: int


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[TwoNodes]:
    pytest.importorskip("ray")
    words = [sys.executable, str(Path(__file__).with_name("two_nodes.py"))]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = next((line for line in process.stdout if line.startswith("{")), "")
        assert said, "the cluster did not start"
        yield TwoNodes(**json.loads(said))
        process.communicate()
