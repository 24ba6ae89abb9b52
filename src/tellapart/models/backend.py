"""The only module that starts Keras: selects its backend, silences it, and detects what the machine supports.

Everything else is written against Keras alone.
"""

from __future__ import annotations

import gc
import hashlib
import importlib
import importlib.util
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

from tellapart.errors import ConfigError, require_extra
from tellapart.files import cache_root

BACKENDS = {"tensorflow": "train", "jax": "jax"}
"""What Keras may compute with here, with the extra that brings it. Unless KERAS_BACKEND names one, the first that is
installed is taken."""

_starting = threading.RLock()

process_is_ours = False
"""Set by the command line: nobody but us uses Keras here, so it may start without what it has for others."""

_FOR_OTHERS = frozenset({"sklearn", "pandas", "matplotlib"})
"""What Keras imports, where it finds it, for wrappers, plots and data frames: a third of its start."""

_COMPILED_BYTES = 500_000_000
"""Of what JAX compiled and keeps on the disk; a network is a few megabytes of it."""


def start_keras() -> Any:
    """The keras module, on the backend that backend_name says.

    Raises MissingExtraError where it is not installed, ConfigError for a backend that is not one of BACKENDS; a broken
    installation raises its own error.
    """
    with _starting:
        return _started()


def require_keras() -> None:
    """Raises MissingExtraError where Keras is not installed, and ConfigError for another backend, at once."""
    name = backend_name()
    require_extra("Training", BACKENDS[name], "keras", name)


def backend_name() -> str:
    """Which row of BACKENDS Keras computes with, or will. Raises ConfigError for one that is none."""
    with _starting:
        if "keras" in sys.modules:
            name, given = str(sys.modules["keras"].backend.backend()), "Keras was imported with the backend"
        else:
            name, given = os.environ.get("KERAS_BACKEND") or _installed(), "KERAS_BACKEND is"
    if name not in BACKENDS:
        raise ConfigError(f"{given} {name!r}, which tellapart does not train with; expected {' or '.join(BACKENDS)}.")
    return name


def _installed() -> str:
    there = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
    return there[0] if there else next(iter(BACKENDS))


def library() -> ModuleType:
    """The module that Keras computes with, started: tensorflow or jax."""
    start_keras()
    return importlib.import_module(backend_name())


def seed(number: int) -> None:
    """Repeats what Keras draws. Under JAX a process of ours does without TensorFlow, which Keras would import here."""
    keras = start_keras()
    without = {"tensorflow"} if backend_name() == "jax" else set()
    with _without(frozenset(without)), _quiet():
        keras.utils.set_random_seed(number)


def _started() -> Any:
    if "keras" in sys.modules:
        backend_name()
        return sys.modules["keras"]
    require_keras()
    os.environ["KERAS_BACKEND"] = backend_name()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if backend_name() == "jax":
        _keep_what_is_compiled()
    with warnings.catch_warnings(), _quiet(), without_collecting(), _without(_FOR_OTHERS):
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
    start, and a third of the time in which a backbone is built or opened."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _keep_what_is_compiled() -> None:
    """JAX compiles each operation of a network as it is built, and each step, for every process anew: most of the time
    of a short run. What it keeps is for one kind of processor, which its files do not say."""
    flags = hashlib.blake2b(" ".join(sorted(_cpu_flags())).encode(), digest_size=8).hexdigest()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_root() / "compiled" / flags))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if importlib.util.find_spec("filelock") is not None:  # without which JAX bounds nothing
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_COMPILED_BYTES))


@contextmanager
def _without(names: frozenset[str]) -> Iterator[None]:
    """In a process of ours, these are not found by what this thread imports; other threads import as ever."""
    if not process_is_ours or not names:
        yield
        return
    finder = _NotFound(names)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _NotFound(MetaPathFinder):
    def __init__(self, names: frozenset[str]) -> None:
        self.names = names
        self.thread = threading.get_ident()

    def find_spec(self, fullname: str, *_: object) -> None:
        if fullname in self.names and threading.get_ident() == self.thread:
            raise ModuleNotFoundError(f"{fullname} is skipped while Keras starts", name=fullname)


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


def choose_precision(wanted: str, fast_bfloat16: bool = True) -> tuple[str, str]:
    """`float32` or `bfloat16` for the arithmetic, and why. wanted: `auto` or one of the two. fast_bfloat16: whether the
    network gains by it on a processor that has it."""
    if wanted != "auto":
        return wanted, "as configured"
    if _gpu_capability() >= (8, 0):
        return "bfloat16", "the GPU supports it"
    if _gpu_capability() == (0, 0) and not fast_bfloat16:
        return "float32", "the network is slower in bfloat16 on a processor"
    if _gpu_capability() == (0, 0) and _cpu_flags() & {"avx512_bf16", "amx_bf16"}:
        return "bfloat16", "the processor supports it"
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
    """CUDA compute capability of the first GPU that Keras computes on; (0, 0) for none, (1, 0) for one without."""
    if not _may_have_gpu():
        return (0, 0)
    found = _jax_capability() if backend_name() == "jax" else _tensorflow_capability()
    return (0, 0) if found is None else found


def _jax_capability() -> tuple[int, int] | None:
    for device in library().local_devices():
        if device.platform == "gpu":
            parts = str(getattr(device, "compute_capability", "")).split(".")
            return (int(parts[0]), int(parts[1])) if len(parts) == 2 and all(map(str.isdecimal, parts)) else (1, 0)
    return None


def _tensorflow_capability() -> tuple[int, int] | None:
    tensorflow = library()
    for device in tensorflow.config.list_physical_devices("GPU"):
        major, minor = tensorflow.config.experimental.get_device_details(device).get("compute_capability", (1, 0))
        return int(major), int(minor)
    return None


@contextmanager
def whole_float32() -> Iterator[None]:
    """Products of float32 in float32: a GPU rounds their factors to 10 bits (TF32) unless it is told."""
    if not has_gpu():
        yield
    elif backend_name() == "jax":
        with library().default_matmul_precision("float32"):
            yield
    else:
        switch = library().config.experimental
        before = switch.tensor_float_32_execution_enabled()
        switch.enable_tensor_float_32_execution(False)
        try:
            yield
        finally:
            switch.enable_tensor_float_32_execution(before)
