"""POI tables of a stored run: the best images of each POI, whatever the shards; the ranking model's own vectors."""

import numpy as np
import pyarrow as pa
import pytest

from aistudio.config import load_model_config
from aistudio.errors import ConfigError, StoreError
from aistudio.models import load_model
from aistudio.pipeline.poi_table import poi_table_of_run, read_counts
from aistudio.poi_table import PoiTable
from aistudio.schema import score_schema
from aistudio.store import open_store

DIM = 16


def write_scores(root, column: str, n: int = 60) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Three POIs over four shards; every tenth row failed."""
    rng = np.random.default_rng(3)
    names = [("west", "east", "north")[i % 3] for i in range(n)]
    scores, vectors = rng.normal(size=n).astype(np.float32), rng.normal(size=(n, DIM)).astype(np.float32)
    schema = score_schema([], dict.fromkeys(("embedding", column), DIM))
    store = open_store(str(root))
    for shard in range(4):
        part = range(shard * n // 4, (shard + 1) * n // 4)
        columns = {
            "row_id": [str(i) for i in part],
            "item_id": ["i"] * len(part),
            "image_url": ["u"] * len(part),
            "text": [names[i] for i in part],
            "status": ["timeout" if i % 10 == 0 else "ok" for i in part],
            "recall_score": [None if i % 10 == 0 else float(scores[i]) for i in part],
            column: [None if i % 10 == 0 else vectors[i].tolist() for i in part],
        }
        table = {f.name: pa.array(columns.get(f.name, [None] * len(part)), f.type) for f in schema}
        store.write_table(f"scores/00000-{shard:06d}.parquet", pa.table(table, schema=schema))
    return names, scores, vectors


@pytest.mark.parametrize(("ranking", "column"), [("ranking", "embedding"), ("other_ranking", "rank_embedding")])
def test_the_mean_of_the_ten_best_images_and_the_ranking_models_name_vectors(tmp_path, make_config, ranking, column):
    config = make_config("-", ranking=ranking)
    names, scores, vectors = write_scores(config.output, column)
    table = poi_table_of_run(open_store(config.output), config, counts={"east": (1, 2, 3)})
    pois = PoiTable.from_arrow(table)
    for name in ("west", "east", "north"):
        mine = [i for i in range(60) if names[i] == name and i % 10]
        best = sorted(mine, key=lambda i: -scores[i])[:10]
        assert np.abs(pois.pictures[name] - vectors[best].mean(axis=0)).max() < 1e-6
    assert tuple(pois.counts["west"]) == (len([i for i in range(60) if i % 3 == 0 and i % 10]), 0, 0)
    assert tuple(pois.counts["east"]) == (1, 2, 3)
    model = load_model(load_model_config(config.models.ranking))
    assert np.abs(pois.names["north"] - model.encode_texts(["north"])[0]).max() < 1e-6


def test_mistakes_are_named(tmp_path, make_config):
    config = make_config("-", ranking="ranking")
    with pytest.raises(StoreError, match="no ok image"):
        poi_table_of_run(open_store(config.output), config)
    write_scores(config.output, "embedding")
    with pytest.raises(ConfigError, match="--name-column nope: the run's rows have row_id"):
        poi_table_of_run(open_store(config.output), config, name_column="nope")
    with pytest.raises(ConfigError, match="no ranking model"):
        poi_table_of_run(open_store(config.output), make_config("-", ranking=None))


def test_counts_come_from_a_csv(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("name,n0,n1,n2\n西湖,3,2,1\n", encoding="utf-8-sig")
    assert read_counts(path) == {"西湖": (3, 2, 1)}
    path.write_text("name,n0\n西湖,3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="name, n0, n1, n2"):
        read_counts(path)
