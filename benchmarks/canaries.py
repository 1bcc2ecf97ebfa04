"""What canaries cost: their own milliseconds over the milliseconds of the actors, in a run with the demo's models.

    python benchmarks/canaries.py --num 4000                 # the drawn catalogue, on a quiet machine
    python benchmarks/canaries.py --num 3000 --images FOLDER # pictures of one's own, a folder a class

The run has the default shard_rows; the actors' milliseconds are those that it records (model, waiting for pictures,
storing). A canary's own are measured beside it, in this process, with as many threads as an actor has: its picture
through the image towers alone in a batch, its text, its ranking, and the comparisons. In a run it mostly shares its
batch with other pictures and costs less, so the share is an upper bound. What each actor does once, before its first
shard, is told apart.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _demo_job import demo_job, write_rows

from aistudio.pipeline.cluster import connect
from aistudio.pipeline.score import Prepared, Result, prepare, score
from aistudio.runs import layout
from aistudio.scoring.canaries import NUM_PICTURES, POI_NAMES, TEXT, Canaries, ask, pictures
from aistudio.scoring.encoders import Device, Encoders
from aistudio.store import open_store

AIM = 0.005


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=4000, help="pictures scored")
    parser.add_argument("--images", type=Path, help="folder with a folder for each class; default: a drawn catalogue")
    parser.add_argument("--repeats", type=int, default=300, help="of each measured step")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        config = demo_job(write_rows(folder, args.images, args.num), folder / "run")
        with connect(config.engine):
            prepared = prepare(config)
            result = score(prepared)
        own = own_milliseconds(prepared, result, args.repeats)
        return report(result, own, len(layout.score_keys(open_store(config.output))))


def own_milliseconds(prepared: Prepared, result: Result, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each step of one canary, and of what an actor does before its first shard."""
    plan, specs = result.record.plan, prepared.pinned.specs
    torch.set_num_threads(plan.torch_threads or 1)
    encoders = Encoders(prepared.config, Device(plan.device or "cpu", plan.batch_size or 16, 1.0), prepared.pinned)
    rank, recall = encoders.towers.rank, encoders.recall is not None
    right = ask(encoders, specs, rank, recall=recall)
    canaries = Canaries(lambda: right, specs, prepared.config.engine.precision)
    picture = pictures(specs)[0]
    vectors, text, scores = right
    vector = vectors[rank or 0][:1]
    case = canaries.next()

    def judge() -> None:
        case.judge_image([tower[case.number] for tower in vectors], None)
        if text is not None:
            case.judge_text(text, None)
        if scores is not None:
            case.judge_rank(float(scores[case.number]), None)

    def first() -> None:
        canaries.try_out(encoders, NUM_PICTURES, recall=recall)
        canaries.check(encoders, rank)

    steps: dict[str, Callable[[], object]] = {
        "image towers": lambda: encoders.encode([picture]),
        "text tower": lambda: encoders.texts([TEXT]) if recall else None,
        "ranking": lambda: encoders.rank(vector, [TEXT], [POI_NAMES]) if rank is not None else None,
        "comparisons": judge,
        "once an actor": first,
    }
    found: dict[str, list[float]] = {name: [] for name in steps}
    for i in range(repeats + 5):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if i >= 5:  # the first ones load kernels
                found[name].append(1e3 * (time.perf_counter() - started))
    return found


def report(result: Result, own: dict[str, list[float]], num_shards: int) -> int:
    """Print the table; 1 when the aim is missed."""
    timings, actors = result.record.timings, result.record.plan.num_actors or 1
    actor_ms = 1e3 * (timings.model_s + timings.wait_s + timings.write_s)
    print("\n| step of one canary | ms, median | 95 % below |\n|---|--:|--:|")
    for name, values in own.items():
        print(f"| {name} | {statistics.median(values):.3f} | {sorted(values)[int(0.95 * len(values))]:.3f} |")
    once = statistics.median(own["once an actor"])
    shard_ms = sum(statistics.median(v) for name, v in own.items() if name != "once an actor")
    total = shard_ms * num_shards
    print(
        f"\n{result.ledger.num_stored:,} rows in {num_shards:,} shards by {actors} actor(s): actors' time "
        f"{actor_ms:,.0f} ms (model {timings.model_s:.1f} s, waiting {timings.wait_s:.1f} s, storing "
        f"{timings.write_s:.1f} s)\ncanaries: {shard_ms:.2f} ms a shard, {total:,.0f} ms in all, "
        f"{total / actor_ms:.3%} of the actors' time (aim: under {AIM:.1%}); once an actor {once:.1f} ms more, "
        f"{once * actors / actor_ms:.3%}"
    )
    return int(total / actor_ms >= AIM)


if __name__ == "__main__":
    sys.exit(main())
