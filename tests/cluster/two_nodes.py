"""A Ray cluster of two nodes on this machine, in a process of its own: its address and the second node's process are
printed as JSON, and it ends with standard input."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from typing import Any

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"


def main() -> None:
    from ray.cluster_utils import Cluster

    # A short path, as it holds sockets.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    node: dict[str, Any] = {"num_cpus": 3, "object_store_memory": 100_000_000}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False, "temp_dir": folder})
    second = cluster.add_node(**node)
    (raylet,) = second.all_processes["raylet"]
    print(json.dumps({"address": cluster.address, "raylet": raylet.process.pid}), flush=True)
    sys.stdin.read()
    cluster.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
