"""The sandboxed worker process that decodes untrusted images until its parent ends.

Started by decode_pool as `python -m tellapart.data.decode_worker LIFELINE MEMORY`. Requests are read from standard
input, replies written to standard output; each is the lengths of its JSON and bytes, followed by these. It imports only
what decoding needs.
"""

from __future__ import annotations

import ctypes
import fcntl
import io
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import cv2
from PIL import Image

from tellapart.data import pixels
from tellapart.data.decode_pool import FRAME
from tellapart.errors import ImageError
from tellapart.files import from_json, to_json
from tellapart.parallel import cores
from tellapart.task import ImageSpec

_WARM = ("PNG", "JPEG", "MPO", "GIF", "WEBP", "BMP", "TIFF", "PPM", "JPEG2000", "TGA", "ICO", "AVIF", "HEIF")
# System calls of Python, its C library and the decoders once everything is loaded. All others return "not implemented",
# so that a C library falls back to another way if it has one: opening files, connecting, starting processes, signalling
# others.
_CALLS = (
    "brk", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "exit", "exit_group", "fstat", "futex",
    "getcpu", "getpid", "getppid", "getrandom", "getrlimit", "getrusage", "gettid", "gettimeofday", "lseek",
    "madvise", "membarrier", "mremap", "munmap", "nanosleep", "poll", "ppoll", "read", "readv", "restart_syscall",
    "rseq", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity", "sched_yield", "set_robust_list",
    "set_tid_address", "setrlimit", "sigaltstack", "sysinfo", "time", "times", "uname", "write", "writev",
)  # fmt: skip
_ALLOW, _NOT_IMPLEMENTED = 0x7FFF0000, 0x00050026  # libseccomp's ALLOW and ERRNO(ENOSYS)
_EQUAL, _MASKED_EQUAL, _ALL_THREADS = 4, 7, 4
_CLONE_THREAD, _PROT_EXEC = 0x10000, 4


def main(lifeline: int, memory: int) -> None:
    """Answer requests until the parent closes the pipe."""
    orders, replies = _take_over_standard_streams()
    _end_with_parent(lifeline)
    _load_every_decoder()
    _send(replies, [{"confined": _confine(memory)}])
    while head := orders.read(FRAME.size):
        order = from_json(orders.read(FRAME.unpack(head)[0]))
        _limit_processor(order["seconds"])
        answers = [_answer(order, orders.read(size), memory) for size in order["sizes"]]
        _send(replies, [said for said, *_ in answers], *(part for _, *parts in answers for part in parts))


def _answer(order: dict[str, Any], content: bytes, memory: int) -> tuple[Any, ...]:
    """The reply about an image, and its arrays."""
    spec = order["spec"] and ImageSpec.from_dict(order["spec"])
    try:
        found = pixels.decode(content, spec, order["max_pixels"], thumbnail=order["thumbnail"])
    except Exception as error:  # noqa: BLE001 - the parent raises it
        if isinstance(error, MemoryError) or isinstance(error.__cause__, MemoryError) or _lacks_memory(error):
            return ({"reason": "too much memory", "detail": f"decoding it takes over {memory:,} bytes"},)
        if isinstance(error, ImageError):
            return ({"reason": error.reason, "detail": error.detail},)
        return ({"failed": f"{type(error).__name__}: {error}"},)
    said = {"width": found.width, "height": found.height, "mode": found.mode, "warning": found.warning}
    return said, *(part.tobytes() for part in (found.pixels, found.thumbnail) if part is not None)


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, cv2.error) and getattr(error, "code", None) == -4  # StsNoMem


def _send(replies: int, said: list[dict[str, Any]], *parts: bytes) -> None:
    text = to_json(said).encode()
    whole = memoryview(b"".join((FRAME.pack(len(text), sum(map(len, parts))), text, *parts)))
    while whole:
        whole = whole[os.write(replies, whole) :]


def _take_over_standard_streams() -> tuple[BinaryIO, int]:
    """Use private pipes, so that nothing that a library prints is taken for a reply."""
    orders, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    return open(orders, "rb", buffering=1 << 20), replies  # noqa: PTH123 - a descriptor, for all our life


def _end_with_parent(lifeline: int) -> None:
    """The kernel ends this process, whatever it does, when the last end of a pipe that only the parent holds is closed.
    Other signals to the process group are handled by the parent, which finishes what it started."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        if not os.read(lifeline, 1):  # the parent ended before
            os._exit(0)


def _load_every_decoder() -> None:
    """Decode one small image of each format, and of LAB, for which Pillow imports more: nothing can be opened
    afterwards."""
    for nothing in (b"no image", b"\0\0\0\x18ftypheic"):
        with suppress(ImageError):
            pixels.decode(nothing, None)
    spec = ImageSpec(8, 8)
    for mode, name in (*(("RGB", name) for name in _WARM), ("LAB", "TIFF")):
        file = io.BytesIO()
        with suppress(OSError, KeyError, ValueError, ImageError):
            Image.new(mode, (16, 16)).save(file, name)
            pixels.decode(file.getvalue(), spec, thumbnail=True)


def _confine(memory: int) -> bool:
    """Limit memory to so many bytes beyond what is in use, allow no files, no core dumps and few system calls; returns
    whether the last worked."""
    os.dup2(0, 2)  # a client must not fill the log through a decoder; start-up errors were already logged
    taken = _taken()
    confined = _forbid_system_calls()
    for what, own in zip((resource.RLIMIT_AS, resource.RLIMIT_DATA), taken, strict=False):
        with suppress(ValueError, OSError):  # a system without this limit
            resource.setrlimit(what, (own + memory, own + memory))
    for what in (resource.RLIMIT_FSIZE, resource.RLIMIT_CORE, resource.RLIMIT_NOFILE):
        resource.setrlimit(what, (0, 0))
    return confined


def _taken() -> tuple[int, ...]:
    """Bytes of address space and of data in use; empty if the system does not tell."""
    try:
        figures = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return ()
    return tuple(int(figures[column]) * os.sysconf("SC_PAGE_SIZE") for column in (0, 5))


def _limit_processor(seconds: float) -> None:
    """A second limit behind the parent's timeout; decoders with threads may use every core."""
    most = int(time.process_time() + seconds * cores()) + 2
    resource.setrlimit(resource.RLIMIT_CPU, (most, resource.getrlimit(resource.RLIMIT_CPU)[1]))


class _Comparison(ctypes.Structure):
    _fields_ = (("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64), ("b", ctypes.c_uint64))


def _forbid_system_calls() -> bool:
    """Allow only _CALLS, through libseccomp, which knows their numbers on each processor. False: the system has
    none."""
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return False
    library.seccomp_init.restype = ctypes.c_void_p
    rules = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_NOT_IMPLEMENTED)))
    library.seccomp_attr_set(rules, _ALL_THREADS, ctypes.c_uint32(1))
    own = os.getpid()
    conditions = {
        "clone": _Comparison(0, _MASKED_EQUAL, _CLONE_THREAD, _CLONE_THREAD),
        "mmap": _Comparison(2, _MASKED_EQUAL, _PROT_EXEC, 0),
        "mprotect": _Comparison(2, _MASKED_EQUAL, _PROT_EXEC, 0),
        "prlimit64": _Comparison(0, _EQUAL, 0, 0),
        "tgkill": _Comparison(0, _EQUAL, own, 0),  # a thread that aborts
    }
    for name in (*_CALLS, *conditions):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # negative: Linux on this processor has no such call
            condition = conditions.get(name)
            given = ctypes.byref(condition) if condition else None
            library.seccomp_rule_add_array(rules, ctypes.c_uint32(_ALLOW), number, condition is not None, given)
    return bool(library.seccomp_load(rules) == 0)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
