"""A run on S3, with pictures there too: searched and served as one on disk; originals by a signed address, or not."""

import json
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from aistudio.config import parse_config
from aistudio.search.searcher import Searcher
from tests.s3_server import S3Server
from tests.score_here import score_here
from tests.serving.served import COLOURS, app_of, listening, picture

RUN = "s3://bucket/shop/run"


@pytest.fixture(scope="module")
def s3():
    with S3Server() as server, pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        yield server


@pytest.fixture(scope="module")
def run(s3, tmp_path_factory, tiny_models):
    """Its endpoint, as settings; and the same files on disk."""
    folder = tmp_path_factory.mktemp("s3_run")
    lines = []
    for i in range(8):
        s3.client.put_object(Bucket="bucket", Key=f"pictures/{i}.png", Body=picture(list(COLOURS)[i % 4], i))
        lines.append({"item_id": f"item{i // 2}", "image_url": f"s3://bucket/pictures/{i}.png", "text": f"text {i}"})
    (folder / "m.jsonl").write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    data = {
        "manifest": {"path": str(folder / "m.jsonl"), "format": "jsonl"}, "output": RUN, "engine": {"shard_rows": 3},
        "models": {"recall": tiny_models["recall"]}, "store": {"endpoint_url": s3.url},
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISTUDIO_CACHE", str(folder / "cache"))
        store = score_here(parse_config(data, "test"))
        for entry in store.list(""):
            path = folder / "run" / entry.key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.read_bytes(entry.key))
        yield [f"store.endpoint_url={s3.url}"], str(folder / "run")


def results(found):
    return [(r.rank, r.item_id, r.row_id, r.score, r.why) for r in found.results]


def test_a_searcher_of_s3_finds_what_one_of_the_same_files_on_disk_does(run, s3):
    overrides, local = run
    there, here = Searcher.open(RUN, overrides), Searcher.open(local)
    assert len(there) == len(here) == 8 and there.columns == here.columns
    before = s3.hits["GET"]
    for row_id in ("1", "5"):
        found = results(there.search(there.like_row(row_id), per="row", leave_out=["row"]))
        assert found == results(here.search(here.like_row(row_id), per="row", leave_out=["row"])) and len(found) == 7
    assert s3.hits["GET"] == before  # from the local copy


@pytest.mark.parametrize("presign", [True, False])
def test_a_run_on_s3_is_served_and_its_originals_are_signed_only_where_that_is_wanted(run, s3, presign):
    overrides, _ = run
    with (
        listening(app_of([RUN], [*overrides, f"serve.presign={presign}"])) as base,
        httpx.Client(base_url=base, timeout=30) as client,
    ):
        found = client.post("/v1/search", json={"text": "text 3", "top_n": 3}).json()["results"]
        assert len(found) == 3 and client.get(found[0]["thumbnail"]).content[:2] == b"\xff\xd8"
        answer = client.get(found[0]["original"])
        if not presign:
            assert answer.status_code == 200 and answer.content == client.get(found[0]["thumbnail"]).content
            return
        assert answer.status_code == 307
        place = urlsplit(answer.headers["location"])
        assert place.path == urlsplit(found[0]["columns"]["image_url"]).path.replace("/pictures", "/bucket/pictures")
        asked = parse_qs(place.query)
        assert "3600" in asked.get("X-Amz-Expires", ["3600"]) and any("Signature" in name for name in asked)
        number = int(place.path.rpartition("/")[2].removesuffix(".png"))
        fetched = httpx.get(answer.headers["location"], timeout=30)
        assert fetched.content == picture(list(COLOURS)[number % 4], number)
        page = client.get("/", params={"text": "text 3"}).text
        assert "/v1/original?" in page and "Signature" not in page  # signed when it is followed
