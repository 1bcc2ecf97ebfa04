"""2,000 rows over three nodes, one killed in the middle: every row has its outcome, every score is the same.

The nodes have no weights: they fetch them from an address, each into its own cache. The single node, which is the
tests' own Ray, has the files.
"""

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from aistudio.config import load_config
from aistudio.pipeline.score import prepare, score
from tests.weights.file_server import FileServer

ROWS, SHARD_ROWS = 2_000, 50
ROOT = Path(__file__).resolve().parents[2]


def run(command: list[str], temp: Path) -> str:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
    env = kept | {"PYTHONPATH": str(ROOT), "RAY_TMPDIR": str(temp), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *command], env=env, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def at_addresses(conf: str, folder: Path, server: FileServer) -> str:
    """A copy of a model's conf whose files are at the server alone."""
    data = yaml.safe_load(Path(conf).read_text())
    files = {}
    for name in (Path(data["weights"]["path"]).name, "vocab.txt"):
        files[name] = {"path": f"{folder}/nowhere/{name}", "url": server.url(f"/{name}")}
    data |= {"weights": files.pop(Path(data["weights"]["path"]).name), "extra_files": files}
    data["tokenizer"] = f"{folder}/nowhere"
    path = folder / Path(conf).name
    path.write_text(yaml.safe_dump(data))
    return str(path)


def scores(folder: Path):
    return pq.read_table(folder / "scores").to_pandas().set_index("row_id").sort_index()


def fingerprint(folder: Path) -> dict[str, str]:
    return json.loads((folder / "run.json").read_text())["shape"]["models"]


@pytest.mark.campaign
@pytest.mark.cluster
@pytest.mark.timeout(580)
def test_a_node_that_vanishes_costs_no_row_and_changes_no_score(image_server, tmp_path, tiny_models, local_ray):
    faults = {7: "404", 8: "html", 9: "empty"}
    urls = [image_server.url(f"{faults.get(i % 100, 'ok')}/{i}.jpg") for i in range(ROWS)]
    image_server.latency_s = 0.01  # so that the kill falls into the middle of downloads
    lines = ["item_id,image_url,text", *(f"item{i % 50},{url},text {i % 50}" for i, url in enumerate(urls))]
    (tmp_path / "m.csv").write_text("\n".join(lines) + "\n")
    conf = {
        "manifest": {"path": str(tmp_path / "m.csv"), "format": "csv"},
        "models": {"recall": tiny_models["recall"], "ranking": tiny_models["ranking"]},
        "download": {"allow_private_addresses": True, "backoff_s": 0.05, "per_host_concurrency": 8},
        "images": {"thumbnail_px": 0},
        "engine": {"shard_rows": SHARD_ROWS},
    }
    published = Path(tiny_models["recall"]).parent
    server = FileServer({f"/{p.name}": p.read_bytes() for p in published.iterdir() if p.suffix != ".yaml"})
    away = {"models": {s: at_addresses(c, tmp_path, server) for s, c in conf["models"].items()}}
    for name, models in (("three", away), ("one", {})):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(conf | models | {"output": str(tmp_path / name)}))
    temp = Path(f"/tmp/ray-three-{os.getpid()}")  # Unix sockets lie here: a short path
    try:
        program = str(Path(__file__).with_name("three_nodes.py"))
        with server:
            run([program, str(tmp_path / "three.yaml"), "6", str(tmp_path / "seen.json"), str(tmp_path / "c")], temp)
        seen = json.loads((tmp_path / "seen.json").read_text())
        print(seen)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    score(prepare(load_config(tmp_path / "one.yaml", ["engine.num_actors=1", "engine.device=cpu"])))
    assert (seen["nodes"], seen["nodes_left"], seen["actors"]) == (3, 2, 3)
    assert seen["actors_on_it"] >= 1 and seen["files_when_killed"] < ROWS // SHARD_ROWS
    assert seen["complete"] and seen["rows"] == [ROWS, ROWS]
    assert seen["counts"] == {"ok": 1_940, "http_error": 20, "not_an_image": 20, "empty": 20}
    three, one = scores(tmp_path / "three"), scores(tmp_path / "one")
    assert len(three) == len(one) == ROWS and (three.index == one.index).all()
    assert (three["status"] == one["status"]).all() and (
        three["content_hash"].fillna("") == one["content_hash"].fillna("")
    ).all()
    for column in ("recall_score", "rank_score"):
        assert np.nanmax(np.abs(three[column] - one[column])) <= 1e-6
    assert fingerprint(tmp_path / "three") == fingerprint(tmp_path / "one")
    # Three nodes, three caches, one download each.
    assert Counter(server.paths) == {"/recall.safetensors": 3, "/ranking.safetensors": 3, "/vocab.txt": 3}
    for number in range(3):
        assert len(list((tmp_path / f"c/{number}/weights/blobs").iterdir())) == 3
    ok = one["status"] == "ok"
    assert np.abs(np.stack(three[ok]["embedding"]) - np.stack(one[ok]["embedding"])).max() <= 1e-6
