"""The snapshot: fixed shards of every manifest row, rejects aside, nothing of a password, the same each time."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from aistudio.errors import FencedError, ManifestError
from aistudio.pipeline.snapshot import make_snapshot
from aistudio.runs import layout
from aistudio.runs.attempts import claim_attempt
from aistudio.runs.snapshot import find_manifest, load_snapshot, without_passwords
from aistudio.store import open_store


def snapshot_of(config, attempt: int = 1):
    files, columns = find_manifest(config)
    return make_snapshot(config, files, columns, attempt, num_actors=2)


def rows_of(config) -> list[dict]:
    store = open_store(config.output)
    shards = load_snapshot(store).shards
    return [row for s in shards for row in store.read_table(layout.manifest_key(s.name)).to_pylist()]


def test_passwords_leave_every_text_column_and_only_them():
    table = pa.table(
        {
            "image_url": ["https://me:s3cret@h/x.jpg", "https://h/@x.jpg", None],
            "note": ["see http://a:s3cret@b/ and http://c/", "me@example.com", ""],
            "n": [1, 2, 3],
        }
    )
    clean = without_passwords(table)
    assert clean.schema == table.schema
    assert clean["image_url"].to_pylist() == ["https://***@h/x.jpg", "https://h/@x.jpg", None]
    assert clean["note"].to_pylist() == ["see http://***@b/ and http://c/", "me@example.com", ""]
    untouched = table.slice(1, 1)
    assert without_passwords(untouched) is untouched


@pytest.mark.usefixtures("local_ray")
class TestMade:
    def test_shards_have_the_wanted_size_and_rejects_are_aside(self, tmp_path, make_config):
        manifest = tmp_path / "m.csv"
        lines = [f"item{i},http://h/{i}.jpg,note {i}" for i in range(20)]
        lines[7] = "item7,,no url"
        lines[9] = "item9,http://me:s3cret@h/9.jpg,note 9"
        manifest.write_text("\n".join(["item_id,image_url,note", *lines]) + "\n")
        config = make_config(manifest)
        snapshot = snapshot_of(config)
        store = open_store(config.output)
        assert [s.rows for s in snapshot.shards] == [8, 8, 3] and snapshot.num_rows == 19
        assert snapshot.num_rejected == 1 and load_snapshot(store) == snapshot
        rejected = store.read_table(store.list("rejected/")[0].key).to_pylist()
        assert len(rejected) == 1 and rejected[0]["line_number"] == 9
        rows = rows_of(config)
        assert [r["item_id"] for r in rows] == [f"item{i}" for i in range(20) if i != 7]
        assert [r["note"] for r in rows][:2] == ["note 0", "note 1"]
        everything = b"".join(p.read_bytes() for p in Path(config.output).rglob("*") if p.is_file())
        assert b"s3cret" not in everything

        again = snapshot_of(config)  # as after a crash before the index was written
        assert again == snapshot and rows_of(config) == rows

    def test_several_files_a_limit_and_a_fence(self, tmp_path, make_config):
        folder = tmp_path / "in"
        folder.mkdir()
        for name in ("b", "a"):
            lines = [json.dumps({"item_id": f"{name}{i}", "image_url": f"http://h/{name}{i}.jpg"}) for i in range(6)]
            (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        config = make_config(folder, format="jsonl")
        snapshot_of(config)
        rows = rows_of(config)
        assert [r["item_id"] for r in rows] == [f"{n}{i}" for n in "ab" for i in range(6)]
        assert len({r["row_id"] for r in rows}) == 12

        limited = config.model_copy(update={"manifest": config.manifest.model_copy(update={"limit": 9})})
        assert snapshot_of(limited).num_rows == 9
        assert [r["item_id"] for r in rows_of(limited)][-1] == "b2"

        store = open_store(config.output)
        store.delete("manifest/_index.json")
        claim_attempt(store), claim_attempt(store)
        with pytest.raises(FencedError):
            snapshot_of(config, attempt=1)
        assert load_snapshot(store) is None

    def test_a_folder_of_images_and_a_manifest_without_a_usable_row(self, tmp_path, make_config):
        for name in ("a/1.jpg", "a/2.png", "b/3.jpg", "b/readme.txt"):
            path = tmp_path / "images" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")
        config = make_config(tmp_path / "images", format="folder")
        snapshot_of(config)
        assert sorted(Path(r["image_url"]).name for r in rows_of(config)) == ["1.jpg", "2.png", "3.jpg"]

        empty = tmp_path / "m.csv"
        empty.write_text("item_id,image_url\na,\n")
        with pytest.raises(ManifestError, match="no usable row"):
            snapshot_of(make_config(empty))
