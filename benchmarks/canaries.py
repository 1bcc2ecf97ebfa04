"""What canaries cost: their own milliseconds over the milliseconds of the actors, in a run with the demo's models.

    python benchmarks/canaries.py --num 4000                 # the drawn catalogue, on a quiet machine
    python benchmarks/canaries.py --num 3000 --images FOLDER # pictures of one's own, a folder a class

A short run's shards are small, and each has a canary; `--shard-rows 500` is what long runs have. The milliseconds of
actors are those that they record (model, waiting for pictures, storing). A canary is one more picture, text and ranking
of a call that has others, so its own milliseconds are measured beside the run, in this process, with as many threads as
an actor has: calls of `--batch` inputs and the canary, less calls without it; and the comparisons. Told apart are a
call with a canary alone, and what each actor does once, before its first commit.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from _demo_job import demo_job, write_rows

from aistudio.pipeline.cluster import connect
from aistudio.pipeline.score import Prepared, Result, prepare, score
from aistudio.runs import layout
from aistudio.scoring.canaries import NUM_PICTURES, POI_NAMES, TEXT, Canaries, ask, pictures
from aistudio.scoring.encoders import Device, Encoders
from aistudio.store import open_store

AIM = 0.005
Step = Callable[[], object]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=4000, help="pictures scored")
    parser.add_argument("--images", type=Path, help="folder with a folder for each class; default: a drawn catalogue")
    parser.add_argument("--repeats", type=int, default=300, help="of each measured step")
    parser.add_argument("--shard-rows", default="auto", help="engine.shard_rows; full shards of long runs have 500")
    parser.add_argument("--batch", type=int, default=16, help="inputs of a call, beside the canary")
    parser.add_argument("--folder", type=Path, help="where temporary files go")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        rows = args.shard_rows if args.shard_rows == "auto" else int(args.shard_rows)
        config = demo_job(write_rows(folder, args.images, args.num), folder / "run", engine={"shard_rows": rows})
        with connect(config.engine):
            prepared = prepare(config)
            result = score(prepared)
        own = own_milliseconds(prepared, result, args.repeats, args.batch)
        return report(result, own, len(layout.score_keys(open_store(config.output))))


def own_milliseconds(prepared: Prepared, result: Result, repeats: int, batch: int) -> dict[str, list[float]]:
    """Milliseconds of each step of one canary, and of what an actor does before its first commit."""
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

    steps = {"comparisons": judge, "once an actor": first}
    found: dict[str, list[float]] = defaultdict(list)
    for i in range(repeats + 5):
        for name, step in steps.items():
            found[name].append(milliseconds(step))
        for name, (alone, others, more) in calls(encoders, picture, vector, batch, i).items():
            found[f"{name}, alone"].append(milliseconds(alone))
            found[f"{name}, one more"].append(-milliseconds(others) + milliseconds(more))
    return {name: values[5:] for name, values in found.items()}  # the first ones load kernels


def milliseconds(step: Step) -> float:
    started = time.perf_counter()
    step()
    return 1e3 * (time.perf_counter() - started)


def calls(
    encoders: Encoders, picture: tuple[np.ndarray, ...], vector: np.ndarray, batch: int, seed: int
) -> dict[str, tuple[Step, Step, Step]]:
    """Three calls for each part: the canary, `batch` other inputs, `batch` others and the canary. No input repeats."""
    rng = np.random.default_rng(seed)
    drawn = [tuple(rng.integers(0, 256, pixels.shape, np.uint8) for pixels in picture) for _ in range(2 * batch)]
    texts = [f"{TEXT}, number {seed} {i}" for i in range(2 * batch)]
    vectors = np.repeat(vector, 2 * batch, axis=0)

    def rank(n: int, some: list[str]) -> object:
        return encoders.rank(vectors[:n], some, [POI_NAMES] * n)

    found: dict[str, tuple[Step, Step, Step]] = {
        "image towers": (partial(encoders.encode, [picture]), partial(encoders.encode, drawn[:batch]),
                         partial(encoders.encode, [picture, *drawn[batch:]])),
    }  # fmt: skip
    if encoders.recall is not None:
        found["text tower"] = (partial(encoders.texts, [TEXT]), partial(encoders.texts, texts[:batch]),
                               partial(encoders.texts, [TEXT, *texts[batch:]]))  # fmt: skip
    if encoders.towers.rank is not None:
        found["ranking"] = (partial(rank, 1, [TEXT]), partial(rank, batch, texts[:batch]),
                            partial(rank, batch + 1, [TEXT, *texts[batch:]]))  # fmt: skip
    return found


def report(result: Result, own: dict[str, list[float]], num_shards: int) -> int:
    """Print the table; 1 when the aim is missed."""
    timings, actors = result.record.timings, result.record.plan.num_actors or 1
    actor_ms = 1e3 * (timings.model_s + timings.wait_s + timings.write_s)
    print("\n| step of one canary | ms, median | 95 % below |\n|---|--:|--:|")
    for name, values in own.items():
        print(f"| {name} | {statistics.median(values):.3f} | {sorted(values)[int(0.95 * len(values))]:.3f} |")
    once = statistics.median(own["once an actor"])
    counted = ("comparisons", *(name for name in own if name.endswith("one more")))
    shard_ms = sum(max(0.0, statistics.median(own[name])) for name in counted)
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
