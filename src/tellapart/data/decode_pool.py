"""Untrusted bytes -> pixels, like pixels.decode, in worker processes that can be killed: time and memory are limited.

A process is a fresh interpreter that imports what decoding needs and then sandboxes itself (decode_worker). It gets an
image, or a few in one message; if that fails, each is decoded again alone, so that the failure affects only the image
that caused it. Bytes and pixels go through pipes: measured on 200 photographs of 8 kB to 224x224, one by one, an image
takes 0.1 ms longer than in this process.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tellapart.data import pixels
from tellapart.data.decode_cost import cost
from tellapart.data.pixels import MAX_PIXELS, Decoded
from tellapart.errors import ImageError
from tellapart.files import from_json, to_json
from tellapart.task import ImageSpec

try:
    import fcntl
except ImportError:  # no pipes with a timeout either: images are decoded in this process
    fcntl = None  # type: ignore[assignment]

FRAME = struct.Struct("<II")
"""Before each message: length of its JSON, and of the bytes that follow."""
SECONDS = 20.0
MEMORY = 2_000_000_000
SECONDS_EACH, BYTES_EACH = 50e-9, 16
"""Upper bounds of time and memory per unit of data.decode_cost."""
_START_SECONDS = 60.0
_LAST_WORDS = 1.0  # seconds for a process that closed its pipes to end
_THUMBNAIL = (32, 32)
_PIPE_BYTES = 1 << 20  # most messages fit in, so that neither side waits in the middle
_LONGEST = 1_000_000  # most bytes of a reply's JSON
_ENDED, _MEMORY, _SLOW = "ended", "too much memory", "too slow"
_ENVIRONMENT = ("LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONWARNINGS", "TMPDIR")
"""The only environment variables that a process gets; the others may contain a token or password."""

_Reply = tuple[dict[str, Any], list[NDArray[np.uint8]]]
"""The JSON reply about an image, and the requested arrays."""


class IsolatedDecoder:
    """Processes that decode for any number of threads. seconds: limit per image. memory: bytes per image, in addition
    to what the process itself takes. ready: minimum number of running processes; more are started as needed, and one
    that ended is replaced.

    >>> with IsolatedDecoder(seconds=5) as decoder:
    ...     decoder.decode(b"P5 2 1 255 " + bytes(2), None)
    Decoded(pixels=None, width=2, height=1, mode='L', warning='')
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
        """Wait until the minimum number of processes has started, which takes some tenths of a second."""
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
        """Like pixels.decode; its ImageError may also be `too slow` or `too much memory`. seconds: limit for this
        image."""
        (found,) = self.decode_all([content], spec, max_pixels, thumbnail=thumbnail, seconds=seconds)
        if isinstance(found, Exception):
            raise found
        return found

    def decode_where_due(
        self,
        content: bytes | NDArray[np.uint8],
        spec: ImageSpec | None,
        max_pixels: int = MAX_PIXELS,
        *,
        thumbnail: bool = False,
    ) -> Decoded:
        """The same, but in the caller's thread if the header guarantees the limits, as for most images."""
        if isinstance(content, bytes) and not self.surely_holds(content):
            return self.decode(content, spec, max_pixels, thumbnail=thumbnail)
        return pixels.decode(content, spec, max_pixels, thumbnail=thumbnail)

    def surely_holds(self, content: bytes) -> bool:
        """Whether the header shows that decoding stays within the limits."""
        known = cost(content)
        return known is not None and known <= min(self._seconds / SECONDS_EACH, self._memory / BYTES_EACH)

    def decode_all(
        self,
        contents: Sequence[bytes],
        spec: ImageSpec | None,
        max_pixels: int = MAX_PIXELS,
        *,
        thumbnail: bool = False,
        seconds: float | None = None,
    ) -> list[Decoded | Exception]:
        """The same for several images, in one message to one process; for each, what decode returns or raises.

        seconds: for all of them. If the time is over, or the process ends, each is decoded again alone.
        """
        if fcntl is None:
            return [_tried(pixels.decode, content, spec, max_pixels, thumbnail=thumbnail) for content in contents]
        order = {"spec": spec and spec.to_dict(), "max_pixels": max_pixels, "thumbnail": thumbnail}
        shapes = [*([spec.shape] if spec else []), *([_THUMBNAIL] if thumbnail else [])]
        allowed = seconds or self._seconds
        # Memory used by earlier images, or a kill from outside, is not this image's fault: a new process decides.
        again = {_ENDED, _MEMORY, *([_SLOW] if len(contents) > 1 else [])}
        found: list[Decoded | Exception] = []
        for content, reply in zip(contents, self._ask(order, contents, shapes, allowed), strict=True):
            last = reply
            if reply[0].get("reason") in again:
                (last,) = self._ask(order, [content], shapes, allowed, fresh=True)
            found.append(_result(*last, whole=spec is not None, thumbnail=thumbnail))
        return found

    def close(self) -> None:
        """End the processes. An image that is being decoded fails with an ImageError."""
        with self._lock:
            self._closed = True
            for process in self._idle:
                process.end()
            self._idle.clear()
            for process in self._busy:
                process.kill()

    def _ask(
        self,
        order: dict[str, Any],
        contents: Sequence[bytes],
        shapes: list[tuple[int, ...]],
        seconds: float,
        *,
        fresh: bool = False,
    ) -> list[_Reply]:
        process = self._take(fresh)
        replies: list[_Reply] = []
        try:
            process.wait_until_ready()
            replies = process.ask({**order, "seconds": seconds}, contents, shapes)
            return replies
        except TimeoutError:
            how = signal.SIGXCPU.name
        except (OSError, EOFError, ValueError, LookupError, TypeError) as error:
            how = process.end(_LAST_WORDS if isinstance(error, (EOFError, BrokenPipeError)) else 0)
        finally:
            self._put(process, whole=bool(replies) and all(said.get("reason") != _MEMORY for said, _ in replies))
        if how == signal.SIGXCPU.name:
            failure = {"reason": _SLOW, "detail": f"decoding it takes over {seconds:g} s"}
        else:
            failure = {"reason": _ENDED, "detail": f"the process that decoded it ended with {how}"}
        return [(failure, [])] * len(contents)

    def _take(self, fresh: bool) -> _Process:
        with self._lock:
            if self._closed:
                raise ImageError("unreadable", "the decoder process has ended")
            for dead in [each for each in self._idle if each.has_ended]:
                self._idle.remove(dead)
                dead.end()
            process = next((each for each in reversed(self._idle) if not (fresh and each.used)), None)
            if process is None:
                process = _Process(self._memory)
            else:
                self._idle.remove(process)
            process.used = True
            self._busy.add(process)
            return process

    def _put(self, process: _Process, *, whole: bool) -> None:
        """Return a process to the idle ones; if it cannot be used again, end and replace it."""
        if not whole:
            process.end()
        with self._lock:
            self._busy.remove(process)
            if whole and not self._closed:
                self._idle.append(process)
            elif whole:
                process.end()
            else:
                with contextlib.suppress(OSError):  # no more processes can be started: the next image reports it
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
        command = [sys.executable, "-P", "-m", "tellapart.data.decode_worker", str(lifeline), str(memory)]
        try:
            # A session of its own: Ctrl-C is handled by the parent, which finishes what it started.
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
            with contextlib.suppress(OSError, AttributeError):  # Linux only; may be over the limit
                fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._writable, self._readable = select.poll(), select.poll()
        self._writable.register(self._orders, select.POLLOUT)
        self._readable.register(self._replies, select.POLLIN)
        self._ours: tuple[int, ...] = (self._orders, self._replies, self._lifeline)
        self.confined: bool | None = None
        """Whether it is restricted to the system calls that decoding needs; None: it has not started yet."""
        self.used = False
        self._unread = bytearray()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def wait_until_ready(self) -> None:
        """Raises RuntimeError if it cannot start; standard error then tells why. EOFError: it was killed."""
        if self.confined is not None:
            return
        try:
            self.confined = self._receive([], time.monotonic() + _START_SECONDS)[0][0]["confined"]
        except EOFError:
            how = self.end(_LAST_WORDS)
            if how.startswith("SIG"):
                raise
            raise RuntimeError(f"The decoder process did not start: it ended with {how}.") from None
        except TimeoutError:
            raise RuntimeError(f"The decoder process did not start in {_START_SECONDS:g} s.") from None

    def ask(self, order: dict[str, Any], contents: Sequence[bytes], shapes: list[tuple[int, ...]]) -> list[_Reply]:
        """Raises TimeoutError if its time is over; EOFError, OSError or another error if it ended or its reply is
        invalid."""
        deadline = time.monotonic() + order["seconds"]
        text = to_json({**order, "sizes": [len(content) for content in contents]}).encode()
        self._give(b"".join((FRAME.pack(len(text), 0), text, *contents)), deadline)
        replies = self._receive(shapes, deadline)
        if len(replies) != len(contents):
            raise ValueError("it replied to a wrong number of images")
        return replies

    def _give(self, data: bytes, deadline: float) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._orders, left) :]
            except BlockingIOError:
                self._wait(self._writable, deadline)

    def _receive(self, shapes: list[tuple[int, ...]], deadline: float) -> list[_Reply]:
        # The reply is untrusted: parsed by lengths known here, and never unpickled.
        length, extra = FRAME.unpack(self._read(FRAME.size, deadline))
        if length > _LONGEST:
            raise ValueError("its reply is too long")
        said = [_checked(each) for each in from_json(self._read(length, deadline))]
        if extra != sum(map(prod, shapes)) * sum("width" in each for each in said):
            raise ValueError("its reply has a wrong length")
        data = np.frombuffer(self._read(extra, deadline), np.uint8)
        replies = []
        for each in said:
            parts = []
            for shape in shapes if "width" in each else []:
                parts.append(data[: prod(shape)].reshape(shape))
                data = data[prod(shape) :]
            replies.append((each, parts))
        return replies

    def _read(self, count: int, deadline: float) -> bytearray:
        while len(self._unread) < count:
            self._wait(self._readable, deadline)
            got = os.read(self._replies, _PIPE_BYTES)
            if not got:
                raise EOFError
            self._unread += got
        data = self._unread[:count]
        del self._unread[:count]
        return data

    def _wait(self, which: select.poll, deadline: float) -> None:
        left = deadline - time.monotonic()
        if left <= 0 or not which.poll(1000 * left):
            raise TimeoutError

    def kill(self) -> None:
        self._process.kill()

    def end(self, patience: float = 0.0) -> str:
        """Kill it if it does not end by itself within `patience` seconds; returns how it ended, in words."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._process.kill()
        code = self._process.wait()
        for descriptor in self._ours:
            os.close(descriptor)
        self._ours = ()
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _tried(decode: Callable[..., Decoded], *arguments: Any, **options: Any) -> Decoded | Exception:
    try:
        return decode(*arguments, **options)
    except ImageError as error:
        return error


def _result(
    said: dict[str, Any], parts: list[NDArray[np.uint8]], *, whole: bool, thumbnail: bool
) -> Decoded | Exception:
    if "failed" in said:
        return RuntimeError(f"Decoding an image failed: {said['failed']}")
    if "reason" in said:
        return ImageError("unreadable" if said["reason"] == _ENDED else said["reason"], said["detail"])
    small = parts[-1] if thumbnail else None
    return Decoded(parts[0] if whole else None, said["width"], said["height"], said["mode"], small, said["warning"])


def _checked(said: Any) -> dict[str, Any]:
    """A reply, if it is one that an intact process sends."""
    if not isinstance(said, dict):
        raise TypeError("its reply is not an object")
    kinds = {
        "width": int,
        "height": int,
        "mode": str,
        "warning": str,
        "detail": str,
        "reason": str,
        "failed": str,
        "confined": bool,
    }
    for name, value in said.items():
        if not isinstance(value, kinds[name]):
            raise TypeError(f"its reply has a wrong {name}")
    if said.get("reason", _MEMORY) not in ImageError.REASONS:
        raise ValueError("its reply has an unknown reason")
    return said


def _environment() -> dict[str, str]:
    """Enough to import the same modules as this process, from the same places."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    places = os.pathsep.join(place for place in sys.path if place)
    return {**kept, "PYTHONPATH": places, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
