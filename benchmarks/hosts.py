"""How close a run comes to what an image host allows, and how often the host has to refuse.

    python benchmarks/hosts.py                 # 8 downloaders in this process, with agreed limits and with fixed ones
    python benchmarks/hosts.py --dead          # nine hosts, then the same with a tenth that never answers
    python benchmarks/hosts.py --nodes 3       # a whole run: 8 actors on three nodes of Ray, a model that costs nothing

A host on 127.0.0.2 answers `--rate` requests a second and `--at-once` at a time with a picture, and 429 beyond. It is
asked once with limits that the downloaders agree on (as actors do through the run's coordinator), once with the fixed
limit of each alone. Rates are the host's own: good answers over the seconds from its first to its last one.
"""

import argparse
import json
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from unittest.mock import patch

from _limited_host import Hosts, Met

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images.download import Downloader
from aistudio.images.host_limits import Allotment, HostLimits
from aistudio.schema import Status

ROOT = Path(__file__).resolve().parents[1]
TRIES = {"read_timeout_s": 3, "timeout_s": 5, "retries": 5}


def silent_port() -> int:
    """Return a port that takes connections and never answers."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    _KEPT.append(listener)
    return int(listener.getsockname()[1])


_KEPT: list[object] = []


def fetch_all(urls: list[str], workers: int, agreed: bool) -> Counter[str]:
    """Outcomes of all addresses, dealt to the workers."""
    settings = DownloadSettings(allow_private_addresses=True, **TRIES)
    limits, lock = HostLimits({}, settings.per_host_concurrency), threading.Lock()
    counts: Counter[str] = Counter()

    def work(number: int) -> None:
        def together(reports):
            with lock:
                return limits.exchange(str(number), reports, time.monotonic())

        def fixed(reports):
            return dict.fromkeys(reports, Allotment(settings.per_host_concurrency))

        with Downloader(settings, StoreSettings(), exchange=together if agreed else fixed) as downloader:
            for _, found in downloader.stream([(url, None) for url in urls[number::workers]]):
                with lock:
                    counts["ok" if found.status is Status.OK else f"{found.status} {found.http_status or ''}"] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return counts


def run_on_nodes(urls: list[str], nodes: int, actors: int) -> Counter[str]:
    """Outcomes of a run over several nodes of Ray on this machine, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "m.csv").write_text("item_id,image_url,text\n" + "".join(f"i,{url},a text\n" for url in urls))
        conf = {
            "manifest": {"path": f"{folder}/m.csv", "format": "csv"}, "output": f"{folder}/run",
            "models": {"recall": str(ROOT / "conf/models/demo_recall.yaml")},
            "download": {"allow_private_addresses": True, "trust_env_proxy": False, **TRIES},
            "engine": {"plan": "fused", "device": "cpu", "shard_rows": 250, "num_actors": actors, "canaries": False},
        }  # fmt: skip
        Path(folder, "conf.yaml").write_text(json.dumps(conf))
        command = [sys.executable, __file__, "--child", f"{folder}/conf.yaml", str(nodes), str(-(-actors // nodes))]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=900, check=True)
        return Counter(json.loads(done.stdout.splitlines()[-1]))


def child(conf: str, nodes: int, cpus: int) -> None:
    import ray
    from _delta_workers import StubModelFused
    from ray.cluster_utils import Cluster

    from aistudio.config import load_config
    from aistudio.pipeline import dataset
    from aistudio.pipeline.score import prepare, score

    node = {"num_cpus": cpus, "object_store_memory": 120 << 20}
    cluster = Cluster(initialize_head=True, head_node_args=node)
    for _ in range(nodes - 1):
        cluster.add_node(**node)
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        with patch.object(dataset, "FusedWorker", StubModelFused):
            result = score(prepare(load_config(conf)))
        print(json.dumps(result.ledger.counts), flush=True)
    finally:
        ray.shutdown()
        cluster.shutdown()


def row(name: str, met: Met, allowed: float, counts: Counter[str]) -> None:
    cells = f"{met.seconds:.1f} | {met.rate:.0f} | {met.rate / allowed:.1%} | {met.refused_share:.2%}"
    print(f"| {name} | {cells} | {dict(counts)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, help="default: 200; 100 with --dead, where there are nine of them")
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--latency-s", type=float, default=0.05)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=60, help="of work at the host's rate")
    parser.add_argument("--dead", action="store_true", help="ten hosts, one of which never answers, and nine of them")
    parser.add_argument("--nodes", type=int, help="a run over so many nodes of Ray, on this machine")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], int(args.child[1]), int(args.child[2]))
        return
    rate = args.rate or (100.0 if args.dead else 200.0)
    hosts = Hosts(9 if args.dead else 1, rate, args.at_once, args.latency_s)
    numbers = range(int(rate * args.seconds))
    print("| limits | seconds | requests/s | of the allowed | 429 | outcomes |\n|---|---|---|---|---|---|")
    try:
        if args.dead:
            for more in ([], [f"127.0.0.1:{silent_port()}"]):
                urls = [f"http://{place}/{n}" for n in numbers for place in hosts.places + more]
                counts = fetch_all(urls, args.workers, True)
                row("nine hosts" + ", one more dead" * bool(more), hosts.met(), 9 * rate, counts)
            return
        urls = [f"http://{hosts.places[0]}/{n}" for n in numbers]
        if args.nodes:
            counts = run_on_nodes(urls, args.nodes, args.workers)
            row(f"a run, {args.nodes} nodes, {args.workers} actors", hosts.met(), rate, counts)
            return
        for name, agreed in (("agreed", True), ("fixed", False)):
            counts = fetch_all(urls, args.workers, agreed)
            row(name, hosts.met(), rate, counts)
    finally:
        hosts.close()


if __name__ == "__main__":
    main()
