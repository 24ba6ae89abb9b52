"""Processes that train one network, over loopback, each with a device or two of its own."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tests.command import COMMAND

SETTINGS = (
    "model.name=cnn", "image.height=32", "image.width=32", "model.filters=[4, 8]", "model.dense=[8]",
    "model.dropout=0.3", "model.batch_normalization=true", "train.precision=float32", "train.batch_size=8",
    "train.epochs=3", "train.patience=0", "train.learning_rate=0.003", "augment=light",
)  # fmt: skip
SET = [part for setting in SETTINGS for part in ("--set", setting)]


def free_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return f"127.0.0.1:{free.getsockname()[1]}"


def environment(rank: int, world: int, address: str, devices: int = 1) -> dict[str, str]:
    place = {"TELLAPART_RANK": str(rank), "TELLAPART_WORLD": str(world), "TELLAPART_COORDINATOR": address}
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
    return {**os.environ, "KERAS_BACKEND": "jax", "COLUMNS": "200", **(place if world > 1 else {}), **flags}


def started(
    stack: ExitStack, words: Sequence[str | Path], env: dict[str, str], cwd: Path | None = None
) -> subprocess.Popen[str]:
    """A command in a process, which ends with the stack."""
    made = subprocess.Popen([*COMMAND, *map(str, words)], env=env, cwd=cwd, stderr=subprocess.PIPE, text=True)
    process = stack.enter_context(made)
    stack.callback(process.kill)
    return process


def trained_in_two(words: Sequence[str | Path], devices: int = 1, seconds: float = 240) -> list[tuple[int, str]]:
    """(exit code, standard error) of two processes with the same command, each with so many devices."""
    address = free_address()
    with ExitStack() as stack:
        both = [started(stack, words, environment(rank, 2, address, devices)) for rank in range(2)]
        said = [process.communicate(timeout=seconds)[1] for process in both]
    return [(process.returncode, text) for process, text in zip(both, said, strict=True)]
