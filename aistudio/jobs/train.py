"""`python -m jobs.train`: train the demo's recall and ranking weights again, from pictures drawn on the spot.

On 2 cores it takes about a quarter of an hour (measured: 11 minutes to train, 1 to evaluate). Writes
recall.safetensors, ranking.safetensors, vocab.txt, poi_table.parquet, metrics.json and model_card.md.
"""

import argparse
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from aistudio.config import load_model_config
from aistudio.errors import OutputError
from aistudio.places import require_place


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="aistudio train", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--out", default="weights/demo", metavar="DIR", help="where the files go (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of pictures, weights and batches (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="training steps of the recall model (default: the recipe's)")
    parser.add_argument("--threads", type=int, default=2, help="of torch, and drawing processes (default: %(default)s)")
    parser.add_argument("--recall-conf", default="conf/models/demo_recall.yaml", metavar="FILE")
    parser.add_argument("--ranking-conf", default="conf/models/demo_ranking.yaml", metavar="FILE")
    parser.add_argument("--evaluate", action="store_true", help="train nothing; measure the weights in --out again")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    recall_cfg, ranking_cfg = load_model_config(args.recall_conf), load_model_config(args.ranking_conf)
    out = Path(require_place("--out", args.out, ()))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"--out {out}: cannot be written: {e}") from None
    os.nice(10)  # hours of a laptop's idle time are fine; its owner's work goes first

    import torch

    from aistudio.training.card import update_metrics, write_card, write_metrics
    from aistudio.training.demo_weights import Recipe, train_demo
    from aistudio.training.evaluate import evaluate_demo

    torch.set_num_threads(args.threads)
    recipe = Recipe(seed=args.seed, workers=args.threads)
    if args.steps is not None:
        recipe = dataclasses.replace(recipe, recall=dataclasses.replace(recipe.recall, steps=args.steps))
    if args.evaluate:
        metrics = evaluate_demo(recall_cfg, ranking_cfg, out)
        update_metrics(out, metrics)
    else:
        training = train_demo(recall_cfg, ranking_cfg, out, recipe, lambda line: print(line, flush=True))
        metrics = evaluate_demo(recall_cfg, ranking_cfg, out)
        write_metrics(out, recipe, metrics, training)
    write_card(out)
    for name, found in metrics.items():
        hits, chance = found["hit_rate@5"], found["chance_hit_rate@5"]
        right, best = found["pairwise_accuracy"], found["best_possible_pairwise_accuracy"]
        print(f"{name}: hit_rate@5 {hits:.3f} (chance {chance:.3f})", end="  ")
        print(f"pairwise_accuracy {right:.3f} (best possible {best:.3f})")
    print(f"written: {out}/ ({', '.join(sorted(p.name for p in out.iterdir()))})")
    return 0
