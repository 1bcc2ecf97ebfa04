"""What canaries cost: their own milliseconds over the milliseconds of the actors, in a run with the demo's models.

    python benchmarks/canaries.py --num 4000                 # the drawn catalogue, on a quiet machine
    python benchmarks/canaries.py --num 3000 --images FOLDER # pictures of one's own, a folder a class

A short run's shards are small, and each has a canary; `--shard-rows 500` is what long runs have. The milliseconds of
actors are those that they record (model, waiting for pictures, storing). A canary is one more picture, text and ranking
of a call that has others, so its own milliseconds are measured beside the run, in this process, with as many threads as
an actor has: calls of `--batch` inputs and the canary, less calls without it; and the comparisons. A fixed text is
computed again where an actor's model computed other texts since; where all of a shard's texts are remembered it costs a
call alone. How many shards had new texts is counted from the run, at most: a text may be new to each actor once.
On a GPU the check that each actor makes once, before its first commit, has a line of its own.
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
from aistudio.store import Store, open_store

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
        return report(result, own, *count_shards(open_store(config.output), result.record.plan.num_actors or 1))


def count_shards(store: Store, num_actors: int) -> tuple[int, int]:
    """Return how many shards there are, and how many at most had a text that their actor had not met."""
    seen, first, keys = set[str](), 0, sorted(layout.score_keys(store))
    for key in keys:
        texts = set(store.read_table(key, ["text"])["text"].to_pylist())
        first += not texts <= seen
        seen |= texts
    return len(keys), min(len(keys), first * num_actors)


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
        canaries.check(encoders, rank, plan.batch_size or NUM_PICTURES, recall=recall)

    steps = {"comparisons": judge} | ({"once an actor": first} if plan.device != "cpu" else {})
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

    def rank(some: list[str], *, canary: bool) -> object:
        names = [POI_NAMES if canary and i == 0 else None for i in range(len(some))]  # without, a title is the text
        return encoders.rank(vectors[: len(some)], some, names)

    found: dict[str, tuple[Step, Step, Step]] = {
        "image towers": (partial(encoders.encode, [picture]), partial(encoders.encode, drawn[:batch]),
                         partial(encoders.encode, [picture, *drawn[batch:]])),
    }  # fmt: skip
    if encoders.recall is not None:
        found["text tower"] = (partial(encoders.texts, [TEXT]), partial(encoders.texts, texts[:batch]),
                               partial(encoders.texts, [TEXT, *texts[batch:]]))  # fmt: skip
    if encoders.towers.rank is not None:
        found["ranking"] = (partial(rank, [TEXT], canary=True), partial(rank, texts[:batch], canary=False),
                            partial(rank, [TEXT, *texts[batch:]], canary=True))  # fmt: skip
    return found


def report(result: Result, own: dict[str, list[float]], num_shards: int, num_new: int) -> int:
    """Print the table; 1 when the aim is missed. `num_new`: shards with new texts."""
    timings, actors = result.record.timings, result.record.plan.num_actors or 1
    actor_ms = 1e3 * (timings.model_s + timings.wait_s + timings.write_s)
    print("\n| step of one canary | ms, median | 95 % below |\n|---|--:|--:|")
    for name, values in own.items():
        print(f"| {name} | {statistics.median(values):.3f} | {sorted(values)[int(0.95 * len(values))]:.3f} |")
    median = {name: max(0.0, statistics.median(values)) for name, values in own.items()}
    once, each = median.get("once an actor", 0.0), median["comparisons"] + median["image towers, one more"]
    texts = [name for name in ("text tower", "ranking") if f"{name}, alone" in own]
    new = sum(median[f"{name}, one more"] for name in texts)
    remembered = sum(median[f"{name}, alone"] for name in texts)
    total = num_shards * each + num_new * new + (num_shards - num_new) * remembered
    print(
        f"\n{result.ledger.num_stored:,} rows in {num_shards:,} shards, at most {num_new:,} with new texts, by "
        f"{actors} actor(s): actors' time {actor_ms:,.0f} ms (model {timings.model_s:.1f} s, waiting "
        f"{timings.wait_s:.1f} s, storing {timings.write_s:.1f} s)\n"
        f"canaries: {each + new:.2f} ms a shard with new texts, {each + remembered:.2f} ms another, {total:,.0f} ms in "
        f"all, {total / actor_ms:.3%} of the actors' time (aim: under {AIM:.1%})"
        + (f"; once an actor {once:.1f} ms more, {once * actors / actor_ms:.3%}" if once else "")
    )
    return int(total / actor_ms >= AIM)


if __name__ == "__main__":
    sys.exit(main())
