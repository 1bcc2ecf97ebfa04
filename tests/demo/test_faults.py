"""Broken files end with the status that the catalogue promises, through the real decoder."""

from aistudio.config import ImageSpec, ImagesSettings
from aistudio.demo.catalogue import write_catalogue
from aistudio.demo.faults import BASE_URL, SERVER_PREFIXES
from aistudio.images.decode import decode


def test_decoder_agrees_with_expected_statuses(tmp_path):
    info = write_catalogue(tmp_path, seed=1, num_sights=10, images_per_sight=2, num_pairs=3)
    checked = set()
    for row in info.special_rows:
        path = tmp_path / str(row["image_url"]).removeprefix(BASE_URL)
        if row["kind"] in ("cut_jpeg", "html", "garbage", "empty"):
            assert decode(path.read_bytes(), [ImageSpec(size=32)], ImagesSettings()).status == row["status"], row
            checked.add(row["kind"])
        elif row["kind"] in ("missing", "typing_error"):
            assert not path.exists()
        else:
            assert row["kind"] in SERVER_PREFIXES
    assert len(checked) == 4
    for path in (tmp_path / "images").rglob("[0-9]*"):
        assert decode(path.read_bytes(), [ImageSpec(size=32)], ImagesSettings()).status == "ok"
