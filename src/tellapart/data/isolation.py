"""Bytes of strangers -> pixels, as pixels.decode, in processes that can be killed: time and memory are bounded.

A process is a fresh interpreter that imports what decoding needs and then confines itself (confined.py). One image is
with one process at a time, so that whatever an image does falls back on that image alone. Bytes and pixels go through
pipes: measured on 600 photographs at 224x224, an image takes 0.1 ms longer than in a thread.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data import pixels
from tellapart.data.pixels import MAX_PIXELS, Decoded
from tellapart.errors import PictureError
from tellapart.task import ImageSpec

try:
    import fcntl
except ImportError:  # no pipes that can be waited for either: images are decoded in this process
    fcntl = None  # type: ignore[assignment]

FRAME = struct.Struct("<II")
"""Before each message: bytes of its JSON, bytes of what follows."""
SECONDS = 20.0
MEMORY = 2_000_000_000
_START_SECONDS = 60.0
_LAST_WORDS = 1.0  # seconds for a process that closed its pipes to end
_THUMBNAIL = (32, 32)
_PIPE_BYTES = 1 << 20  # an image and its pixels fit in, so that neither side waits in the middle
_LONGEST = 100_000  # bytes of what a process says of an image
_ENDED, _MEMORY = "ended", "too much memory"
_ENVIRONMENT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONWARNINGS", "TMPDIR")
"""What a process is told of ours; a token or password may stand in the rest."""

_Reply = tuple[dict[str, Any], list[NDArray[np.uint8]]]
"""What a process says of an image, and the arrays that were asked for."""


class IsolatedDecoder:
    """Processes that decode for any number of threads; as many run as images are decoded at a time, and `ready` more or
    less wait for the next. seconds: for one image. memory: bytes for one image, beside what the process itself takes.
    """

    def __init__(self, *, seconds: float = SECONDS, memory: int = MEMORY, ready: int = 0) -> None:
        self._seconds = seconds
        self._memory = memory
        self._ready = ready
        self._lock = threading.Lock()
        self._closed = False
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        with self._lock:
            self._keep_ready()

    def __enter__(self) -> IsolatedDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_until_ready(self) -> None:
        """Until the processes that wait have started, which takes some tenths of a second."""
        for process in list(self._idle):
            process.wait_until_ready()

    def decode(
        self,
        content: bytes,
        spec: ImageSpec | None,
        max_pixels: int = MAX_PIXELS,
        *,
        thumbnail: bool = False,
        seconds: float | None = None,
    ) -> Decoded:
        """As pixels.decode; its PictureError may also be `too slow` or `too much memory`. seconds: for this image."""
        if fcntl is None:
            return pixels.decode(content, spec, max_pixels, thumbnail=thumbnail)
        allowed = seconds or self._seconds
        order = {
            "spec": spec and spec.to_dict(),
            "max_pixels": max_pixels,
            "thumbnail": thumbnail,
            "seconds": allowed,
        }
        shapes = [*([spec.shape] if spec else []), *([_THUMBNAIL] if thumbnail else [])]
        said, parts = self._ask(order, content, shapes, fresh=False)
        if said.get("reason") in (_ENDED, _MEMORY):
            # What a process took for images before, or who killed it, is not this image's fault: a new one judges.
            said, parts = self._ask(order, content, shapes, fresh=True)
        if "failed" in said:
            raise RuntimeError(f"Decoding an image failed: {said['failed']}")
        if "reason" in said:
            raise PictureError("unreadable" if said["reason"] == _ENDED else said["reason"], said["detail"])
        small = parts.pop() if thumbnail else None
        return Decoded(parts.pop() if spec else None, said["width"], said["height"], said["mode"], small)

    def close(self) -> None:
        """End the processes. An image that is being decoded is given up, with a PictureError."""
        with self._lock:
            self._closed = True
            for process in self._idle:
                process.end()
            self._idle.clear()
            for process in self._busy:
                process.kill()

    def _ask(self, order: dict[str, Any], content: bytes, shapes: list[tuple[int, ...]], *, fresh: bool) -> _Reply:
        process = self._take(fresh)
        reply: _Reply | None = None
        try:
            process.wait_until_ready()
            reply = process.ask(order, content, shapes)
            return reply
        except TimeoutError:
            how = signal.SIGXCPU.name
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            how = process.end(_LAST_WORDS if isinstance(error, (EOFError, BrokenPipeError)) else 0)
        finally:
            self._put(process, whole=reply is not None and reply[0].get("reason") != _MEMORY)
        if how == signal.SIGXCPU.name:
            return {"reason": "too slow", "detail": f"decoding it takes over {order['seconds']:g} s"}, []
        return {"reason": _ENDED, "detail": f"the process that decoded it ended with {how}"}, []

    def _take(self, fresh: bool) -> _Process:
        with self._lock:
            if self._closed:
                raise PictureError("unreadable", "what decodes images has ended")
            process = next((each for each in reversed(self._idle) if not (fresh and each.used)), None)
            if process is None:
                process = _Process(self._memory)
            else:
                self._idle.remove(process)
            process.used = True
            self._busy.add(process)
            return process

    def _put(self, process: _Process, *, whole: bool) -> None:
        """Back among the idle; ended and replaced where it cannot be used again."""
        if not whole:
            process.end()
        with self._lock:
            self._busy.remove(process)
            if whole and not self._closed:
                self._idle.append(process)
            elif whole:
                process.end()
            else:
                with contextlib.suppress(OSError):  # no more processes: the next image says so
                    self._keep_ready()

    def _keep_ready(self) -> None:
        while not self._closed and len(self._idle) + len(self._busy) < self._ready:
            self._idle.insert(0, _Process(self._memory))


class _Process:
    """One process and our ends of its pipes. Used by one thread at a time, except for `kill`."""

    def __init__(self, memory: int) -> None:
        orders, self._orders = os.pipe()
        self._replies, replies = os.pipe()
        lifeline, self._lifeline = os.pipe()
        command = [sys.executable, "-P", "-m", "tellapart.data.confined", str(lifeline), str(memory)]
        try:
            # A session of its own: Ctrl-C is for the parent, which finishes what is begun.
            self._process = subprocess.Popen(
                command,
                stdin=orders,
                stdout=replies,
                pass_fds=(lifeline,),
                env=_environment(),
                start_new_session=True,
            )
        finally:
            for theirs in (orders, replies, lifeline):
                os.close(theirs)
        for ours in (self._orders, self._replies):
            os.set_blocking(ours, False)
            with contextlib.suppress(OSError, AttributeError):  # Linux alone; where a user has few left, less will do
                fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._writable, self._readable = select.poll(), select.poll()
        self._writable.register(self._orders, select.POLLOUT)
        self._readable.register(self._replies, select.POLLIN)
        self._ours: tuple[int, ...] = (self._orders, self._replies, self._lifeline)
        self.confined: bool | None = None
        """Whether it can make no system call beside those that decoding needs; None: it has not started yet."""
        self.used = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Raises RuntimeError where it cannot start; standard error then says why. EOFError: it was killed."""
        if self.confined is not None:
            return
        try:
            self.confined = self._receive([], time.monotonic() + _START_SECONDS)[0]["confined"]
        except EOFError:
            how = self.end(_LAST_WORDS)
            if how.startswith("SIG"):
                raise
            raise RuntimeError(f"The process that decodes images did not start: it ended with {how}.") from None
        except TimeoutError:
            raise RuntimeError(f"The process that decodes images did not start in {_START_SECONDS:g} s.") from None

    def ask(self, order: dict[str, Any], content: bytes, shapes: list[tuple[int, ...]]) -> _Reply:
        """Raises TimeoutError where its seconds are over; EOFError, OSError or another where it ended or lies."""
        deadline = time.monotonic() + order["seconds"]
        text = json.dumps(order).encode()
        head = FRAME.pack(len(text), len(content)) + text
        self._give(head + content if len(content) < _PIPE_BYTES else head, deadline)
        if len(content) >= _PIPE_BYTES:
            self._give(content, deadline)
        return self._receive(shapes, deadline)

    def _give(self, data: bytes, deadline: float) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._orders, left) :]
            except BlockingIOError:
                self._wait(self._writable, deadline)

    def _receive(self, shapes: list[tuple[int, ...]], deadline: float) -> _Reply:
        # What the process says is a stranger's: taken apart by lengths that we know, and never unpickled.
        length, extra = FRAME.unpack(self._read(FRAME.size, deadline))
        if length > _LONGEST or extra not in (0, sum(map(prod, shapes))):
            raise ValueError("its reply has another length than was asked for")
        said = _checked(json.loads(bytes(self._read(length, deadline))))
        data = np.frombuffer(self._read(extra, deadline), np.uint8)
        parts = []
        for shape in shapes if extra else []:
            parts.append(data[: prod(shape)].reshape(shape))
            data = data[prod(shape) :]
        if len(parts) != len(shapes) and "width" in said:
            raise ValueError("its reply lacks the pixels")
        return said, parts

    def _read(self, count: int, deadline: float) -> bytearray:
        data = bytearray(count)
        left = memoryview(data)
        while left:
            self._wait(self._readable, deadline)
            got = os.readv(self._replies, [left])
            if not got:
                raise EOFError("no answer")
            left = left[got:]
        return data

    def _wait(self, which: select.poll, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not which.poll(1000 * left):
            raise TimeoutError

    def kill(self) -> None:
        self._process.kill()

    def end(self, patience: float = 0.0) -> str:
        """Kill it, where it does not end by itself in so many seconds; how it ended, in words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._process.kill()
        code = self._process.wait()
        for descriptor in self._ours:
            os.close(descriptor)
        self._ours = ()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _checked(said: Any) -> dict[str, Any]:
    """What a process said, if it is what one says that was not taken over."""
    if not isinstance(said, dict):
        raise TypeError("its reply is no object")
    kinds = {"width": int, "height": int, "mode": str, "detail": str, "reason": str, "failed": str, "confined": bool}
    for name, value in said.items():
        if not isinstance(value, kinds[name]):
            raise TypeError(f"its reply has a wrong {name}")
    if said.get("reason", _MEMORY) not in PictureError.REASONS:
        raise ValueError("its reply has a reason that is none")
    return said


def _environment() -> dict[str, str]:
    """Enough to import what this process imported, from the same places."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    places = os.pathsep.join(place for place in sys.path if place)
    return {**kept, "PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
