"""Kill a training at random moments, some of them inside a commit, and compare its weights with an untouched one's.

    python benchmarks/train_kills.py [--task ranking] [--kills 20] [--in-commit 5] [--seed 0]

Each start is a process of its own that is killed (SIGKILL) after a random number of updates, or in the middle of
writing a checkpoint; the last start runs to its end. One CPU thread: the weights must be equal bit for bit.
"""

import argparse
import multiprocessing
import os
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from aistudio.store import Store, open_store
from aistudio.training import layout, loop, programs
from aistudio.training.team import Team

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.training import tiny_training as tiny


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--task", choices=("ranking", "recall", "composer", "embedder", "vae"), default="ranking")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--in-commit", type=int, default=5, help="at least so many inside a checkpoint's commit")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="aistudio-kills-") as tmp:
        make = getattr(tiny, args.task)
        steps = 6 * args.kills
        validation = {"every_epochs": None, "every_steps": steps // 2}
        conf = make(Path(tmp), epochs=None, steps=steps, checkpoint_every_steps=2, validation=validation)
        return campaign(conf, args.kills, args.in_commit, random.Random(args.seed))


def campaign(conf: dict[str, Any], kills: int, in_commit: int, rng: random.Random) -> int:
    """Run the untouched and the killed training; returns the exit code."""
    straight = conf | {"output": conf["output"] + "-straight"}
    run(straight, None)
    moments = ["commit"] * in_commit + [rng.choice(("commit", "update")) for _ in range(kills - in_commit)]
    rng.shuffle(moments)
    counts = {"commit": 0, "update": 0}
    for number, kind in enumerate(moments):
        after = rng.randint(1, 4) if kind == "update" else rng.randint(1, 2)
        code = run(conf, (kind, after, rng.choice(("before", "half", "after"))))
        if code != -signal.SIGKILL:
            print(f"kill {number}: the training ended with {code} before it was killed")
            return 1
        counts[kind] += 1
        at = layout.checkpoint_steps(open_store(conf["output"]))
        print(f"kill {number + 1:2}/{kills}: in {kind:6} number {after}; checkpoints {at}", flush=True)
    assert run(conf, None) == 0
    mine, theirs = (weights(c["output"]) for c in (conf, straight))
    different = [name for name in theirs if not torch.equal(mine[name], theirs[name])]
    equal = len(theirs) - len(different)
    print(f"{kills} kills ({counts['commit']} in a commit): {equal} of {len(theirs)} tensors equal")
    return 1 if different else 0


def run(conf: dict[str, Any], kill: tuple[str, int, str] | None) -> int:
    """Train in a process of its own; returns its exit code, negative for a signal."""
    process = multiprocessing.get_context("fork").Process(target=_child, args=(conf, kill))
    process.start()
    process.join(600)
    assert process.exitcode is not None
    return process.exitcode


def _child(conf: dict[str, Any], kill: tuple[str, int, str] | None) -> None:
    with Path(os.devnull).open("w") as sink:
        os.dup2(sink.fileno(), 2)
    if kill is not None:
        {"commit": _kill_in_commit, "update": _kill_in_update}[kill[0]](*kill[1:])
    programs.train(tiny.parsed(conf), Team(), lambda text: None, "-")
    sys.stdout.flush()
    os._exit(0)


def _kill_in_update(number: int, moment: str) -> None:
    update, seen = loop.Loop._update, [0]

    def counted(self: Any, parts: Any) -> None:
        seen[0] += 1
        if seen[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)
        update(self, parts)

    loop.Loop._update = counted  # type: ignore[method-assign]


def _kill_in_commit(number: int, moment: str) -> None:
    write, seen = Store.write_bytes, [0]

    def killing(self: Store, key: str, data: bytes, **options: Any) -> bool:
        seen[0] += key.startswith(layout.CHECKPOINTS)
        due = seen[0] == number and key.startswith(layout.CHECKPOINTS)
        if due and moment == "half":
            path = Path(self.path(key))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.with_name(f".{path.name}.x.tmp").write_bytes(data[: len(data) // 2])
        done = (not due or moment == "after") and write(self, key, data, **options)
        if due:
            os.kill(os.getpid(), signal.SIGKILL)
        return done

    Store.write_bytes = killing  # type: ignore[method-assign]


def weights(output: str) -> dict[str, torch.Tensor]:
    """Return the exported tensors."""
    [path] = Path(output, layout.EXPORT).glob("*.safetensors")
    return safetensors.torch.load_file(path)


if __name__ == "__main__":
    sys.exit(main())
