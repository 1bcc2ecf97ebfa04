"""One server for each test module: a run scored by tiny models, with two encoders."""

import io

import httpx
import pytest

from aistudio.config import parse_config
from tests.serving.served import app_of, listening, make_run


@pytest.fixture(scope="package")
def served_run(tmp_path_factory, tiny_models):
    folder = tmp_path_factory.mktemp("served")

    def make(manifest, format, ranking=None, columns=None, output="", models=None):
        data = {
            "manifest": {"path": str(manifest), "format": format, "columns": columns}, "output": output,
            "models": {"recall": tiny_models["recall"], **models}, "engine": {"shard_rows": 8},
        }  # fmt: skip
        return parse_config(data, "test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISTUDIO_CACHE", str(folder / "cache"))
        yield make_run(folder, tiny_models, make)


@pytest.fixture(scope="module")
def log():
    return io.StringIO()


@pytest.fixture(scope="module")
def server(served_run, log):
    """Address of a running server."""
    with listening(app_of([served_run.root], ["serve.max_upload_bytes=200000"], log=log)) as base:
        yield base


@pytest.fixture
def client(server):
    with httpx.Client(base_url=server, timeout=30) as client:
        yield client
