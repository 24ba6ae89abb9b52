"""A Ray cluster of two nodes on this machine, in a process of its own: its address and the second node's process are
printed as JSON; each line of standard input adds such a node, whose process is printed; and it ends with the input."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def added(cluster: Any, node: dict[str, Any]) -> int:
    """The process that makes it a node."""
    (raylet,) = cluster.add_node(**node).all_processes["raylet"]
    found: int = raylet.process.pid
    return found


def main() -> None:
    from ray.cluster_utils import Cluster

    # A short path, as it holds sockets.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    node: dict[str, Any] = {"num_cpus": 3, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False, "temp_dir": folder})
    print(json.dumps({"address": cluster.address, "raylet": added(cluster, node)}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(added(cluster, node)), flush=True)
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
