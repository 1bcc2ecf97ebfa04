"""A run without a recall model: two image-only encoders, one pass over the pixels, metrics and report for each."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from PIL import Image

from aistudio.config import load_config
from aistudio.evaluation.aggregate import aggregate
from aistudio.pipeline.report import write_report
from aistudio.pipeline.score import prepare
from tests.models.test_vision import conf, save_vit, torchvision_net
from tests.score_here import finished_here

NUM, ITEMS = 24, 6


@pytest.fixture
def config(tmp_path: Path):
    """Drawn pictures of six colours, a ResNet-18 of torchvision and a tiny ViT folder, both with random weights."""
    rng = np.random.default_rng(1)
    rows = ["item_id,image_url,text"]
    for i in range(NUM):
        colour = np.array([40 * (i % ITEMS), 250 - 40 * (i % ITEMS), 90])
        noise = rng.integers(-30, 30, (60, 48, 3))
        Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(tmp_path / f"{i}.jpg")
        rows.append(f"item{i % ITEMS},{tmp_path / f'{i}.jpg'},")
    (tmp_path / "m.csv").write_text("\n".join(rows) + "\n")
    torch.save(torchvision_net("resnet18").state_dict(), tmp_path / "resnet18.pth")
    save_vit(tmp_path / "vit")
    look = conf(tmp_path / "resnet18.pth", torchvision="resnet18").model_dump(mode="json", exclude_defaults=True)
    (tmp_path / "look.yaml").write_text(yaml.safe_dump(look))
    patches = {"family": "vision", "name": "vit", "weights": {"path": str(tmp_path / "vit/model.safetensors")}}
    (tmp_path / "patches.yaml").write_text(yaml.safe_dump(patches))
    (tmp_path / "conf.yaml").write_text(
        f"manifest: {{path: {tmp_path}/m.csv, format: csv}}\noutput: {tmp_path}/run\n"
        f"models: {{recall: null, encoders: {{look: {tmp_path}/look.yaml, patches: {tmp_path}/patches.yaml}}}}\n"
        "engine: {shard_rows: 8, num_actors: 1, plan: fused, device: cpu}\n"
    )
    return load_config(tmp_path / "conf.yaml", [])


def test_two_encoders_score_aggregate_and_report(config, local_ray, tmp_path, capsys):
    result = finished_here(config)
    assert result.ledger.complete and result.ledger.counts == {"ok": NUM}
    assert result.record.timings.num_bytes == sum(p.stat().st_size for p in tmp_path.glob("*.jpg"))  # each read once
    table = pq.read_table(tmp_path / "run/scores")
    vectors = {name: np.array(table[f"embedding_{name}"].to_pylist(), np.float32) for name in ("look", "patches")}
    assert vectors["look"].shape == (NUM, 512) and vectors["patches"].shape == (NUM, 32)
    assert "embedding" not in table.column_names
    assert set(result.record.models) == {"encoders.look", "encoders.patches"}
    for name, found in vectors.items():
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
        settings = config.metrics.model_copy(update={"query": "image", "encoder": name, "bootstrap_samples": 50})
        about = aggregate(prepare(config).store, settings)["about"]
        assert about["name"] == f"image_{name}" and about["queries"] == NUM
    store = prepare(config).store
    write_report(store, config.report)
    page = store.read_bytes("report/metrics.html").decode()
    rows = [page.count(f"<td><code>image_{name}</code></td>") for name in vectors]
    assert rows == [1, 1] and "All aggregations" in page
    front = store.read_bytes("report/index.html").decode()
    assert "Encoder look" in front and "Encoder patches" in front and "have no text" not in front
