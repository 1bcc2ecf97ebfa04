"""Run a scoring job over three nodes on this machine and kill one of them in the middle; writes what it saw as JSON.

    python three_nodes.py CONF KILL_AFTER SEEN CACHES

Each node has a cache of its own, CACHES/<number>, as machines without a shared disk do; the driver shares the head's.
The third node is killed (as a machine that vanishes) when KILL_AFTER score files are there and an actor runs on it; 0:
none is killed. Runs as a process of its own: nodes, addresses and environment of Ray end with it.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path

import ray
from ray.cluster_utils import Cluster

from aistudio.config import load_config
from aistudio.pipeline.score import prepare, score

NODE = {"num_cpus": 1, "object_store_memory": 120 * 1024 * 1024}


def kill_after(cluster: Cluster, node: object, scores: Path, num_files: int, seen: dict[str, object]) -> None:
    started = time.monotonic()
    seen["actors_on_it"] = 0
    while len(list(scores.glob("*.parquet"))) < num_files or not seen["actors_on_it"]:
        if time.monotonic() - started > 230:  # the whole run is given 240
            return
        time.sleep(0.05)
        seen["actors_on_it"] = actors_on(node.node_id)  # type: ignore[attr-defined]
    cluster.remove_node(node, allow_graceful=False)
    seen["files_when_killed"] = len(list(scores.glob("*.parquet")))


def actors_on(node_id: str) -> int:
    from ray._private.state import actors

    return sum(a["State"] == "ALIVE" and a["Address"]["NodeID"] == node_id for a in actors().values())


def main() -> None:
    config = load_config(sys.argv[1])
    caches = [{"AISTUDIO_CACHE": f"{sys.argv[4]}/{number}"} for number in range(3)]
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"env_vars": caches[0]})
    nodes = [cluster.add_node(**NODE, env_vars=env) for env in caches[1:]]
    os.environ |= caches[0]
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    seen: dict[str, object] = {"nodes": len(ray.nodes())}
    num_files = int(sys.argv[2])
    if num_files:
        watch = (cluster, nodes[-1], Path(config.output) / "scores", num_files, seen)
        threading.Thread(target=kill_after, args=watch, daemon=True).start()
    try:
        result = score(prepare(config))
        plan, timings = result.record.plan, result.record.timings
        seen |= {
            "complete": result.ledger.complete,
            "rows": [result.ledger.num_manifest, result.ledger.num_stored],
            "counts": result.ledger.counts,
            "actors": plan.num_actors,
            "wall_s": timings.wall_s,
            "images_per_s": timings.images_per_s,
            "nodes_left": sum(n["Alive"] for n in ray.nodes()),
        }
        Path(sys.argv[3]).write_text(json.dumps(seen))  # not stdout: a raylet that is killed writes there
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    main()
