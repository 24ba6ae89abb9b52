"""ONNX Runtime for browsers, as the npm registry has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from tellapart.inference.web_export import RUNTIME_FILES, RUNTIME_VERSION
from tests.command import PATIENCE


def npm_package(folder: Path) -> Path:
    """The npm package, from $ONNXRUNTIME_WEB or the registry; skips the test where neither has it."""
    if given := os.environ.get("ONNXRUNTIME_WEB"):
        return Path(given)
    if not (npm := shutil.which("npm")):
        pytest.skip("npm is not installed, and ONNXRUNTIME_WEB is not set")
    command = [npm, "pack", "--silent", f"onnxruntime-web@{RUNTIME_VERSION}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        pytest.skip(f"the npm registry does not give onnxruntime-web: {done.stderr[-200:]}")
    with tarfile.open(next(folder.glob("*.tgz"))) as archive:
        for name in RUNTIME_FILES:
            archive.extract(f"package/dist/{name}", folder, filter="data")
    return folder / "package"
