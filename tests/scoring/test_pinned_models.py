"""Runs whose models lie at addresses alone: a node fetches them once, loads nothing else, and it is the same run."""

import shutil
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from aistudio.config import JobConfig
from aistudio.errors import ConfigError, WeightsError
from aistudio.models import load_recall
from aistudio.pipeline.poi_table import poi_table_of_run
from aistudio.pipeline.score import prepare, score
from aistudio.poi_table import to_arrow
from aistudio.scoring.pinned_models import load_pinned, pin_model
from aistudio.store import open_store
from tests.score_here import workers_here
from tests.weights.file_server import FileServer, S3Server

ROWS = 24


def away(conf: str, folder: Path, url: str, extra: str) -> str:
    """A conf like `conf` whose files are at addresses, below a folder that does not exist."""
    data = yaml.safe_load(Path(conf).read_text(encoding="utf-8"))
    name = Path(data["weights"]["path"]).name
    data["weights"] = {"path": f"{folder}/nowhere/{name}", "url": f"{url}/{name}"}
    data["extra_files"] = {"vocabulary": {"path": f"{folder}/nowhere/vocab.txt", "url": f"{extra}/vocab.txt"}}
    data["tokenizer"] = f"{folder}/nowhere"
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return str(path)


@pytest.fixture
def server(tiny_models: dict[str, str]) -> Iterator[FileServer]:
    folder = Path(tiny_models["recall"]).parent
    with FileServer({f"/{p.name}": p.read_bytes() for p in folder.iterdir() if p.suffix != ".yaml"}) as http:
        yield http


@pytest.fixture
def configs(
    server: FileServer, tiny_models: dict[str, str], image_server, tmp_path: Path, make_config: Callable[..., JobConfig]
) -> tuple[JobConfig, JobConfig]:
    """The same job with its models at their paths, and at addresses."""
    lines = [f"i{i % 4},{image_server.url(f'ok/{i}.jpg')},text {i % 4}" for i in range(ROWS)]
    (tmp_path / "m.csv").write_text("\n".join(["item_id,image_url,text", *lines]) + "\n", encoding="utf-8")
    here = make_config(tmp_path / "m.csv", engine={"num_actors": 2, "weights_cache": str(tmp_path / "cache")})
    stages = {s: away(tiny_models[s], tmp_path, server.url(""), server.url("")) for s in ("recall", "ranking")}
    there = here.model_copy(update={"models": here.models.model_copy(update=stages)})
    return here, there


def test_a_node_with_nothing_fetches_each_file_once(local_ray, server, configs, tmp_path) -> None:
    here, there = configs
    server.versions = "etag"
    prepared = prepare(there)
    assert prepared.shape == prepare(here).shape  # where the files lay is no part of the run's identity
    assert Counter(server.paths) == {"/recall.safetensors": 1, "/ranking.safetensors": 1, "/vocab.txt": 2}
    server.paths.clear()
    shutil.rmtree(tmp_path / "cache")  # the workers are on another node, so to speak
    for name in ("recall", "ranking"):
        (tmp_path / f"{name}.safetensors.yaml").unlink()  # nor do they have the conf files
    result = score(prepared)
    assert result.ledger.complete and result.ledger.counts == {"ok": ROWS}
    assert Counter(server.paths) == {"/recall.safetensors": 1, "/ranking.safetensors": 1, "/vocab.txt": 1}
    for info in result.record.models.values():
        assert {Path(p).name for p in info.files} >= {"vocab.txt"} and all(map(len, info.files.values()))

    assert score(prepare(here)).did_nothing  # the same run with the files at their paths


def test_a_node_that_gets_another_file_stops_the_run(local_ray, server, configs, tmp_path) -> None:
    _, there = configs
    one = there.engine.model_copy(update={"num_actors": 1})
    prepared = prepare(there.model_copy(update={"engine": one}))
    expected = prepared.pinned.recall.config.weights.sha256
    shutil.rmtree(tmp_path / "cache")
    server.replace("/recall.safetensors", b"new model of this morning")
    with pytest.raises(WeightsError) as e:
        score(prepared)
    assert e.value.exit_code == 2 and str(e.value).count("\n") == 0
    for part in (f"node {socket.gethostname()}", server.url("/recall.safetensors"), f"expected {expected}"):
        assert part in str(e.value)


def test_files_that_only_the_driver_has_are_noticed(configs, tmp_path, tiny_models) -> None:
    """A file that the conf does not list, but the model's folder has, is part of the model."""
    _, there = configs
    pinned = pin_model(there.models.recall, there, "models.recall")
    assert load_pinned(pinned, there, load_recall).fingerprint == pinned.fingerprint
    other = pinned._replace(fingerprint="0" * 64)
    with pytest.raises(WeightsError, match=rf"node {socket.gethostname()}: .* are not those of the run"):
        load_pinned(other, there, load_recall)


def test_everything_from_s3_and_a_poi_table_too(local_ray, tiny_models, configs, tmp_path) -> None:
    here, _ = configs
    with S3Server() as s3:
        for path in Path(tiny_models["recall"]).parent.iterdir():
            s3.client.upload_file(str(path), "bucket", f"m/{path.name}")
        pq.write_table(to_arrow({"西湖": (1, 2, 3)}, {"西湖": np.ones(16, np.float32)}, {}, 16), tmp_path / "p.parquet")
        s3.client.upload_file(str(tmp_path / "p.parquet"), "bucket", "m/p.parquet")
        stages = {s: away(tiny_models[s], tmp_path, "s3://bucket/m", "s3://bucket/m") for s in ("recall", "ranking")}
        models = here.models.model_copy(update=stages | {"poi_table": "s3://bucket/m/p.parquet"})
        store = here.store.model_copy(update={"endpoint_url": s3.url})
        engine = here.engine.model_copy(update={"num_actors": 1})
        config = here.model_copy(update={"models": models, "store": store, "engine": engine})
        prepared = prepare(config)
        local = here.models.model_copy(update={"poi_table": str(tmp_path / "p.parquet")})
        assert prepared.shape == prepare(here.model_copy(update={"models": local})).shape
        shutil.rmtree(tmp_path / "cache")
        s3.hits.clear()
        with workers_here():
            assert score(prepared).ledger.complete
        assert s3.hits["GET"] == 4  # two models, their vocabulary, the table
        table = poi_table_of_run(open_store(config.output), config)
        assert table.num_rows == 4
        gone = models.model_copy(update={"poi_table": "s3://bucket/m/none.parquet"})
        with pytest.raises(ConfigError, match=r"models\.poi_table: (.|\n)*NoSuchKey(.|\n)*poi_table` makes one"):
            prepare(config.model_copy(update={"models": gone}))
