"""The probe: which rows, how many there are, what is projected; and a real one that leaves nothing behind."""

import gzip
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aistudio.config import JobConfig, parse_config
from aistudio.errors import ManifestError
from aistudio.pipeline import sample as sample_module
from aistudio.pipeline.probe import failure_interval, predict, prediction_lines, probe
from aistudio.pipeline.sample import Sample, take_sample
from aistudio.pipeline.score import prepare
from aistudio.run_record import RunRecord
from aistudio.runs.manifest_files import list_inputs


def lookalike(path: Path | list[str], format: str = "csv", **manifest) -> SimpleNamespace:
    """What `take_sample` needs of a Prepared."""
    text = path if isinstance(path, list) else str(path)
    data = {"manifest": {"path": text, "format": format, **manifest}, "output": "/x", "models": {"recall": "m"}}
    config: JobConfig = parse_config(data, "test")
    columns = None if format == "folder" else ()
    files = [] if format == "folder" else list_inputs(config.manifest, config.store)
    return SimpleNamespace(config=config, files=files, columns=columns)


def csv_text(n: int, first: int = 0) -> str:
    return "item_id,image_url,colour\n" + "".join(f"i{i},http://h/{i:08d}.jpg,red\n" for i in range(first, first + n))


def numbers(sample: Sample) -> list[int]:
    return [int(u[-12:-4]) for u in sample.rows["image_url"].to_pylist()]


def test_rows_are_spread_evenly_and_counted(tmp_path):
    (tmp_path / "m.csv").write_text(csv_text(1000))
    sample = take_sample(lookalike(tmp_path / "m.csv"), 4)
    assert numbers(sample) == [125, 375, 625, 875] and (sample.total, sample.exact) == (1000, True)
    assert "row_id" not in sample.rows.column_names and sample.rows["colour"].to_pylist() == ["red"] * 4


def test_no_more_rows_than_there_are(tmp_path):
    (tmp_path / "m.csv").write_text(csv_text(3))
    assert numbers(take_sample(lookalike(tmp_path / "m.csv"), 100)) == [0, 1, 2]
    limited = take_sample(lookalike(tmp_path / "m.csv", limit=2), 100)
    assert numbers(limited) == [0, 1] and limited.total == 2


@pytest.mark.parametrize("compressed", [False, True])
def test_a_long_file_is_estimated_from_its_size(tmp_path, monkeypatch, compressed):
    monkeypatch.setattr(sample_module, "_ROWS_PER_FILE", 15_000)
    path = tmp_path / ("m.csv.gz" if compressed else "m.csv")
    text = csv_text(800_000 if compressed else 150_000).encode()
    data = gzip.compress(text, 1) if compressed else text
    path.write_bytes(data)
    monkeypatch.setattr(sample_module, "_COUNT_BYTES", len(data) // 2)
    sample = take_sample(lookalike(path), 10)
    assert not sample.exact and sample.total == pytest.approx(text.count(b"\n") - 1, rel=0.3)
    assert max(numbers(sample)) < 16_000


def test_many_files_are_looked_into_here_and_there(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_module, "_FILES", 3)
    for i in range(9):
        (tmp_path / f"{i}.csv").write_text(csv_text(100, first=100 * i))
    sample = take_sample(lookalike(tmp_path), 3)
    assert numbers(sample) == [50, 350, 650] and not sample.exact
    assert sample.total == pytest.approx(900, rel=0.02)


def test_parquet_and_folders_know_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(sample_module, "_ROWS_PER_FILE", 1000)
    table = pa.table({"item_id": ["a"] * 5000, "image_url": [f"http://h/{i:08d}.jpg" for i in range(5000)]})
    pq.write_table(table, tmp_path / "m.parquet")
    sample = take_sample(lookalike(tmp_path / "m.parquet", "parquet"), 2)
    assert (sample.total, sample.exact) == (5000, True)
    images = tmp_path / "images"
    images.mkdir()
    for i in range(6):
        (images / f"{i}.jpg").touch()
    assert take_sample(lookalike(images, "folder"), 2).total == 6


def test_a_manifest_without_a_row_is_refused(tmp_path):
    (tmp_path / "m.csv").write_text("item_id,image_url\n")
    with pytest.raises(ManifestError, match="no usable row for a probe"):
        take_sample(lookalike(tmp_path / "m.csv"), 5)


def test_the_interval_of_few_failures_is_wide_and_known():
    assert failure_interval(0, 200) == pytest.approx((0, 0.0188), abs=1e-4)  # Wilson, from the published formula
    assert failure_interval(3, 200) == pytest.approx((0.0051, 0.0432), abs=1e-4)
    assert failure_interval(200, 200)[1] == 1.0


def finished(steady_s=20.0, **plan) -> SimpleNamespace:
    record = {
        "timings": {
            "wall_s": 31.0, "startup_s": 10.0, "steady_s": steady_s, "images_per_s": 10.0 if steady_s >= 5 else None,
            "num_rows": 200, "num_bytes": 10_000_000, "model_s": 9, "wait_s": 30,
        },
        "plan": {"num_actors": 8, "min_actors": 2, "gpus_per_actor": 1.0, **plan},
    }  # fmt: skip
    return SimpleNamespace(
        record=RunRecord(**record), ledger=SimpleNamespace(num_stored=200, counts={"ok": 190, "timeout": 10})
    )


def test_time_bytes_and_gpu_hours_are_projected():
    p = predict(finished(), Sample(pa.table({}), 360_000, False), 200 * 4_000)
    assert p.images_per_s == 10 and p.startup_s == 10 and p.wall_s == 36_010
    assert (p.network_bytes, p.output_bytes) == (18e9, 1.44e9)
    text = "\n".join(prediction_lines(p, 3.0))
    for part in ("about 360,000 rows", "5.0%", "timeout 10", "18.0 GB", "1.4 GB", "10:00:10 with the 2 model actor(s)",
                 "2:30:10 with 8", "30.01 at 3 an hour", "about 20.0",
                 "20 s of steady work is too little"):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize("steady_s", [0.5, 4.0, 9.9])
def test_too_short_a_probe_predicts_no_time(steady_s):
    p = predict(finished(steady_s), Sample(pa.table({}), 360_000, False), 1)
    text = "\n".join(prediction_lines(p, 3.0))
    assert p.wall_s is None and "price" not in text and "GPU-hours" not in text
    assert (
        f"no prediction: {steady_s:.1f} s of steady work, 10 s are needed; --probe {p.rows_wanted} would tell" in text
    )
    assert p.rows_wanted >= 400 and p.rows_wanted % 100 == 0


def test_a_real_probe_leaves_nothing_behind(image_server, tmp_path, make_config, local_ray):
    urls = [image_server.url(("404/" if i % 4 == 3 else "ok/") + f"{i}.jpg") for i in range(40)]
    (tmp_path / "m.csv").write_text("item_id,image_url\n" + "".join(f"a,{u}\n" for u in urls))
    p, fidelity = probe(prepare(make_config(tmp_path / "m.csv")), 8)
    assert fidelity is None  # the settings are exact
    assert (p.num_probed, p.total, p.exact) == (8, 40, True)
    assert sum(p.counts.values()) == 8 and set(p.counts) <= {"ok", "http_error"}
    assert p.images_per_s is None and p.wall_s is None and p.output_bytes > 0  # a second of work predicts nothing
    assert p.network_bytes == pytest.approx(len(image_server.image) * p.counts["ok"] / 8 * 40, rel=0.05)
    assert 8 <= sum(image_server.hits.values()) <= 8 * 4 and not list(tmp_path.glob("*probe*"))
