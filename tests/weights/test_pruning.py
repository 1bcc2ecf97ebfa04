"""`aistudio weights prune`: what is not used goes, what is used, locked or not ours stays."""

import hashlib
import json
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from aistudio.config import StoreSettings, WeightsFile
from aistudio.errors import ConfigError
from aistudio.jobs.weights import main
from aistudio.weights.cache import WeightsCache
from aistudio.weights.pruning import DAY_S, prune


def put(folder: Path, body: bytes, days: float) -> str:
    digest = hashlib.sha256(body).hexdigest()
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    (folder / "blobs" / digest).write_bytes(body)
    old = time.time() - days * DAY_S
    os.utime(folder / "blobs" / digest, (old, old))
    return digest


def test_what_is_not_used_goes_with_its_links_and_records(tmp_path):
    old, young, used = (put(tmp_path, body, days) for body, days in ((b"old", 100), (b"young", 1), (b"used", 100)))
    cache = WeightsCache(tmp_path, StoreSettings())
    assert cache.find(WeightsFile(path="x", sha256=used)) == tmp_path / "blobs" / used  # marks it
    for name in (old, young):
        cache.view(tmp_path / "none", {"w": tmp_path / "blobs" / name})
        record = tmp_path / "addresses" / f"address-{name[:8]}.json"
        record.parent.mkdir(exist_ok=True)
        record.write_text(json.dumps({"sha256": name}))
    [planned] = prune(tmp_path, 90, dry_run=True)
    assert planned.path.name == old and (tmp_path / "blobs" / old).exists()
    assert prune(tmp_path, 90) == [planned]
    assert {p.name for p in (tmp_path / "blobs").iterdir()} == {young, used}
    assert [p.name for p in (tmp_path / "addresses").iterdir()] == [f"address-{young[:8]}.json"]
    assert len(list((tmp_path / "views").iterdir())) == 1


def test_unfinished_downloads_go_after_a_day_unless_somebody_is_at_it(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "locks").mkdir()
    for name, age_s in (("a.part", 2 * DAY_S), ("b.part", 2 * DAY_S), ("c.part", 60)):
        path = tmp_path / "parts" / name
        path.write_bytes(b"123")
        os.utime(path, (time.time() - age_s,) * 2)
    with FileLock(tmp_path / "locks/b"):
        assert [r.path.name for r in prune(tmp_path, 90)] == ["a.part"]
    assert [r.path.name for r in prune(tmp_path, 90)] == ["b.part"]


def test_the_verb(tmp_path, capsys):
    put(tmp_path, b"x" * 1000, 100)
    assert main(["prune", "--cache", str(tmp_path), "--dry-run"]) == 0
    assert "1,000 bytes" in (out := capsys.readouterr().out) and "would be removed" in out
    assert main(["prune", "--cache", str(tmp_path)]) == 0 and not list((tmp_path / "blobs").iterdir())
    assert main(["prune", "--cache", str(tmp_path / "none")]) == 0
    for days in ("-1", "nan"):
        with pytest.raises(ConfigError, match="--days"):
            main(["prune", "--days", days])
