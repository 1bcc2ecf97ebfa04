"""Models that are fed crops: the box is stored with the row, the vector is that of the crop, whichever the plan."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torchvision
import yaml
from PIL import Image, ImageDraw

from aistudio.config import load_model_config
from aistudio.errors import ConfigError
from aistudio.images.crop import crop_by_border, cut
from aistudio.images.transform import resize
from aistudio.models import load_model
from aistudio.models._checkpoint import save_weights
from aistudio.pipeline.score import prepare, score
from aistudio.runs.ledger import check_run
from aistudio.store import open_store
from aistudio.weights.files import file_sha256
from tests.models.test_vision import save_vit
from tests.score_here import finished_here

pytestmark = pytest.mark.usefixtures("local_ray")
DETECTOR = "ssdlite320_mobilenet_v3_large"


@pytest.fixture(scope="module")
def cropping(tmp_path_factory) -> dict[str, str]:
    """Conf files of one tower: as it is, on what a plain border leaves, and on what a detector finds."""
    folder = tmp_path_factory.mktemp("cropping")
    torch.manual_seed(3)
    model = torchvision.models.get_model(DETECTOR, weights=None, weights_backbone=None, num_classes=2)
    tensors = {k: v for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_weights(tensors, folder / "detector.safetensors")
    save_vit(folder / "vit")
    plain = {"family": "vision", "name": "vit", "weights": {"path": str(folder / "vit/model.safetensors")}}
    files = {"detector": {"path": str(folder / "detector.safetensors")}}
    files["detector"]["sha256"] = file_sha256(folder / "detector.safetensors")
    detector = {"model": DETECTOR, "lowest_score": 0.01, "pick": "largest"}
    confs = {
        "plain": plain,
        "border": plain | {"image": {"crop": "border"}},
        "found": plain | {"image": {"crop": "model", "detector": detector}, "extra_files": files},
    }
    for name, conf in confs.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(conf), encoding="utf-8")
    return {name: str(folder / f"{name}.yaml") for name in confs}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    """A ring on white, noise without a border, and a file that is no picture."""
    folder = tmp_path_factory.mktemp("pictures")
    ring = Image.new("RGB", (200, 120), "white")
    ImageDraw.Draw(ring).ellipse((60, 30, 120, 90), outline="#803010", width=12)
    ring.save(folder / "ring.png")
    noise = np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    return [folder / name for name in ("ring.png", "noise.png", "broken.png")]


@pytest.mark.parametrize(
    ("plan", "run"),
    [
        ("fused", finished_here), ("staged", finished_here),
        pytest.param("staged", lambda config: score(prepare(config)), marks=pytest.mark.campaign),
    ],
    ids=["fused", "staged", "through Ray"],
)  # fmt: skip
def test_boxes_are_stored_and_vectors_are_those_of_the_crop(plan, run, cropping, pictures, tmp_path, make_config):
    lines = [f"i{n},{path},海" for n, path in enumerate(pictures)]
    (tmp_path / "m.csv").write_text("item_id,image_url,text\n" + "\n".join(lines), encoding="utf-8")
    engine = {"plan": plan, "device": "cpu"}
    config = make_config(tmp_path / "m.csv", ranking=None, engine=engine, models={"encoders": cropping})
    result = run(config)
    rows = pq.read_table(tmp_path / "run/scores").to_pandas().sort_values("item_id", ignore_index=True)
    assert list(rows["status"])[:2] == ["ok", "ok"] and rows["status"][2] != "ok"
    assert rows["crop_border"].isna().tolist() == [False, False, True]
    ring, noise = rows["crop_border"][0], rows["crop_border"][1]
    assert ring["method"] == "border" and 50 <= ring["x0"] <= 60 and 120 <= ring["x1"] <= 130
    assert (noise["method"], noise["x1"], noise["y1"], noise["score"]) == ("whole", 70, 90, None)
    assert {box["method"] for box in rows["crop_found"][:2]} <= {"model", "whole"} and rows["crop_found"].isna()[2]

    rgb = np.asarray(Image.open(pictures[0]).convert("RGB"))
    model = load_model(load_model_config(cropping["border"]))
    want = model.encode_images(resize(np.ascontiguousarray(cut(rgb, crop_by_border(rgb))), model.image_spec)[None])[0]
    np.testing.assert_array_equal(rows["embedding_border"][0], want)
    assert np.abs(rows["embedding_border"][0] - rows["embedding_plain"][0]).max() > 1e-3
    np.testing.assert_array_equal(rows["embedding_border"][1], rows["embedding_plain"][1])  # left whole

    assert result.record.crops["crop_border"] == {"border": 1, "whole": 1}
    assert check_run(open_store(config.output), deep=True).crops == result.record.crops


def test_a_crop_is_part_of_the_fingerprint_and_a_model_without_one_keeps_its_own(cropping):
    plain, border, found = (load_model(load_model_config(path)) for path in cropping.values())
    assert len({m.fingerprint for m in (plain, border, found)}) == 3
    assert len({m.image_tower_fingerprint for m in (plain, border, found)}) == 3
    assert plain.image_spec.identity().keys() == {"size", "resize", "resize_shortest", "mean", "std"}
    assert found.image_spec.identity()["detector"]["sha256"]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ({"crop": "model", "detector": {"model": DETECTOR}}, "needs extra_files.detector"),
        ({"crop": "model"}, "go together"),
        ({"crop": "border", "detector": {"model": DETECTOR}}, "needs extra_files.detector"),
        ({"crop": "centre"}, "crop"),
    ],
)
def test_settings_that_do_not_fit_are_refused(image, message, tiny_models, tmp_path):
    conf = yaml.safe_load(Path(tiny_models["recall"]).read_text(encoding="utf-8"))
    (tmp_path / "m.yaml").write_text(yaml.safe_dump(conf | {"image": image}), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_model_config(str(tmp_path / "m.yaml"))
