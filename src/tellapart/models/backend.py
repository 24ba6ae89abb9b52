"""The only module that starts Keras: selects its backend, silences it, and detects what the machine supports.

Everything else only uses Keras.
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
from contextlib import AbstractContextManager, contextmanager
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from tellapart.errors import ConfigError, require_extra
from tellapart.files import cache_root
from tellapart.parallel import without_collecting

BACKENDS = {"tensorflow": "train", "jax": "jax"}
"""The supported backends of Keras, with the extra that installs each. Unless KERAS_BACKEND names one, the first one
installed is used."""

_starting = threading.RLock()

process_is_ours = False
"""Set by the command line: only tellapart uses Keras in this process, so its optional imports may be skipped."""

joined = False
"""Whether JAX computes in several processes now, of which this is one."""

_FOR_OTHERS = frozenset({"sklearn", "pandas", "matplotlib"})
"""Optional imports of Keras for wrappers, plots and data frames: a third of its start-up time."""

_COMPILED_BYTES = 500_000_000
"""Disk limit for what JAX compiled; a network takes a few megabytes."""


def start_keras() -> Any:
    """The keras module, with the backend given by backend_name.

    Raises MissingExtraError if it is not installed, ConfigError for a backend that is not in BACKENDS; a broken
    installation raises its own error.
    """
    with _starting:
        return _started()


def require_keras(what: str = "A network of Keras") -> None:
    """Raises MissingExtraError if Keras is not installed, and ConfigError for another backend, without starting it.
    what: needs it, for the message."""
    name = backend_name()
    require_extra(what, BACKENDS[name], "keras", name)


def has_keras() -> bool:
    """Whether Keras and its backend are installed, or imported; neither is started."""
    return "keras" in sys.modules or all(importlib.util.find_spec(name) for name in ("keras", backend_name()))


def forget_networks() -> None:
    """Let Keras release what it holds of networks that were made in this process."""
    if "keras" in sys.modules:
        start_keras().utils.clear_session()


def backend_name() -> str:
    """The row of BACKENDS that Keras uses, or will use. Raises ConfigError for an unknown one."""
    with _starting:
        if "keras" in sys.modules:
            name, given = str(sys.modules["keras"].backend.backend()), "Keras was imported with the backend"
        else:
            name, given = os.environ.get("KERAS_BACKEND") or _installed(), "KERAS_BACKEND is"
    if name not in BACKENDS:
        raise ConfigError(f"{given} {name!r}, which tellapart does not support; expected {' or '.join(BACKENDS)}.")
    return name


def _installed() -> str:
    there = [name for name in BACKENDS if importlib.util.find_spec(name) is not None]
    return there[0] if there else next(iter(BACKENDS))


def choose_jax(what: str) -> None:
    """Let Keras run on JAX in this process. what: needs it, for the message. Raises MissingExtraError if it is not
    installed, ConfigError if another backend was named, or Keras was imported with one."""
    with _starting:
        if "keras" not in sys.modules and not os.environ.get("KERAS_BACKEND"):
            require_extra(what, BACKENDS["jax"], "keras", "jax")
            os.environ["KERAS_BACKEND"] = "jax"
            return
        if backend_name() != "jax":
            given = "Keras was imported with" if "keras" in sys.modules else "KERAS_BACKEND names"
            raise ConfigError(f"{what} needs JAX; {given} {backend_name()}. Set KERAS_BACKEND=jax.")
        require_keras(what)


def join(address: str, rank: int, world: int, devices: list[int] | None) -> None:
    """Make JAX of this process one of `world`, before Keras starts. address: HOST:PORT where process 0 lets JAX listen.
    devices: GPUs of this machine that are this process's; None: all."""
    global joined
    _keep_what_is_compiled()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    given = {"cluster_detection_method": "deactivate", "coordinator_bind_address": address}
    try:
        with _quiet():
            jax.distributed.initialize(address, world, rank, devices, **given)
    except RuntimeError as error:
        raise ConfigError(
            f"JAX cannot join the other processes in this one, where it was used before: {error}"
        ) from None
    joined = True


def part() -> None:
    """End what `join` began, in all processes at once; what each computes afterwards is its own."""
    global joined
    library().distributed.shutdown()
    joined = False


def library() -> ModuleType:
    """The module of Keras' backend, started: tensorflow or jax."""
    start_keras()
    return importlib.import_module(backend_name())


def seed(number: int) -> None:
    """Make Keras' random numbers reproducible. Under JAX, a process of ours avoids TensorFlow, which Keras would import
    here."""
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
        # Deprecated names inside the libraries are for their maintainers to fix.
        warnings.simplefilter("ignore")
        import keras

        # Listing the devices first reports what is missing, which users of a machine without a GPU need not see.
        keras.distribution.list_devices()
        if process_is_ours:
            gc.freeze()  # these million objects stay alive: the garbage collector need not visit them
    # Training many networks in one process traces many functions, which TensorFlow warns about.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    return keras


def _keep_what_is_compiled() -> None:
    """Let JAX keep what it compiled on disk: compiling each operation and step again in every process takes most of a
    short run. The cache is separate for each kind of processor, which its files do not record."""
    flags = hashlib.blake2b(" ".join(sorted(_cpu_flags())).encode(), digest_size=8).hexdigest()
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(cache_root() / "compiled" / flags))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if importlib.util.find_spec("filelock") is not None:  # without it JAX does not limit the cache
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_COMPILED_BYTES))


@contextmanager
def _without(names: frozenset[str]) -> Iterator[None]:
    """In a process of ours, imports of these by this thread fail; other threads import as usual."""
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
def _quiet(stream: int = 2) -> Iterator[None]:
    """Keep C++ start-up messages, which no setting silences, off standard error, or the other file of that number; show
    them if an error occurs."""
    sys.stderr.flush()
    try:
        kept = os.dup(stream)
    except OSError:
        yield
        return
    with tempfile.TemporaryFile() as reports:
        os.dup2(reports.fileno(), stream)
        try:
            yield
        except BaseException:
            reports.seek(0)
            os.write(kept, reports.read())
            raise
        finally:
            os.dup2(kept, stream)
            os.close(kept)


def quiet_output() -> AbstractContextManager[None]:
    """Keep what C++ says there off standard output, which is for answers."""
    sys.stdout.flush()
    return _quiet(1)


def choose_precision(wanted: str, fast_bfloat16: bool = True) -> tuple[str, str]:
    """`float32` or `bfloat16` for computing, and why. wanted: `auto` or one of the two. fast_bfloat16: whether the
    network is faster in it on a processor that supports it."""
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
    """Whether Keras uses a GPU."""
    return _gpu_capability() != (0, 0)


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether it is Python's MemoryError or the equivalent of TensorFlow and XLA, which need not be imported."""
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
    """Without a device file, Linux has no GPU for CUDA, which is known without starting TensorFlow. dxg: of WSL."""
    return sys.platform != "linux" or any(Path("/dev").glob("nvidia*")) or Path("/dev/dxg").exists()


def _gpu_capability() -> tuple[int, int]:
    """CUDA compute capability of the first GPU that Keras uses; (0, 0) for none, (1, 0) for one without."""
    if not _may_have_gpu() or not has_keras():
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
    """Multiply float32 in full precision: by default a GPU rounds the factors to 10 bits (TF32)."""
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
