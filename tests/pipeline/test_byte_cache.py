"""download.cache over whole runs: no request the second time, the same rows, counted; a cache that fails costs none."""

import pandas as pd
import pytest

from aistudio.pipeline.score import prepare, score
from aistudio.pipeline.summary import cache_line, print_summary
from aistudio.run_record import Timings
from aistudio.status_filter import parse_status
from aistudio.store import open_store
from tests.image_server import draw_jpeg
from tests.pipeline.test_poison import write_manifest
from tests.score_here import finished_here

pytestmark = pytest.mark.usefixtures("local_ray")
NUM = 20
PATIENT = {"timeout_s": 60, "read_timeout_s": 60}  # a loaded test machine must not cost a request


@pytest.fixture
def manifest(image_server, tmp_path):
    urls = [image_server.add(f"p/{i}.jpg", draw_jpeg(i)) for i in range(NUM)]
    return write_manifest(tmp_path / "m.csv", [*urls, image_server.url("404/x.jpg")])


def stored(config) -> pd.DataFrame:
    store = open_store(config.output)
    return pd.concat([store.read_table(e.key).to_pandas() for e in store.list("scores/")], ignore_index=True)


@pytest.mark.parametrize("plan", ["fused", "staged"])
def test_another_run_asks_no_host_and_stores_the_same(plan, manifest, tmp_path, make_config, image_server, capsys):
    download = PATIENT | {"cache": str(tmp_path / "cache"), "cache_max_age_s": None}
    engine = {"plan": plan, "device": "cpu"}
    plain = make_config(manifest, output=str(tmp_path / "plain"), engine=engine, download=PATIENT)
    finished_here(plain)
    first = make_config(manifest, output=str(tmp_path / "one"), engine=engine, download=download)
    found = finished_here(first).record
    assert (found.timings.cache_miss, found.timings.cache_hit) == (NUM, 0)
    assert found.fingerprint == prepare(plain).record.fingerprint
    image_server.hits.clear()
    second = make_config(manifest, output=str(tmp_path / "two"), engine=engine, download=download)
    result = finished_here(second)
    print_summary(result, open_store(second.output), second.output)
    assert f"byte cache: {NUM} of {NUM} images without a request\n" in capsys.readouterr().out
    assert result.record.timings.cache_hit == NUM and set(image_server.hits) == {"/404/x.jpg"}
    pd.testing.assert_frame_equal(stored(second), stored(plain))


def test_retry_fetches_again_what_the_cache_has(manifest, tmp_path, make_config, image_server):
    image_server.add("p/3.jpg", draw_jpeg(3)[:-600])  # begins as a picture, and ends early
    config = make_config(manifest, download=PATIENT | {"cache": str(tmp_path / "cache"), "cache_max_age_s": None})
    assert finished_here(config).ledger.counts == {"ok": NUM - 1, "truncated_image": 1, "http_error": 1}
    image_server.add("p/3.jpg", draw_jpeg(3))
    found = finished_here(config, retry=(parse_status("truncated_image"),))
    assert found.ledger.counts["ok"] == NUM
    other = config.model_copy(update={"output": str(tmp_path / "other")})
    assert finished_here(other).ledger.counts["ok"] == NUM


def test_a_cache_that_cannot_be_used_costs_no_row_and_is_said(manifest, tmp_path, make_config, capsys):
    (tmp_path / "file").write_text("in the way")
    config = make_config(manifest, download=PATIENT | {"cache": str(tmp_path / "file")})
    result = score(prepare(config))
    assert result.ledger.counts["ok"] == NUM and result.record.timings.cache_failed == NUM
    print_summary(result, open_store(config.output), config.output)
    assert f"warning: {NUM} could not be kept ([Errno 20] Not a directory" in capsys.readouterr().out


def test_the_line_of_the_summary():
    assert cache_line(Timings(), None) is None
    found = cache_line(Timings(cache_hit=3, cache_same=2, cache_miss=1, cache_failed=1), "no space left")
    assert found == (
        "byte cache: 3 of 7 images without a request, 2 more after its server was asked; "
        "warning: 1 could not be kept (no space left)"
    )
