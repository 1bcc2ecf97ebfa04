"""`metrics.encoder`: the same questions asked with an encoder's vectors, raw ones divided by their norms."""

import numpy as np
import pytest

from aistudio.config import MetricsSettings
from aistudio.errors import ConfigError
from aistudio.evaluation.aggregate import aggregate
from aistudio.schema import vector_array, vector_field
from aistudio.search.vectors import RECALL_VECTORS, VectorColumn, vector_column
from tests.evaluation.stored_run import FAST, catalogue, write_run

IMAGES = FAST | {"query": "image"}


def add_encoder(store, name: str, scale: float, normalised: bool, keep_recall: bool = True) -> None:
    """Store the recall vectors once more, `scale` times as long, under the name of an encoder."""
    for entry in store.list("scores/"):
        table = store.read_table(entry.key)
        valid = np.array(table["embedding"].is_valid())
        rows = np.array([v or [0.0] * 16 for v in table["embedding"].to_pylist()], np.float32) * scale
        table = table.append_column(vector_field(f"embedding_{name}", 16), vector_array(rows, valid))
        store.write_table(entry.key, table if keep_recall else table.drop_columns(["embedding"]))
    record = store.read_json("run.json")
    record["models"] = {f"encoders.{name}": {"name": "m", "fingerprint": "f", "normalised": normalised}}
    store.write_json("run.json", record)


@pytest.mark.parametrize(("scale", "normalised"), [(1.0, True), (0.25, False)])
def test_an_encoder_with_the_same_vectors_gives_the_same_numbers(tmp_path, scale, normalised):
    store = write_run(tmp_path / "run", *catalogue())
    own = aggregate(store, MetricsSettings(**IMAGES))
    add_encoder(store, "look", scale, normalised)
    found = aggregate(store, MetricsSettings(encoder="look", **IMAGES))
    assert found["metrics"] == own["metrics"]
    assert found["about"]["name"] == "image_look" and found["about"]["definition"]["encoder"]["name"] == "m"
    assert store.exists("metrics/image_look/metrics.json") and store.exists("metrics/image/metrics.json")


def test_a_run_without_a_recall_model_says_what_to_choose(tmp_path):
    store = write_run(tmp_path / "run", *catalogue())
    add_encoder(store, "look", 3.0, False, keep_recall=False)
    with pytest.raises(ConfigError, match=r"no recall model: choose an encoder with --set metrics\.encoder=look"):
        aggregate(store, MetricsSettings(**IMAGES))
    with pytest.raises(ConfigError, match=r"metrics\.encoder: .* has no vectors of lok; its encoders: look"):
        aggregate(store, MetricsSettings(encoder="lok", **IMAGES))
    with pytest.raises(ConfigError, match="knows no texts; ask with images"):
        aggregate(store, MetricsSettings(encoder="look", **FAST))
    assert vector_column(store, "look", "select.encoder") == VectorColumn("embedding_look", False)


def test_an_old_run_has_the_recall_models_vectors(tmp_path):
    store = write_run(tmp_path / "run", *catalogue())
    assert vector_column(store, None, "metrics.encoder") == RECALL_VECTORS
    with pytest.raises(ConfigError, match="it has no encoders"):
        vector_column(store, "look", "metrics.encoder")
