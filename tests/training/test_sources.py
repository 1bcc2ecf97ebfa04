"""Where training data come from: a folder of images."""

from aistudio.config import JobConfig, ManifestSettings, ModelsSettings
from aistudio.training.sources import ManifestSource


def test_a_folder_of_images_is_read_as_one(tmp_path):
    """Its rows, not those of a table of that name."""
    for name in ("dress/1.jpg", "dress/2.jpg", "ring/3.jpg"):
        (tmp_path / "shop" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop" / name).write_bytes(b"x")
    manifest = ManifestSettings(path=str(tmp_path / "shop"), format="folder")
    config = JobConfig(manifest=manifest, output="-", models=ModelsSettings(recall="-"))
    [table] = ManifestSource("id", "shop", None, None, config).tables()
    assert table["item_id"].to_pylist() == ["dress", "dress", "ring"] and table["problem"].null_count == 3
