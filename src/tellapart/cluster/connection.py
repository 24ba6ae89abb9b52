"""The address of a Ray cluster -> a connection to it, and its machines, each of which can do tellapart's work."""

from __future__ import annotations

import logging
import os
import re
import socket
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from tellapart.cluster.storage import Storage, reason
from tellapart.errors import ConfigError, require_extra, some

SECONDS = 5.0
"""Within which an address answers that it is one."""
NODE_SECONDS = 120.0
"""Within which every machine has imported tellapart."""
_ADDRESS = re.compile(r"(?P<scheme>ray://)?(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\])(:(?P<port>\d{1,5}))?")
_SETTINGS = b"\4"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + _SETTINGS + bytes(5)
"""What a client of HTTP/2 begins with, such as gRPC, which Ray speaks; the server answers with its settings."""
_SAME = ("tellapart", "onnxruntime", "numpy", "pillow", "opencv-python-headless")
"""Packages whose version decides an answer."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster: its name, and how many processor cores and GPUs Ray may use there."""

    identity: str
    name: str
    cpus: int
    gpus: int


@contextmanager
def connected(address: str) -> Iterator[list[Node]]:
    """The machines that have processor cores. address: `auto` for the cluster that this machine belongs to, HOST:PORT,
    or ray://HOST:PORT from outside. Raises ConfigError at once for anything else, and MissingExtraError without Ray."""
    require_extra("A cluster", "cluster", "ray", "pyarrow", "fsspec")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    _require_answer(address)
    import ray

    if ray.is_initialized():
        yield _nodes()
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise ConfigError(_refusal(address, error)) from None
    try:
        yield _nodes()
    finally:
        ray.shutdown()


def _require_answer(address: str) -> None:
    """Ray itself waits for minutes for an address where nothing listens."""
    if address == "auto":
        return
    found = _ADDRESS.fullmatch(address)
    if found is None or (found["port"] is None and not found["scheme"]):
        raise ConfigError(
            f"{address!r} is not the address of a Ray cluster. Give auto on one of its machines, HOST:6379, which "
            "`ray start --head` prints, or ray://HOST:10001 from outside."
        )
    place = found["host"].strip("[]"), int(found["port"] or 10001)
    try:
        with socket.create_connection(place, SECONDS) as connection:
            connection.settimeout(SECONDS)
            connection.sendall(_HELLO)
            speaks = connection.recv(9)[3:4] == _SETTINGS
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"No Ray cluster answers at {address}: {reason(error)}. Start one there with `ray start --head`, which "
            "prints its address."
        ) from None
    if not speaks:
        raise ConfigError(f"What answers at {address} is not a Ray cluster; `ray start --head` prints the address.")


def _refusal(address: str, error: Exception) -> str:
    words = str(error)
    if "ersion mismatch" in words:
        said = " ".join(words.split())
        return f"The cluster at {address} has other versions of Ray or Python than this machine: {said}"
    if address == "auto":
        return (
            "No Ray cluster runs on this machine. Start one with `ray start --head`, join one with "
            "`ray start --address HOST:6379`, or give the cluster's address."
        )
    return f"The Ray cluster at {address} cannot be used: {' '.join(words.split())}"


def _nodes() -> list[Node]:
    import ray

    found = [
        Node(
            node["NodeID"],
            node["NodeManagerHostname"],
            int(node["Resources"].get("CPU", 0)),
            int(node["Resources"].get("GPU", 0)),
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    useful = [node for node in found if node.cpus]
    if not useful:
        raise ConfigError("The cluster has no machine with processor cores (ray start --num-cpus).")
    return useful


def require_ready(nodes: list[Node], out: Storage | None, image: str = "") -> None:
    """Every machine has the package, the versions of this one, the storage, and the image (a path), if they are given.

    Raises ConfigError that names the machine and what is wrong there.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    token = f"_seen-{os.getpid()}"
    if out is not None:
        out.write(token, b"")
    try:
        look = ray.remote(num_cpus=0, max_retries=1)(_look())
        asked = [
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node.identity, soft=False)).remote(
                list(_SAME), "" if out is None else out.address, token, image
            )
            for node in nodes
        ]
        try:
            answers = ray.get(asked, timeout=NODE_SECONDS)
        except ray.exceptions.GetTimeoutError:
            raise ConfigError(f"A machine of the cluster did not answer in {NODE_SECONDS:.0f} s.") from None
        except ray.exceptions.RayError as error:
            raise ConfigError(f"A machine of the cluster cannot work: {str(error).strip().splitlines()[-1]}") from None
    finally:
        if out is not None:
            out.remove(token)
    here = {name: _version(name) for name in _SAME}
    for node, found in zip(nodes, answers, strict=True):
        _require_fit(node, here, found, out, image)


def _require_fit(node: Node, here: dict[str, str], found: dict[str, Any], out: Storage | None, image: str) -> None:
    where = f"Machine {node.name} of the cluster"
    if not found["versions"]["tellapart"]:
        needed = f"pip install 'tellapart[cluster]=={here['tellapart']}'"
        raise ConfigError(f"{where} lacks the package tellapart. Install it there: {needed}")
    other = [f"{name} {found['versions'][name] or 'none'}" for name in _SAME if found["versions"][name] != here[name]]
    if other:
        wanted = some([f"{name} {here[name]}" for name in _SAME if found["versions"][name] != here[name]], 5)
        raise ConfigError(f"{where} has {some(other, 5)}; this machine has {wanted}. Install the same everywhere.")
    if out is not None and found["storage"]:
        raise ConfigError(
            f"{where} cannot use {out.address}: {found['storage']}. Name a folder that all machines share, or an "
            "address such as s3://."
        )
    if image and not found["image"]:
        raise ConfigError(
            f"{where} does not see {image}. Name images in a folder that all machines share, or in storage (s3://)."
        )


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _look() -> Callable[[list[str], str, str, str], dict[str, Any]]:
    """A function that Ray sends whole, as the package that it looks for may be missing there."""

    def look(packages: list[str], address: str, token: str, image: str) -> dict[str, Any]:
        import os
        from importlib import metadata

        versions = {}
        for name in packages:
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                versions[name] = ""
        storage = ""
        if versions["tellapart"] and address:
            from tellapart.cluster.storage import Storage

            try:
                there = Storage(address)
                there.require_writable()
                storage = "" if there.exists(token) else "what other machines write there is not seen"
            except Exception as error:  # noqa: BLE001 - told by the machine that asked
                storage = str(error)
        return {"versions": versions, "storage": storage, "image": not image or os.path.exists(image)}  # noqa: PTH110 - a path of any bytes

    return look
