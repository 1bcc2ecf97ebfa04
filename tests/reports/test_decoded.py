"""The page of reconstructions: decoded from stored thumbnails by the models that the run names, or why not."""

import io

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from aistudio.config import ReportSettings
from aistudio.models import load_model
from aistudio.models._checkpoint import save_weights
from aistudio.models.vae import state_dict_published
from aistudio.pipeline.report import write_report
from aistudio.reports import decoded
from aistudio.training.vae_loss import kl_divergence
from tests.evaluation.stored_run import catalogue, write_run
from tests.models.test_vae import ARCH, pictures, written
from tests.reports.test_questionnaire import picture

HOSTILE = '"><img src=x onerror="window.__pwned=1">'


@pytest.fixture
def run(tmp_path):
    """A run with a VAE and a plain autoencoder among its encoders, thumbnails stored."""
    models = {}
    for seed, (name, beta) in enumerate((("vae", 1.0), ("plain", 0.0))):
        folder = tmp_path / name
        folder.mkdir()
        cfg, _ = written(folder, ARCH | {"beta": beta}, seed)
        conf = folder / "conf.yaml"
        conf.write_text(yaml.safe_dump(cfg.model_dump(mode="json", exclude_defaults=True)))
        facts = {"conf": str(conf), "name": name, "family": "vae", "fingerprint": load_model(cfg).fingerprint}
        models[f"encoders.{name}"] = facts | {"files": {}}
    rows, texts = catalogue()
    for i, row in enumerate(rows):
        row["item_id"] = f"{HOSTILE}{i}"
        row["thumbnail"] = picture(i) if row["status"] == "ok" and i % 5 else None
    store = write_run(tmp_path / "run", rows, texts)
    store.write_json("run.json", store.read_json("run.json") | {"models": models})
    return store


def reported(store, **how):
    write_report(store, ReportSettings(map_images=0, **how))
    return {e.key.removeprefix("report/"): store.read_bytes(e.key) for e in store.list("report/")}


def size(data):
    with Image.open(io.BytesIO(data)) as image:
        return image.size


def test_every_autoencoder_decodes_the_same_pictures(run):
    files = reported(run, decoded_pictures=5)
    page = files["decoded.html"].decode()
    assert "variational, beta 1" in page and "plain autoencoder" in page and "<img src=x" not in page
    strips = {n: size(data) for n, data in files.items() if n.startswith("thumbs/decoded/")}
    of_five = {(5 * (decoded.TILE_PX + decoded.GAP_PX) - decoded.GAP_PX, decoded.TILE_PX)}
    assert {s for n, s in strips.items() if "originals" in n or "reconstructions" in n} == of_five
    assert files["thumbs/decoded/vae-originals.png"] == files["thumbs/decoded/plain-originals.png"]
    assert files["thumbs/decoded/vae-reconstructions.png"] != files["thumbs/decoded/plain-reconstructions.png"]
    assert "thumbs/decoded/vae-samples.png" in strips and "thumbs/decoded/plain-samples.png" not in strips
    assert sum("walk" in n for n in strips) == 6
    assert b"decoded-kl-vae" in files["data/figures-decoded.js"] and b"kl-plain" not in files["data/figures-decoded.js"]
    assert (
        files["thumbs/decoded/vae-samples.png"] == reported(run, decoded_pictures=5)["thumbs/decoded/vae-samples.png"]
    )


def test_weights_that_are_gone_or_others_are_said(run, tmp_path):
    (tmp_path / "vae/vae.safetensors").unlink()
    _, other = written(tmp_path / "plain", ARCH, seed=9)
    save_weights(state_dict_published(other), tmp_path / "plain/vae.safetensors")
    page = reported(run)["decoded.html"].decode()
    assert "vae cannot be decoded here" in page and "plain cannot be decoded here" in page
    assert "is another model now" in page and "Originals over reconstructions" not in page


def test_no_page_without_autoencoders_or_when_not_wanted(run):
    assert "decoded.html" not in reported(run, decoded_pictures=0)
    record = run.read_json("run.json")
    record["models"] = {k: v | {"family": "vision"} for k, v in record["models"].items()}
    run.write_json("run.json", record)
    assert "decoded.html" not in reported(run)


def test_kl_by_dimension_adds_up_to_the_loss(tmp_path):
    cfg, model = written(tmp_path, ARCH)
    pixels = pictures(7)
    with torch.no_grad():
        mean, log_variance = model.encode(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255)
    found = load_model(cfg).kl_by_dimension(pixels)
    assert len(found) == 5 and sum(found) == pytest.approx(float(kl_divergence(mean, log_variance).mean()), rel=1e-4)
    assert load_model(cfg).kl_by_dimension(pixels[:0]) == [0.0] * 5


def test_a_mosaic_keeps_the_order_and_fills_its_last_row():
    tiles = np.stack([np.full((8, 8, 3), 40 * i, np.uint8) for i in range(5)])
    data = decoded.mosaic(tiles, 3)
    step = decoded.TILE_PX + decoded.GAP_PX
    with Image.open(io.BytesIO(data)) as image:
        at = [image.getpixel((x * step + 5, y * step + 5)) for y in range(2) for x in range(3)]
    assert [p[:3] for p in at[:5]] == [(40 * i,) * 3 for i in range(5)] and at[5][3] == 0
