"""`train --cluster` of a network from scratch: this process, and one that Ray starts on each other machine.

A placement group holds the cores and GPUs of every machine, this one's for this process. What the processes say to each
other is behind training.processes; Ray only starts them, and ends those that are left.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tellapart.cluster.connection import NODE_SECONDS, Node, connected, require_ready
from tellapart.errors import ConfigError
from tellapart.training.launchers import Place

_END_SECONDS = 10.0
"""Within which the others end after this process."""


@contextmanager
def started(address: str, take_part: Callable[[Place], None]) -> Iterator[Place | None]:
    """The place of this process, with the others on their way; None in a cluster of one machine.

    take_part: what each of them calls, a function of the package. Raises ConfigError at once for an address or machines
    that cannot be used.
    """
    with connected(address) as nodes:
        import ray

        own = _own(nodes)
        needs = _needs(own, nodes)
        if len(nodes) == 1:
            yield None
            return
        require_ready(nodes, None)
        group = _reserved(needs, len(nodes))
        tasks = []
        try:
            here = ray.util.get_node_ip_address()
            with socket.create_server((here, 0)) as free:
                port = free.getsockname()[1]
            where = ray.util.placement_group_table(group)["bundles_to_node_id"]
            bundles = [index for index, node in where.items() if node != own.identity]
            for rank, bundle in enumerate(bundles, start=1):
                place = Place(rank, len(nodes), here, port)
                tasks.append(_task(needs, group, bundle, take_part).remote(place))
            yield Place(0, len(nodes), here, port)
            ray.wait(tasks, num_returns=len(tasks), timeout=_END_SECONDS)
        finally:
            for task in tasks:
                ray.cancel(task, force=True)
            ray.util.remove_placement_group(group)


def _own(nodes: list[Node]) -> Node:
    """The machine of this process. Raises ConfigError if it is none of them."""
    import ray

    identity = ray.get_runtime_context().get_node_id()
    own = next((node for node in nodes if node.identity == identity), None)
    if own is None or ray.util.client.ray.is_connected():
        raise ConfigError(
            "This machine is none of those that the cluster computes on, and the process here leads. Give the command "
            "on one of them, with --cluster auto."
        )
    return own


def _needs(own: Node, nodes: list[Node]) -> dict[str, float]:
    """What a process holds of its machine: the cores that all of them have, and every GPU. Raises ConfigError if they
    differ in GPUs.

    >>> _needs(Node("1", "a", 8, 2), [Node("1", "a", 8, 2), Node("2", "b", 4, 2)])
    {'CPU': 4, 'GPU': 2}
    """
    unlike = [node for node in nodes if node.gpus != own.gpus]
    if unlike:
        raise ConfigError(
            f"{unlike[0].name} has {unlike[0].gpus} GPUs and {own.name}, this machine, {own.gpus}. Each needs the same "
            "number of devices for one network (ray start --num-gpus)."
        )
    return {"CPU": min(node.cpus for node in nodes), **({"GPU": own.gpus} if own.gpus else {})}


def _reserved(needs: dict[str, float], machines: int) -> Any:
    """A placement group with a part on every machine."""
    import ray

    group = ray.util.placement_group([needs] * machines, strategy="STRICT_SPREAD")
    if not group.wait(NODE_SECONDS):
        ray.util.remove_placement_group(group)
        raise ConfigError(
            f"The machines of the cluster are busy: after {NODE_SECONDS:.0f} s, not all had "
            f"{needs['CPU']:g} cores and {needs.get('GPU', 0):g} GPUs free. Wait until other work there is done."
        )
    return group


def _task(needs: dict[str, float], group: Any, bundle: int, take_part: Callable[[Place], None]) -> Any:
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    return ray.remote(take_part).options(
        num_cpus=needs["CPU"],
        num_gpus=needs.get("GPU", 0),
        max_retries=0,
        scheduling_strategy=PlacementGroupSchedulingStrategy(group, bundle),
    )
