"""Fixtures for every test: the local image server, and a working environment without proxies."""

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.image_server import ImageServer

pytest_plugins = ["tests.tiny_jobs", "tests.score_here"]

# The files that take longest, campaigns not counted. They begin first, so that no process is left with one at the end.
_LONG = (
    "tests/jobs/test_demo.py",
    "tests/jobs/test_environment.py",
    "tests/pipeline/test_resume.py",
    "tests/pipeline/test_deduplicate.py",
    "tests/pipeline/test_canaries.py",
    "tests/pipeline/test_score.py",
    "tests/jobs/test_submit.py",
    "tests/test_composed.py",
    "tests/pipeline/test_delta.py",
    "tests/scoring/test_pinned_models.py",
    "tests/serving/test_browser.py",
    "tests/reports/test_browser.py",
    "tests/pipeline/test_poison.py",
    "tests/pipeline/test_interrupt.py",
    "tests/pipeline/test_golden.py",
    "tests/training/test_embedder_task.py",
    "tests/training/test_export_scores.py",
    "tests/training/test_ray_train.py",
)


def pytest_configure() -> None:
    """A script's `make test &` is deaf to SIGINT, and so would be every process of the tests: they send it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # while tests are collected: a fifth of that time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(_LONG)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(_LONG)))


def pytest_collection_finish() -> None:
    """Collecting leaves 900,000 objects that stay: each full collection of garbage would look at them for 0.6 s."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What a node keeps between runs lies with the tests, not in the developer's home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISTUDIO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests talk to 127.0.0.1 alone; a proxy of the developer's machine must not get in between."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def image_server() -> Iterator:
    """A fresh ImageServer of tests/image_server.py: `image_server.url("404/a.jpg")`."""
    with ImageServer() as server:
        yield server


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with golden numbers and seed data beside the checkout; skips where it is absent."""
    path = Path(__file__).resolve().parents[2] / "shared"
    if not path.is_dir():
        pytest.skip(f"{path} is not there")
    return path


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    folder = Path(__file__).resolve().parents[2] / "shared" / "golden"
    if not (folder / "check.py").is_file():
        pytest.skip("the golden fixtures are not on this machine")
    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator:
    """One Postgres of tests/postgres.py for all tests that need one."""
    from tests.postgres import Postgres, programs

    pytest.importorskip("adbc_driver_postgresql", reason="the driver of the extra `sql` is not installed")
    if programs() is None:
        pytest.skip("PostgreSQL's programs (initdb, postgres) are not on this machine")
    with Postgres() as server:
        yield server
