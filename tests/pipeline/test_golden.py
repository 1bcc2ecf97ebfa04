"""The published models through the whole job, HTTP to Parquet, against the reference implementation's numbers.

Needs the golden fixtures beside the checkout; tests/models/ has a small golden case that runs everywhere.
"""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from aistudio.config import JobConfig, parse_config
from aistudio.evaluation.aggregate import aggregate
from aistudio.pipeline.score import prepare, score
from aistudio.poi_table import convert_published
from aistudio.store import open_store
from tests.score_here import finished_here

TABLES = ("poi_2_pic_num.npy", "poi_imgs_avg10_vector.npy", "poi_name_vector.npy")


@pytest.fixture(scope="module")
def golden(shared_dir) -> dict:
    """Folder, cases and expected arrays of the public golden set."""
    case = shared_dir / "golden/public"
    if not case.is_dir():
        pytest.skip(f"{case} is not there")
    cases = json.loads((case / "cases.json").read_text(encoding="utf-8"))
    return {"folder": case, "cases": cases, "want": np.load(case / "expected.npz")}


@pytest.fixture(scope="module")
def models(golden, shared_dir, tmp_path_factory) -> dict[str, str]:
    """Conf files of checkpoints in the published formats, and the converted POI table."""
    folder = tmp_path_factory.mktemp("golden")
    path = Path(__file__).parents[1] / "models/golden_adapter.py"
    spec = importlib.util.spec_from_file_location("golden_adapter_for_pipeline", path)
    adapter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(adapter)
    confs = {}
    for name, config in adapter.write_checkpoints(shared_dir / "golden", folder).items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")), encoding="utf-8")
        confs[name] = str(folder / f"{name}.yaml")
    pq.write_table(convert_published(*(golden["folder"] / t for t in TABLES)), folder / "pois.parquet")
    return confs | {"poi_table": str(folder / "pois.parquet")}


@pytest.fixture
def urls(golden, image_server) -> list[str]:
    """Each golden image, served over HTTP."""
    files = [golden["folder"] / image["file"] for image in golden["cases"]["images"]]
    return [image_server.add(f"golden/{f.name}", f.read_bytes()) for f in files]


def job(tmp_path: Path, models: dict[str, str], manifest: Path, format: str, **engine: object) -> JobConfig:
    data = {
        "manifest": {"path": str(manifest), "format": format},
        "output": str(tmp_path / f"run_{manifest.stem}"),
        "models": models,
        "download": {"allow_private_addresses": True},
        "engine": {"num_actors": 1, "plan": "fused", **engine},
    }
    return parse_config(data, "test")


def rows_of(config: JobConfig) -> dict[str, dict]:
    return {r["row_id"]: r for r in pa.Table.to_pylist(pq.read_table(f"{config.output}/scores"))}


def manifest_rows(golden: dict, urls: list[str]) -> list[dict]:
    """Every image with every text, then the ranking cases."""
    cases = golden["cases"]
    grid = [
        {"row_id": f"{i}x{t}", "item_id": f"text{t}", "image_url": url, "text": text}
        for i, url in enumerate(urls)
        for t, text in enumerate(cases["texts"])
    ]
    return grid + [
        {
            "row_id": f"rank{k}",
            "item_id": f"case{k}",
            "image_url": urls[c["image"]],
            "text": c["title"],
            "poi_names": c["poi_names"],
        }
        for k, c in enumerate(cases["rank_cases"])
    ]


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("\n".join(json.dumps(r, ensure_ascii=False) for r in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "run",
    [finished_here, pytest.param(lambda config: score(prepare(config)), marks=pytest.mark.campaign)],
    ids=["in this process", "through Ray"],
)
def test_stored_vectors_and_scores_are_the_references(run, golden, models, urls, tmp_path, local_ray):
    rows, want = manifest_rows(golden, urls), golden["want"]
    first = job(tmp_path, models, write_jsonl(tmp_path / "a.jsonl", rows), "jsonl", batch_size=4)
    other = job(
        tmp_path, models, write_jsonl(tmp_path / "b.jsonl", rows[::-1]), "jsonl",
        batch_size=1, shard_rows=17, plan="staged", device="cpu",
    )  # fmt: skip
    columns = {"columns": {name: name for name in ("row_id", "item_id", "image_url", "text", "poi_names")}}
    configs = [c.model_copy(update={"manifest": c.manifest.model_copy(update=columns)}) for c in (first, other)]
    for config in configs:
        run(config)
    stored = [rows_of(config) for config in configs]
    for found in stored:
        assert len(found) == len(rows) and {r["status"] for r in found.values()} == {"ok"}
        images = np.array([found[f"{i}x0"]["embedding"] for i in range(len(urls))])
        assert np.abs(images - want["image_embeddings"]).max() <= 5e-5
        num_images, num_texts = want["similarity"].shape
        grid = [[found[f"{i}x{t}"]["recall_score"] for t in range(num_texts)] for i in range(num_images)]
        assert np.abs(np.array(grid) - want["similarity"]).max() <= 2e-5
        ranked = np.array([found[f"rank{k}"]["rank_score"] for k in range(len(want["rank_scores"]))])
        assert np.abs(ranked - want["rank_scores"]).max() <= 5e-4
        own = np.array([found[f"rank{k}"]["rank_embedding"] for k in range(len(ranked))])
        assert np.abs(own - want["rank_image_vec"]).max() <= 5e-5
    for name in ("recall_score", "rank_score"):  # plan, batch size, order and neighbours change nothing
        assert [stored[0][r][name] for r in stored[0]] == [stored[1][r][name] for r in stored[0]]
    texts = pq.read_table(f"{configs[0].output}/texts").to_pydict()
    vectors = dict(zip(texts["text"], texts["embedding"], strict=True))
    got = np.array([vectors[text] for text in golden["cases"]["texts"]])
    assert np.abs(got - want["text_embeddings"]).max() <= 1e-5


def test_the_pairs_give_the_references_accuracy(golden, models, urls, tmp_path, local_ray):
    lines = []
    for k, p in enumerate(golden["cases"]["pairs"]):
        a, b = urls[p["image_a"]], urls[p["image_b"]]
        fields = (f"pair{k}", a, b, p["ctr_a"], p["ctr_b"], p["title"], "tour", a, b, p["poi_names"])
        lines.append("$record$".join(map(str, fields)))
    manifest = tmp_path / "pairs.txt"
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = job(tmp_path, models, manifest, "ranking_pairs")
    finished_here(config)
    rows = pq.read_table(f"{config.output}/scores").to_pandas().set_index("row_id")
    for side in "ab":
        got = rows.loc[[f"{k}:{side}" for k in range(1, len(lines) + 1)], "rank_score"].to_numpy()
        assert np.abs(got - golden["want"][f"pair_scores_{side}"]).max() <= 5e-4
    metrics = aggregate(open_store(config.output), config.metrics)["metrics"]
    assert metrics["pairwise_accuracy"]["value"] == pytest.approx(float(golden["want"]["pair_accuracy"]), abs=1e-9)
