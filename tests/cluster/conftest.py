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


TRIES = 5
"""Ray gives up on a node that takes 30 seconds to start, as on a busy machine."""


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[TwoNodes]:
    pytest.importorskip("ray")
    words = [sys.executable, str(Path(__file__).with_name("two_nodes.py"))]
    for _ in range(TRIES):
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = next((line for line in process.stdout if line.startswith("{")), "")
            if said:
                yield TwoNodes(**json.loads(said))
                process.communicate()
                return
    pytest.fail("the cluster did not start")
