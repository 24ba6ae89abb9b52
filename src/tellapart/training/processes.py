"""Several processes that train one network: they meet at an address, share a run, and learn of each other's end.

Process 0 leads: it reads the images and writes the run. The others get a copy of the run, look for its images, and
train with it. Whatever JAX computes together is behind models.devices; here are sockets, open from the meeting to the
end, so that each failure before or in training is one message in every process, after a time that is bounded.
"""

from __future__ import annotations

import atexit
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NoReturn

from tellapart.errors import ConfigError, TellapartError, TrainingError, some
from tellapart.files import from_json, machine, terminal_safe, to_json
from tellapart.models import backend
from tellapart.models.devices import Devices
from tellapart.runs.run import RunFolder
from tellapart.runs.versions import versions
from tellapart.training.launchers import Place

WAIT = "TELLAPART_WAIT"
"""Names the seconds within which all processes must have come; without it WAIT_SECONDS."""
WAIT_SECONDS = 300.0
_HELLO_SECONDS = 5.0
"""Within which whoever comes says who they are: a stranger is not waited for."""
_LAST_SECONDS = 10.0
"""Within which the others end once they are told to."""
_LONGEST = 1 << 16  # bytes of a message
_WRONG = 2  # the exit code of cli/exit_codes.py
_UNLIKE = ("machine",)
"""Of runs.versions: may differ."""


class _Line:
    """A connection that carries messages: a line of JSON, and as many bytes as it says."""

    def __init__(self, connection: socket.socket, seconds: float | None = None) -> None:
        connection.settimeout(seconds)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self.connection, self._file = connection, connection.makefile("rb")
        self._sending = threading.Lock()

    def send(self, message: dict[str, Any], content: bytes = b"") -> None:
        with self._sending:
            self.connection.sendall(to_json({**message, "bytes": len(content)}, ascii=True).encode() + b"\n" + content)

    def receive(self, *, content: bool = False) -> tuple[dict[str, Any], bytes]:
        """Raises ConnectionError at the end of the connection, ValueError for what is no message, or one with bytes
        where none are expected."""
        line = self._file.readline(_LONGEST)
        if not line:
            raise ConnectionError("the connection ended")
        try:
            found = from_json(line)
        except RecursionError:
            raise ValueError("it is no message") from None
        size = found.get("bytes") if isinstance(found, dict) else None
        if type(size) is not int or size < 0 or (size and not content):
            raise ValueError("it is no message that was asked for")
        whole = self._file.read(size)
        if len(whole) < size:
            raise ConnectionError("the connection ended")
        return found, whole

    def close(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self._file.close()
        self.connection.close()


def wait_seconds() -> float:
    """How long processes wait for each other. Raises ConfigError for a TELLAPART_WAIT that is not a time."""
    text = os.environ.get(WAIT, str(WAIT_SECONDS))
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise ConfigError(f"{WAIT} is {text[:50]!r}; expected seconds, such as {WAIT_SECONDS:.0f}.")
    return seconds


class Crew:
    """The processes that train a network, as one of them sees them. devices: of all."""

    def __init__(self, place: Place, lines: dict[int, _Line], names: dict[int, str], devices: Devices) -> None:
        self.place, self.devices = place, devices
        self._lines, self._names = lines, names
        self._watchers: list[threading.Thread] = []
        self._ending = threading.Lock()

    def lead(self, run: RunFolder) -> None:
        """Give the others a copy of the run; returns once all have found its images. Raises TrainingError with what one
        of them lacks."""
        for file in run.trained_files:
            name = file.relative_to(run.path).as_posix()
            for line in self._lines.values():
                line.send({"file": name}, file.read_bytes())
        for line in self._lines.values():
            line.send({"run": "complete"})
        wrong = [f"{self._names[rank]}: {problem}" for rank, problem in self._answers() if problem]
        if wrong:
            raise TrainingError(f"{wrong[0]}" + (f" (and {len(wrong) - 1} more processes)" if wrong[1:] else ""))
        for line in self._lines.values():
            line.send({"go": True})
        self._watch()

    def _answers(self) -> Iterator[tuple[int, str]]:
        for rank, line in self._lines.items():
            try:
                yield rank, str(line.receive()[0].get("problem", ""))
            except (OSError, ValueError) as error:
                yield rank, f"it was lost before training began ({error})."

    def receive(self, folder: Path) -> RunFolder:
        """A copy of the run of process 0, in a new folder, as soon as that has read its images."""
        folder.mkdir()
        run = RunFolder(folder)
        while True:
            message, content = self._told()
            if "run" in message:
                return run
            path = run.place(*Path(str(message["file"])).parts)
            path.parent.mkdir(exist_ok=True)
            with run.replacing(path) as neighbour:
                neighbour.write_bytes(content)

    def answer(self, problem: str = "") -> None:
        """Tell process 0 whether this one has what it needs; returns once all have. Raises TrainingError if one has
        not."""
        self._lines[0].send({"problem": problem})
        self._told()
        self._watch()

    def _told(self) -> tuple[dict[str, Any], bytes]:
        try:
            message, content = self._lines[0].receive(content=True)
        except (OSError, ValueError) as error:
            raise TrainingError(f"{self._names[0]} was lost before training began ({error}).") from None
        if "end" in message:
            raise TrainingError(f"{self._names[0]} ended: {message['end']}")
        return message, content

    def _watch(self) -> None:
        for rank in self._lines:
            watcher = threading.Thread(target=self._look, args=(rank,), daemon=True, name=f"process {rank}")
            self._watchers.append(watcher)
            watcher.start()

    def _look(self, rank: int) -> None:
        """Wait for the end of another process; while the network is trained, it is the end of this one too, whatever
        JAX waits for."""
        try:
            message, _ = self._lines[rank].receive()
            why = f"ended: {message['end']}" if "end" in message else ""
        except (OSError, ValueError):
            why = "was lost."
        # The first one tells of all.
        if why and backend.joined and self._ending.acquire(blocking=False):
            print(terminal_safe(f"tellapart: {self._names[rank]} {why} {_RESUME}"), file=sys.stderr)
            self._tell({"end": f"{self._names[rank]} {why}"})
            self._wait()
            _leave()

    def end(self, error: BaseException | None) -> None:
        """Tell the others; where they did not part from this process, do not wait for what JAX still does."""
        if not backend.joined:
            self._tell({"apart": True})
            return
        atexit.register(_leave)
        if self._ending.acquire(blocking=False):
            self._tell({"end": str(error)[:2000] if isinstance(error, TellapartError) else type(error).__name__})
            self._wait()

    def _tell(self, message: dict[str, Any]) -> None:
        for line in self._lines.values():
            with suppress(OSError):
                line.send(message)

    def _wait(self) -> None:
        """JAX aborts the others as soon as process 0 is gone: they end first, with their message."""
        if self.place.rank:
            return
        deadline = time.monotonic() + _LAST_SECONDS
        for watcher in self._watchers:
            if watcher is not threading.current_thread():
                watcher.join(max(0.0, deadline - time.monotonic()))
        for line in self._lines.values():
            line.connection.settimeout(max(0.01, deadline - time.monotonic()))
            with suppress(OSError, ValueError):
                while True:
                    line.receive()


_RESUME = "The run goes on from its last epoch, with any number of processes: tellapart train --resume RUN"


def _leave() -> NoReturn:
    """End at once: JAX would wait for the others, and then abort."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(_WRONG)


@contextmanager
def crew_of(place: Place) -> Iterator[Crew]:
    """Meet the other processes. Raises ConfigError if one does not come in time, or has other versions or another
    number of processes."""
    deadline = time.monotonic() + wait_seconds()
    with ExitStack() as opened:
        met = _led(place, deadline, opened) if place.rank == 0 else _joined(place, deadline, opened)
        lines, names, address, gpus = met
        backend.join(address, place.rank, place.world, gpus)
        opened.pop_all()  # from here on `end` closes them
        with backend.quiet_output():
            devices = Devices.found()
            devices.any(False)  # the first connection of what computes together says so
        crew = Crew(place, lines, names, devices)
        try:
            yield crew
        except BaseException as error:
            crew.end(error)
            raise
        crew.end(None)


_Met = tuple[dict[int, _Line], dict[int, str], str, list[int] | None]
"""Connections and names by rank, where JAX listens, and which GPUs are for this process."""


def _led(place: Place, deadline: float, opened: ExitStack) -> _Met:
    lines: dict[int, _Line] = {}
    said = {0: _hello(place)}
    try:
        server = socket.create_server((place.host, place.port), family=_family(place), backlog=place.world)
    except OSError as error:
        raise ConfigError(
            f"Process 0 cannot listen at {place.address}: {error.strerror or error}. It must run on that machine, at a "
            "port that is free."
        ) from None
    with server:
        while len(lines) < place.world - 1:
            server.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, _ = server.accept()
            except OSError:
                missing = [str(rank) for rank in range(1, place.world) if rank not in lines]
                _refuse(
                    lines,
                    f"Of {place.world} processes, {some(missing, 5)} did not come to {place.address} in "
                    f"{wait_seconds():g} s ({WAIT}). Start one command for each.",
                )
            line = _Line(connection, _HELLO_SECONDS)
            opened.callback(line.close)
            try:
                hello, _ = line.receive()
                _require_hello(hello)
            except (OSError, ValueError):
                line.close()  # a stranger
                continue
            rank = hello["rank"]
            if problem := _unlike(said[0], hello, taken=rank in said):
                _refuse({**lines, rank: line}, problem)
            lines[rank], said[rank] = line, hello
    address = f"{place.host}:{_free_port(place)}"
    for rank, line in lines.items():
        line.connection.settimeout(None)
        line.send({"jax": address, "gpus": _gpus_of(rank, said), "name": _named(said[0])})
    return lines, {rank: _named(hello) for rank, hello in said.items()}, address, _gpus_of(0, said)


def _joined(place: Place, deadline: float, opened: ExitStack) -> _Met:
    while True:
        try:
            connection = socket.create_connection((place.host, place.port), _HELLO_SECONDS)
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise ConfigError(
                    f"Process {place.rank} of {place.world} found no process 0 at {place.address} in "
                    f"{wait_seconds():g} s ({WAIT}): {error.strerror or error}. Start it there, or correct the address."
                ) from None
            time.sleep(0.2)
    line = _Line(connection, max(1.0, deadline - time.monotonic()) + _HELLO_SECONDS)
    opened.callback(line.close)
    try:
        line.send(_hello(place))
        told, _ = line.receive()
        if "end" in told:
            raise ConfigError(str(told["end"]))
        address, gpus, name = str(told["jax"]), told["gpus"], str(told["name"])
    except (OSError, ValueError, LookupError) as error:
        raise ConfigError(f"What answers at {place.address} is not process 0 of a training ({error}).") from None
    line.connection.settimeout(None)
    return {0: line}, {0: name}, address, gpus


def _refuse(lines: dict[int, _Line], problem: str) -> NoReturn:
    for line in lines.values():
        with suppress(OSError):
            line.send({"end": problem})
    raise ConfigError(problem)


def _hello(place: Place) -> dict[str, Any]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return {
        "rank": place.rank,
        "world": place.world,
        "host": socket.gethostname(),
        "machine": machine(),
        "visible": None if visible is None else len(visible.split(",")),
        "versions": {name: version for name, version in versions().items() if name not in _UNLIKE},
    }


def _require_hello(hello: dict[str, Any]) -> None:
    """Raises ValueError for a message that is none, from whoever it comes."""
    kinds = {"rank": int, "world": int, "host": str, "machine": str, "versions": dict}
    wrong = [name for name, kind in kinds.items() if type(hello.get(name)) is not kind]
    if wrong or type(hello.get("visible")) not in (int, type(None)):
        raise ValueError("it is no greeting")


def _named(hello: dict[str, Any]) -> str:
    return f"Process {hello['rank']} on {hello['host']}"


def _unlike(ours: dict[str, Any], theirs: dict[str, Any], *, taken: bool) -> str:
    """Why a process cannot train with process 0, or an empty text."""
    name, here, there = _named(theirs), ours["versions"], theirs["versions"]
    if theirs["world"] != ours["world"]:
        return f"{name} was told of {theirs['world']} processes, process 0 of {ours['world']}."
    if taken or not 0 < theirs["rank"] < ours["world"]:
        return f"{name} has a number that another one has: each needs its own, 0 to {ours['world'] - 1}."
    other = [key for key in here if there.get(key) != here[key]]
    if not other:
        return ""
    lists = (", ".join(f"{key} {held.get(key, 'none')}" for key in other) for held in (there, here))
    return "{} has {}; process 0 has {}. Install the same everywhere.".format(name, *lists)


def _gpus_of(rank: int, said: dict[int, dict[str, Any]]) -> list[int] | None:
    """Of a machine with several processes that see the same GPUs, each gets one."""
    beside = sorted(other for other, hello in said.items() if hello["machine"] == said[rank]["machine"])
    visible = said[rank]["visible"]
    if len(beside) == 1 or (visible is not None and visible < len(beside)):
        return None
    return [beside.index(rank)]


def _family(place: Place) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in place.host else socket.AF_INET


def _free_port(place: Place) -> int:
    with socket.create_server((place.host, 0), family=_family(place)) as free:
        return int(free.getsockname()[1])
