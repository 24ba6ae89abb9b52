"""`train --cluster` of a network from scratch: one process on each machine of a real Ray cluster of two nodes."""

from __future__ import annotations

import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import psutil
import pytest

import tellapart as ta
from tellapart.cluster.connection import Node
from tellapart.cluster.processes import _needs
from tellapart.errors import ConfigError
from tests.cluster.conftest import TwoNodes
from tests.command import COMMAND, PATIENCE
from tests.training.several import SET, environment, started
from tests.training.test_several_devices import losses


def test_machines_with_different_numbers_of_gpus_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="second has 1 GPUs and first, this machine, 2"):
        _needs(Node("a", "first", 8, 2), [Node("a", "first", 8, 2), Node("b", "second", 8, 1)])


@pytest.mark.soak
def test_a_process_that_is_lost_ends_the_training_which_resumes_with_what_one_device_learns(
    two_nodes: TwoNodes, shapes: Path, tmp_path: Path
) -> None:
    pytest.importorskip("jax")
    one, two = tmp_path / "one", tmp_path / "two"
    env = environment(0, 1, "")
    done = subprocess.run([*COMMAND, "train", str(shapes), "--out", str(one), *SET], env=env, check=False)
    assert done.returncode == 0
    words = ["train", shapes, "--out", two, *SET, "--set", "train.epochs=2000", "--cluster", two_nodes.address]
    with ExitStack() as stack:
        process = started(stack, words, env)
        history, deadline = two / "history.jsonl", time.monotonic() + 120
        while not (history.exists() and len(history.read_text().splitlines()) >= 3):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (other,) = (
            worker
            for worker in psutil.Process(two_nodes.raylet).children(recursive=True)
            if "take_part" in " ".join(worker.cmdline())
        )
        other.kill()
        said = process.communicate(timeout=PATIENCE)[1]
    assert process.returncode == 2, said
    assert "Process 1 on" in said
    assert "was lost" in said
    config = two / "config.toml"
    config.write_text(config.read_text().replace("epochs = 2000", f"epochs = {len(ta.open_run(two).history)}"))
    words = [*COMMAND, "train", "--resume", str(two), "--cluster", two_nodes.address]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (
        "trained on 2 devices in 2 processes, each with an equal part of every batch" in ta.open_run(two).record.decided
    )
    np.testing.assert_allclose(losses(two)[:3], losses(one), atol=1e-4)
