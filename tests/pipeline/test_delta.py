"""A run with a base equals a full run, bit for bit, and asks hosts and models for what has changed alone."""

import csv
import random
import zlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml

from aistudio.config import JobConfig, load_config, parse_config
from aistudio.errors import AIStudioError, ConfigError
from aistudio.jobs import verify
from aistudio.models._checkpoint import read_state_dict, save_weights
from aistudio.pipeline import dataset as dataset_module
from aistudio.pipeline import delta as delta_module
from aistudio.pipeline.actors import FusedWorker
from aistudio.pipeline.score import prepare, score
from aistudio.pipeline.summary import delta_lines, print_dry_run
from aistudio.runs import layout
from aistudio.runs.ledger import check_run
from aistudio.store import open_store
from tests.image_server import ImageServer, draw_jpeg
from tests.kills import dies_before_storing
from tests.score_here import finished_here
from tests.stored_rows import bits, differing, stored, text_vectors

pytestmark = pytest.mark.usefixtures("local_ray")
ROOT = Path(__file__).resolve().parents[2]
OLD = ROOT / "tests/data/run_8b17918"
Row = tuple[str, str, str]  # item, address, text


class Shop(NamedTuple):
    """A catalogue on two days: its server, a run of the first day, and a full run of the second."""

    server: ImageServer
    folder: Path
    models: dict[str, str]
    day1: list[Row]
    day2: list[Row]
    base: str
    full: str

    def config(self, name: str, rows: list[Row], **changes: Any) -> JobConfig:
        manifest = self.folder / f"{zlib.crc32(repr(rows).encode())}.csv"  # the same rows are the same file
        with manifest.open("w", newline="", encoding="utf-8") as f:
            writer = csv.writer(f)
            writer.writerow(["item_id", "image_url", "text"])
            writer.writerows(rows)
        sections: dict[str, Any] = {
            "manifest": {"path": str(manifest), "format": "csv"},
            "output": str(self.folder / name),
            "models": {"recall": self.models["recall"], "ranking": self.models["ranking"]},
            "download": {"allow_private_addresses": True, "backoff_s": 0.01, "retries": 0, "timeout_s": 5},
            "images": {"thumbnail_px": 24},
            "engine": {
                "shard_rows": 8, "num_actors": 1, "batch_size": 4, "plan": "fused", "start_timeout_s": 240,
                "canaries": False, "max_failed_share": None,
            },
        }  # fmt: skip
        for key, value in changes.items():
            sections[key] = sections[key] | value if isinstance(value, dict) else value
        return parse_config(sections, "test")


NUM, CHANGED, OTHER_TEXT = 24, 5, 6


@pytest.fixture(scope="module")
def shop(tmp_path_factory, tiny_models, local_ray):
    folder = tmp_path_factory.mktemp("shop")
    with ImageServer() as server:

        def put(n: int, version: int) -> str:
            body = draw_jpeg(100 * version + n, (48, 40))
            if n % 4 == 3:  # a host that says nothing of versions
                return server.add(f"p{n}.jpg", body)
            if n % 4 == 2:
                return server.add(f"p{n}.jpg", body, last_modified=f"Sun, 0{version} Nov 2026 08:00:00 GMT")
            return server.add(f"p{n}.jpg", body, etag=f'"v{version}-{n}"')

        day1 = [(f"item{n % 7}", put(n, 1), f"text {n % 5}") for n in range(NUM)]
        day1 += [("lost", server.url("404/x.jpg"), "text 1"), ("late", server.add("late.jpg", b"no", status=503), "a")]
        gone = [("old", put(90, 1), "text 2"), ("item0", put(91, 1), "text 0")]
        shop = Shop(server, folder, tiny_models, day1 + gone, [], str(folder / "base"), str(folder / "full"))
        finished_here(shop.config("base", shop.day1))

        put(CHANGED, 2)
        server.add("late.jpg", draw_jpeg(7, (40, 40)), etag='"late"')
        day2 = list(day1)
        day2[OTHER_TEXT] = (*day2[OTHER_TEXT][:2], "another text")
        day2 += [("new", put(80, 1), "new text"), ("new", put(81, 1), "text 1"), ("item1", day1[0][1], "text 0")]
        random.Random(3).shuffle(day2)
        shop = shop._replace(day2=day2)
        finished_here(shop.config("full", day2))
        yield shop


class Counting(FusedWorker):
    """Writes down how many images, texts and ranking scores the models were asked for."""

    def load(self) -> None:
        super().load()
        if self.refusal is not None:
            return
        note = Path(f"{self.config.output}.passes")
        for kind in ("encode", "texts", "rank"):
            whole = getattr(self.encoders, kind)

            def counted(first, *rest, _whole=whole, _kind=kind):
                with note.open("a") as f:
                    f.write(f"{_kind} {len(first)}\n")
                return _whole(first, *rest)

            setattr(self.encoders, kind, counted)


def passes(config: JobConfig) -> Counter[str]:
    note, found = Path(f"{config.output}.passes"), Counter[str]()
    for line in note.read_text().splitlines() if note.exists() else ():
        kind, num = line.split()
        found[kind] += int(num)
    return found


def number_of(place: str, address: str) -> list[int]:
    rows = stored(place)
    return list(rows.index[rows["image_url"] == address])


@pytest.mark.parametrize("plan", ["fused", "staged"])
@pytest.mark.parametrize("trust", ["url", "validators", "content"])
def test_each_trust_asks_for_what_it_has_to_and_no_more(shop, monkeypatch, trust, plan):
    if plan == "fused":
        monkeypatch.setattr(dataset_module, "FusedWorker", Counting)
    elif trust == "content":
        pytest.skip("the staged plan shares all but the way of the pixels")
    engine = {"plan": plan, "device": "cpu"}
    config = shop.config(f"{trust}_{plan}", shop.day2, base=shop.base, trust=trust, engine=engine)
    shop.server.hits.clear()
    shop.server.not_modified.clear()
    result = finished_here(config) if plan == "fused" else score(prepare(config))
    hits, unchanged = shop.server.hits, shop.server.not_modified
    paths = {a: "/" + a.split("/", 3)[3] for _, a, _ in shop.day2}
    fresh = {"/404/x.jpg", "/late.jpg", "/p80.jpg", "/p81.jpg"}
    in_shards = Counter(path for _, path in {(i // 8, paths[row[1]]) for i, row in enumerate(shop.day2)})
    assert hits == (Counter(fresh) if trust == "url" else in_shards)
    asked = {f"/p{n}.jpg" for n in range(NUM) if n % 4 != 3 and n != CHANGED}
    assert set(unchanged) == (asked if trust == "validators" else set())
    assert check_run(open_store(config.output), deep=True, fingerprint=result.record.fingerprint).complete
    assert verify.main(["--run", config.output]) == 0

    found, full = stored(config.output), stored(shop.full)
    changed = number_of(shop.full, shop.server.url(f"p{CHANGED}.jpg"))
    left = {row for row, _ in differing(found, full)}
    assert left == (set(changed) if trust == "url" else set())  # that picture is believed to be the old one
    assert text_vectors(config.output) == text_vectors(shop.full)
    reused = result.record.reused
    taken = NUM + 1 - (0 if trust == "url" else 1)  # two rows share a picture
    silent = sum(n % 4 == 3 for n in range(NUM))
    by = {"url": {"url": taken}, "content": {"content": taken}}
    by["validators"] = {"validators": taken - silent, "content": silent}
    assert {k: n for k, n in reused.items() if k != "no"} == by[trust]
    assert sum(reused.values()) == len(shop.day2) == result.ledger.num_stored
    if plan == "fused":
        images = 3 if trust == "url" else 4  # late, two new, and the changed one
        found_passes = passes(config)
        assert (
            3 <= found_passes.pop("texts") <= 6
        )  # "another text", "new text" and "a"; some once more in another shard
        assert found_passes == {"encode": images, "rank": images + 1}  # and the row with another text


def test_the_summary_names_what_was_taken_and_what_is_gone(shop):
    config = shop.config("told", shop.day2, base=shop.base, trust="url")
    result = finished_here(config)
    store = open_store(config.output)
    gone = [r for e in store.list(layout.GONE) for r in store.read_table(e.key).to_pylist()]
    assert {(r["item_id"], r["image_url"], r["status"]) for r in gone} == {
        ("old", shop.server.url("p90.jpg"), "ok"), ("item0", shop.server.url("p91.jpg"), "ok"),
    }  # fmt: skip
    delta = result.record.delta
    assert (delta.gone, delta.matched, delta.trust, delta.pictures, delta.unread) == (2, NUM + 1, "url", None, 0)
    lines = "\n".join(delta_lines(result.ledger, result.record))
    assert "25 rows (25 by url)" in lines and "gone: 2" in lines and str(shop.base) in lines
    assert not store.list(layout.DELTA)  # of no use to a complete run
    again = score(prepare(config))
    assert again.did_nothing and "25 by url" in "\n".join(delta_lines(again.ledger, again.record))


def test_a_delta_run_is_a_base_itself_and_needs_its_own_no_more(shop):
    first = shop.config("chain1", shop.day2, base=shop.base, trust="validators")
    finished_here(first)
    shop.server.hits.clear()
    second = shop.config("chain2", shop.day2, base=first.output, trust="validators")
    result = finished_here(second)
    assert differing(stored(second.output), stored(shop.full)) == []
    assert shop.server.hits["/p80.jpg"] == 1 and result.record.reused["validators"] > NUM - 8
    lost = second.model_copy(update={"base": str(shop.folder / "nowhere")})
    assert finished_here(lost, retry=()).ledger.complete  # the base is not asked for again


def test_another_ranking_head_on_the_same_tower_needs_no_network(shop, tmp_path):
    conf = yaml.safe_load(Path(shop.models["ranking"]).read_text())
    state = read_state_dict(conf["weights"]["path"])
    head = {k: v for k, v in state.items() if not k.startswith(("align_model", "recall"))}
    assert head
    for name in list(head)[-2:]:
        state[name] = state[name] + 0.125
    conf["weights"]["path"] = str(tmp_path / "head.safetensors")
    save_weights(state, tmp_path / "head.safetensors")
    (tmp_path / "head.yaml").write_text(yaml.safe_dump(conf))
    models = {"ranking": str(tmp_path / "head.yaml")}
    same = [row for row in shop.day1 if "404" not in row[1] and "late" not in row[1] and f"p{CHANGED}." not in row[1]]
    full = shop.config("head_full", same, models=models)
    finished_here(full)
    shop.server.hits.clear()
    config = shop.config("head", same, base=shop.base, trust="url", models=models)
    result = finished_here(config)
    assert not shop.server.hits and result.record.reused == {"url": len(same)}
    assert differing(stored(config.output), stored(full.output)) == []
    before = stored(shop.base)
    now = stored(config.output)
    assert set(now["rank_score"]) != set(before.loc[before.status == "ok", "rank_score"])


def test_another_model_fetches_everything_and_says_why(shop, capsys):
    rows = shop.day1[:4]
    config = shop.config(
        "other_model", rows, base=shop.base, trust="url", models={"ranking": shop.models["other_ranking"]}
    )
    print_dry_run(prepare(config))
    assert "every picture is scored anew (ranking: the base has no vectors" in capsys.readouterr().out
    shop.server.hits.clear()
    result = finished_here(config)
    assert sum(shop.server.hits.values()) == len(rows) and result.record.reused == {"no": len(rows)}
    assert "ranking" in (result.record.delta.pictures or "")


def test_killed_in_the_middle_it_resumes_with_the_same_result(shop, monkeypatch):
    config = shop.config("killed", shop.day2, base=shop.base, trust="validators", engine={"shards_in_flight": 1})

    dies = dies_before_storing(lambda name: not name.endswith("0"))
    with monkeypatch.context() as patch:
        patch.setattr(dataset_module, "FusedWorker", dies)
        with pytest.raises(AIStudioError, match="going down"):
            score(prepare(config))
    store = open_store(config.output)
    assert store.exists(layout.DELTA_INDEX) and len(store.list("scores/")) < 4
    monkeypatch.setattr(delta_module, "_join", None)  # the join that is there goes on to hold
    result = finished_here(config)
    assert result.ledger.complete and differing(stored(config.output), stored(shop.full)) == []
    assert result.record.reused["validators"] > 0 and not store.list(layout.DELTA)


def test_a_resumed_run_whose_base_is_gone_goes_on_without_it(shop, capfd):
    config = shop.config("orphan", shop.day2, base=shop.base, trust="url")
    finished_here(config)
    store = open_store(config.output)
    store.delete(store.list("scores/")[0].key)
    result = finished_here(config.model_copy(update={"base": str(shop.folder / "gone")}))
    assert result.ledger.complete and 0 < result.record.reused["url"] < NUM
    assert "is scored without it" in capfd.readouterr().err


def test_a_base_that_is_none_is_refused_before_the_work(shop):
    for base, message in (("nowhere", "no run.json there"), ("self", "is the output itself")):
        config = shop.config("self", shop.day2, base=str(shop.folder / base))
        with pytest.raises(ConfigError, match=f"base: .*{message}"):
            prepare(config)


def test_a_run_of_version_8b17918_serves_as_base(shop, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    pictures = f"download.url_map={{'http://pictures.example/': 'file://{tmp_path}/none/'}}"
    common = ["engine.plan=fused", "engine.device=cpu", "trust=url", pictures]
    config = load_config(OLD / "conf.yaml", [f"output={tmp_path / 'new'}", f"base={OLD / 'whole'}", *common])
    result = finished_here(config)
    new, old = stored(config.output), stored(str(OLD / "whole"))
    ok = old.status == "ok"
    assert result.record.reused == {"url": int(ok.sum()), "no": int((~ok).sum())}
    assert list(new.loc[ok, "status"].unique()) == ["ok"]
    for column in ("embedding", "rank_score", "thumbnail", "content_hash", "width"):
        assert all(bits(a) == bits(b) for a, b in zip(new.loc[ok, column], old.loc[ok, column], strict=True)), column
    np.testing.assert_allclose(new.loc[ok, "recall_score"], old.loc[ok, "recall_score"], atol=1e-6)
    assert new["etag"].isna().all()
