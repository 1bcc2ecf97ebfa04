"""engine.deduplicate: run asks for each address once, and gives every row what `shard` gives it, bit for bit."""

import csv
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pytest

from aistudio.config import JobConfig, StoreSettings, parse_config
from aistudio.errors import AIStudioError, RunMismatchError
from aistudio.jobs import verify
from aistudio.pipeline import dataset as dataset_module
from aistudio.pipeline import snapshot as snapshot_module
from aistudio.pipeline.actors import FusedWorker
from aistudio.pipeline.score import prepare, score
from aistudio.pipeline.summary import duplicates_line, print_dry_run
from aistudio.runs import layout
from aistudio.runs.ledger import check_run
from aistudio.runs.snapshot import load_snapshot
from aistudio.store import open_store
from tests.image_server import ImageServer, draw_jpeg
from tests.kills import dies_before_storing, stops_before_storing
from tests.s3_server import S3Server
from tests.score_here import finished_here
from tests.stored_rows import differing, stored, text_vectors

pytestmark = pytest.mark.usefixtures("local_ray")
PICTURES, OFFERS, SHARD_ROWS = 14, 5, 8
Row = tuple[str, str, str, str]  # item, address, fallback, text


class Shop(NamedTuple):
    """A catalogue, its server, and a run that did away with duplicates by shard alone."""

    server: ImageServer
    folder: Path
    models: dict[str, str]
    rows: list[Row]
    by_shard: str

    def config(self, name: str, rows: list[Row] | None = None, **changes: Any) -> JobConfig:
        manifest = self.folder / ("rows.csv" if rows is None else f"{name}.csv")
        with manifest.open("w", newline="", encoding="utf-8") as f:
            csv.writer(f).writerows([("item_id", "image_url", "fallback_url", "text"), *(rows or self.rows)])
        sections: dict[str, Any] = {
            "manifest": {"path": str(manifest), "format": "csv"},
            "output": str(self.folder / name),
            "models": self.models,
            "download": {"allow_private_addresses": True, "backoff_s": 0.01, "retries": 0, "timeout_s": 5},
            "images": {"thumbnail_px": 24},
            "engine": {
                "shard_rows": SHARD_ROWS, "num_actors": 1, "batch_size": 4, "plan": "fused", "start_timeout_s": 240,
                "canaries": False, "max_failed_share": None, "deduplicate": "run",
            },
        }  # fmt: skip
        for key, value in changes.items():
            sections[key] = sections.get(key, {}) | value if isinstance(value, dict) else value
        return parse_config(sections, "test")

    def asked(self) -> Counter[str]:
        """The catalogue's addresses, fallbacks too, each once: what a run has to ask for."""
        return Counter(
            {"/" + a.split("/", 3)[3]: 1 for row in self.rows for a in row[1:3] if a.startswith(self.server.url(""))}
        )


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tiny_models, local_ray):
    folder = tmp_path_factory.mktemp("shop")
    models = {"recall": tiny_models["recall"], "ranking": tiny_models["ranking"]}
    with ImageServer() as server:
        pictures = [server.add(f"p{n}.jpg", draw_jpeg(n, (48, 40)), etag=f'"{n}"') for n in range(PICTURES)]
        rows = [(f"item{n}", pictures[n], "", f"text {n} {k % 2}") for n in range(PICTURES) for k in range(OFFERS)]
        rows += [("none", server.add("placeholder.png", draw_jpeg(99, (30, 30))), "", f"none {n}") for n in range(19)]
        rows += [("gone", server.url("404/often.jpg"), "", "text") for _ in range(11)]
        rows += [("gone", server.url("404/x.jpg"), "", "text"), ("gone", server.url("404/x.jpg"), "", "")] * 2
        rows += [("odd", server.url("garbage/x.jpg"), server.add("spare.jpg", draw_jpeg(98, (40, 30))), "odd")] * 3
        rows += [("late", server.add("late.jpg", b"no", status=500), "", f"late {n}") for n in range(4)]
        rows += [("late", server.add("often.jpg", b"no", status=500), "", f"late {n}") for n in range(10)]
        rows += [
            ("bad", "http://[half", "", "no address"),
            ("bad", "http://[half", "", "\u202e"),
            ("bad", "x\\y", "", ""),
        ]
        random.Random(4).shuffle(rows)
        shop = Shop(server, folder, models, rows, str(folder / "by_shard"))
        finished_here(shop.config("by_shard", engine={"deduplicate": "shard"}))
        yield shop


@pytest.fixture(scope="module")
def by_run(shop):
    """The run's settings, how it ended, and what it asked for; the rows were put in order by tasks."""
    config = shop.config("by_run", engine={"num_actors": 2})
    shop.server.hits.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(snapshot_module, "_HERE_ROWS", 0)
        return config, score(prepare(config)), Counter(shop.server.hits)


FREQUENT = 3  # placeholder.png, 404/often.jpg and often.jpg


def by_row(place: str, settings: StoreSettings | None = None) -> pd.DataFrame:
    return stored(place, settings).set_index("row_id").sort_index()


def test_each_address_is_asked_for_once_and_every_row_is_as_with_shards(shop, by_run):
    config, result, hits = by_run
    assert hits == shop.asked()
    assert differing(by_row(config.output), by_row(shop.by_shard), but=()) == []
    assert text_vectors(config.output) == text_vectors(shop.by_shard)
    assert result.ledger.counts == check_run(open_store(shop.by_shard)).counts
    assert check_run(open_store(config.output), deep=True, fingerprint=result.record.fingerprint).complete
    assert verify.main(["--run", config.output]) == 0

    store, addresses = open_store(config.output), len({row[1:3] for row in shop.rows})
    assert (result.record.duplicates.addresses, result.record.duplicates.frequent) == (addresses, FREQUENT)
    told = duplicates_line(result.ledger, result.record)
    assert told and f"{len(shop.rows)} rows have {addresses} addresses" in told and "3 of the addresses" in told
    assert not store.list(layout.ADDRESSES)  # of no use to a complete run
    shards = load_snapshot(store).shards
    assert all(s.rows <= SHARD_ROWS for s in shards) and sum(s.rows for s in shards) == len(shop.rows)
    again = score(prepare(config))
    assert again.did_nothing and duplicates_line(again.ledger, again.record) == told


def test_the_staged_plan_and_the_driver_do_the_same(shop, by_run):
    config = shop.config("staged", engine={"plan": "staged", "device": "cpu"})
    shop.server.hits.clear()
    finished_here(config)
    assert shop.server.hits == shop.asked()
    assert differing(by_row(config.output), by_row(shop.by_shard), but=()) == []
    shards = [load_snapshot(open_store(place)).shards for place in (config.output, by_run[0].output)]
    assert shards[0] == shards[1]


def test_rounded_vectors_in_the_files_change_no_score(shop):
    config = shop.config("half", store={"embedding_dtype": "float16"})
    shop.server.hits.clear()
    finished_here(config)
    assert shop.server.hits == shop.asked()
    assert differing(by_row(config.output), by_row(shop.by_shard), but=("embedding", "rank_embedding")) == []


def test_failed_addresses_are_tried_again_once_each(shop, by_run):
    config = by_run[0].model_copy(update={"output": str(shop.folder / "again")})
    shutil.copytree(by_run[0].output, config.output)
    failed = Counter(r[1] for r in shop.rows if "late" in r[1] or "often.jpg" in r[1] or "404" in r[1])
    before = stored(config.output)["status"].value_counts()
    try:
        shop.server.add("late.jpg", draw_jpeg(60, (40, 40)))
        shop.server.add("often.jpg", draw_jpeg(61, (40, 40)))
        shop.server.hits.clear()
        result = finished_here(config, retry=())
    finally:
        shop.server.add("late.jpg", b"no", status=500)
        shop.server.add("often.jpg", b"no", status=500)
    wanted = Counter({"/" + address.split("/", 3)[3]: 1 for address in failed})
    assert {p: n for p, n in shop.server.hits.items() if "garbage" not in p} == wanted
    assert result.ledger.complete and result.ledger.counts["ok"] == before["ok"] + 14
    rows = stored(config.output)
    late = rows[rows["image_url"].str.endswith(("/late.jpg", f":{shop.server.port}/often.jpg"))]
    assert len(late) == 14 and set(late["status"]) == {"ok"} and late["recall_score"].nunique() > 4
    assert late["content_hash"].nunique() == 2 and not open_store(config.output).list(layout.ADDRESSES)


def test_killed_while_the_rows_are_put_in_order_it_begins_that_again(shop, monkeypatch):
    config = shop.config("early")

    def dies(*arguments):
        raise RuntimeError("the machine is going down")

    with monkeypatch.context() as patch, pytest.raises(RuntimeError, match="going down"):
        patch.setattr("aistudio.runs.address_order.write_shards", dies)
        finished_here(config)
    store = open_store(config.output)
    assert store.list(layout.ADDRESSES) and load_snapshot(store) is None
    store.write_bytes(layout.address_key("rows", 0, 7), b"of another manifest, say")
    finished_here(config)
    assert differing(by_row(config.output), by_row(shop.by_shard), but=()) == []


@pytest.mark.parametrize("killed", [False, pytest.param(True, marks=pytest.mark.campaign)])
@pytest.mark.parametrize("frequent", [True, False])
def test_broken_off_between_commits_it_resumes_with_the_same_result(shop, monkeypatch, frequent, killed):
    """In this process by an error; by a kill of the worker's process, and then an error."""
    config = shop.config(f"off_{frequent}_{killed}", engine={"shards_in_flight": 2})
    run = (lambda c: score(prepare(c))) if killed else finished_here

    ends = dies_before_storing if killed else stops_before_storing
    ends = ends(lambda name: layout.is_frequent(name) == frequent and name.endswith(("0", "7")))
    with monkeypatch.context() as patch:
        patch.setattr(dataset_module, "FusedWorker", ends)
        with pytest.raises(AIStudioError, match="going down"):
            run(config)
    store = open_store(config.output)
    done = layout.done_shards(store)
    assert bool(store.list(layout.ADDRESSES)) != frequent and len(done) < len(load_snapshot(store).shards)
    shop.server.hits.clear()
    result = run(config)
    assert result.ledger.complete and not store.list(layout.ADDRESSES)
    assert differing(by_row(config.output), by_row(shop.by_shard), but=()) == []
    once = 1 if frequent else 0  # what the first attempt found goes on to hold
    assert [shop.server.hits[p] for p in ("/placeholder.png", "/404/often.jpg", "/often.jpg")] == [once] * 3


@pytest.mark.parametrize("trust", ["url", "validators"])
def test_a_base_is_asked_about_each_address_once(shop, trust):
    config = shop.config(f"delta_{trust}", base=shop.by_shard, trust=trust)
    shop.server.hits.clear()
    result = finished_here(config)
    ok = {"/" + a.split("/", 3)[3] for a in (r[1] for r in shop.rows) if "/p" in a}
    if trust == "validators":
        assert shop.server.hits == shop.asked() and set(shop.server.not_modified) >= ok - {"/placeholder.png"}
    else:
        assert not ok & set(shop.server.hits) and max(shop.server.hits.values()) == 1
    assert differing(by_row(config.output), by_row(shop.by_shard)) == []
    taken = PICTURES * OFFERS
    by = {"url": {"url": taken + 22}, "validators": {"validators": taken, "content": 22}}  # placeholders, fallbacks
    assert {k: n for k, n in result.record.reused.items() if k != "no"} == by[trust]
    if trust == "url":
        return
    next_day = shop.config("next", base=config.output, trust="url")
    shop.server.hits.clear()
    finished_here(next_day)
    assert not ok & set(shop.server.hits) and differing(by_row(next_day.output), by_row(shop.by_shard)) == []


def test_the_setting_belongs_to_the_run_and_a_dry_run_tells_it(shop, capsys):
    with pytest.raises(RunMismatchError, match="deduplicate: the run folder has none, now 'run'"):
        prepare(shop.config("by_shard"))
    print_dry_run(prepare(shop.config("new")))
    assert "duplicates  the rows of one address go into one shard" in capsys.readouterr().out
    assert "deduplicate" not in prepare(shop.config("new", engine={"deduplicate": "shard"})).shape
    assert "duplicates" not in open_store(shop.by_shard).read_json(layout.MANIFEST_INDEX)
    assert "duplicates" not in open_store(shop.by_shard).read_json(layout.RUN)


def test_pictures_of_frequent_addresses_that_are_lost_are_fetched(shop, monkeypatch):
    rows = [r for r in shop.rows if "placeholder" in r[1]]
    config = shop.config("lonely", rows, engine={"shards_in_flight": 1})

    class Forgets(FusedWorker):
        """What came of the first rows is lost."""

        def _leave(self, work, images):
            pass

    monkeypatch.setattr(dataset_module, "FusedWorker", Forgets)
    shop.server.hits.clear()
    assert finished_here(config).ledger.counts == {"ok": 19}
    assert shop.server.hits["/placeholder.png"] == 1 + -(-18 // SHARD_ROWS)


def test_an_output_in_a_bucket_that_has_its_moods(shop):
    with S3Server() as s3:
        rows = shop.rows[:40]
        config = shop.config("s3", rows, output="s3://bucket/run", store={"endpoint_url": s3.url, "retries": 4})
        left = ["slow_down", "error", "cut", "late_error"]

        def fault(method: str, path: str) -> str | None:
            return left.pop() if left and "/by_address/" in path and s3.hits[method] % 3 == 0 else None

        s3.fault = fault
        shop.server.hits.clear()
        result = finished_here(config)
        s3.fault = None
        assert result.ledger.complete and s3.faults.total() >= 4 and set(shop.server.hits.values()) == {1}
        full = by_row(shop.by_shard)
        found = by_row(config.output, config.store).astype(full.dtypes)
        assert len(found) == len(rows) and result.record.duplicates.frequent
        assert differing(found, full.loc[found.index], but=("source_file",)) == []
        assert not open_store(config.output, config.store).list(layout.ADDRESSES)
