"""The one place that starts Keras: chooses its backend, quiets it, and asks the machine what it can do.

Everything else is written against Keras alone. Read by: models, inference.export, training.
"""

from __future__ import annotations

import gc
import importlib
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from tellapart.errors import require_extra

_starting = threading.RLock()

process_is_ours = False
"""Set by the command line: nobody but us uses Keras here, so it may start without what it has for others."""

_FOR_OTHERS = frozenset({"sklearn", "pandas", "matplotlib.pyplot"})
"""What Keras imports, where it finds it, for wrappers, plots and data frames: a third of its start."""


def start_keras() -> Any:
    """The keras module, on TensorFlow unless KERAS_BACKEND says otherwise.

    Raises MissingExtraError where it is not installed; a broken installation raises its own error.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with _starting:
        return _started()


def require_keras() -> None:
    """Raises MissingExtraError where Keras is not installed, at once."""
    require_extra("Training", "train", "keras", os.environ.get("KERAS_BACKEND") or "tensorflow")


def _started() -> Any:
    if "keras" in sys.modules:
        return sys.modules["keras"]
    require_keras()
    with warnings.catch_warnings(), _quiet(), without_collecting(), _without_what_is_for_others():
        # Old names inside the libraries are theirs to mend.
        warnings.simplefilter("ignore")
        import keras

        # The first look at the devices reports what is missing, which a machine without a GPU need not read.
        keras.distribution.list_devices()
        if process_is_ours:
            gc.freeze()  # these million objects stay: no collection need look through them
    # Training many networks in one process traces many functions, of which TensorFlow warns.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return keras


@contextmanager
def without_collecting() -> Iterator[None]:
    """What an import or a network is made of stays: to look through it again and again takes a quarter of TensorFlow's
    start, and a third of the time in which a base is built or opened."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


@contextmanager
def _without_what_is_for_others() -> Iterator[None]:
    """In a process of ours, what this thread imports is not found; other threads import as ever."""
    if not process_is_ours:
        yield
        return
    finder = _NotFound()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _NotFound(MetaPathFinder):
    def __init__(self) -> None:
        self.thread = threading.get_ident()

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname in _FOR_OTHERS and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"{fullname} is left out as Keras starts", name=fullname)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep C++ start-up reports, which no setting silences, off standard error; show them on an error."""
    sys.stderr.flush()
    try:
        stderr = os.dup(2)
    except OSError:
        yield
        return
    with tempfile.TemporaryFile() as reports:
        os.dup2(reports.fileno(), 2)
        try:
            yield
        except BaseException:
            reports.seek(0)
            os.write(stderr, reports.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def choose_precision(wanted: str) -> tuple[str, str]:
    """`float32` or `bfloat16` for the arithmetic, and why. wanted: `auto` or one of the two."""
    if wanted != "auto":
        return wanted, "as configured"
    if _gpu_capability() >= (8, 0):
        return "bfloat16", "the GPU computes in it"
    if _gpu_capability() == (0, 0) and _cpu_flags() & {"avx512_bf16", "amx_bf16"}:
        return "bfloat16", "the processor computes in it"
    return "float32", "the machine has no fast bfloat16"


def has_gpu() -> bool:
    """Whether Keras computes on a GPU."""
    return _gpu_capability() != (0, 0)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether it is Python's MemoryError or what TensorFlow and XLA, which need not be imported, have for it."""
    named = type(error).__name__ == "ResourceExhaustedError" or str(error).startswith("RESOURCE_EXHAUSTED")
    return named or isinstance(error, MemoryError)


def _cpu_flags() -> set[str]:
    path = Path("/proc/cpuinfo")
    if not path.exists():
        return set()
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("flags"):
            return set(line.split())
    return set()


def _may_have_gpu() -> bool:
    """Without a device file Linux has no GPU for CUDA; to know it TensorFlow need not be started. dxg: of WSL."""
    return sys.platform != "linux" or any(Path("/dev").glob("nvidia*")) or Path("/dev/dxg").exists()


def _gpu_capability() -> tuple[int, int]:
    """CUDA compute capability of the first GPU that TensorFlow sees; (0, 0) for none."""
    if not _may_have_gpu() or start_keras().backend.backend() != "tensorflow":
        return (0, 0)
    tensorflow: ModuleType = importlib.import_module("tensorflow")
    for device in tensorflow.config.list_physical_devices("GPU"):
        major, minor = tensorflow.config.experimental.get_device_details(device).get("compute_capability", (0, 0))
        return int(major), int(minor)
    return (0, 0)
