"""score -> search -> recall on the data sets of composed retrieval: small drawn ones, and the reference's numbers."""

import importlib
import json
import sys

import numpy as np
import pyarrow as pa
import pytest
import torch
import yaml

from aistudio.catalogue import LocalFiles, read_pairs, vocabulary_texts
from aistudio.config import DownloadSettings, ManifestSettings, ModelConfig, ReportSettings, WeightsFile, parse_config
from aistudio.errors import RunMismatchError
from aistudio.models import load_model
from aistudio.models._words import build_vocabulary
from aistudio.pipeline.report import write_report
from aistudio.pipeline.score import prepare, score
from aistudio.pipeline.search import plan_search, run_search
from aistudio.store import open_store
from tests.composed_sets import DRAWN, draw
from tests.models.test_composers import FAMILIES, saved
from tests.score_here import score_here

KS = (1, 5, 10, 50, 100)


def write_conf(cfg: ModelConfig, path):
    path.write_text(yaml.safe_dump(cfg.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")
    return str(path)


def job(folder, dataset, root, encoders, **manifest):
    return parse_config({
        "manifest": {"path": str(root), "format": dataset, **manifest},
        "output": str(folder / "run"),
        "models": {"recall": None, "encoders": encoders},
        "engine": {"num_actors": 1, "batch_size": 8, "plan": "fused", "start_timeout_s": 240},
    }, "test")  # fmt: skip


def search(store, model, queries, *overrides):
    return run_search(plan_search(store.root, "q", list(overrides), model=model, queries=queries))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny_composers")
    found = {}
    for family in FAMILIES:
        cfg = saved(folder, family)
        found[family] = write_conf(cfg, folder / f"{family}.yaml"), load_model(cfg)
    return found


PREFIX = {
    "mitstates": "caption/pooled+query_removed+modification/",
    "fashion200k": "caption/pooled+query_removed+modification/",
    "fashioniq": "id/pooled+query_kept+modification/",
}
LEFT_OUT = {"mitstates": {}, "fashion200k": {"missing picture": 1}, "fashioniq": {"missing picture": 1}}


@pytest.mark.parametrize(
    ("dataset", "family"),
    [("mitstates", "tirg"), ("fashion200k", "compose_ae"), ("fashioniq", "real_space_concat_ae")],
)
def test_a_drawn_data_set_from_its_folder_to_recall(tmp_path, tiny, dataset, family):
    root, (conf, model) = DRAWN[dataset](tmp_path / "set"), tiny[family]
    store = score_here(job(tmp_path, dataset, root, {"compose": conf}))
    rejected = [r["reason"] for e in store.list("rejected/") for r in store.read_table(e.key).to_pylist()]
    assert {r: rejected.count(r) for r in rejected} == LEFT_OUT[dataset]
    rows = {r["row_id"]: r for e in store.list("scores/") for r in store.read_table(e.key).to_pylist()}
    assert {r["status"] for r in rows.values()} == {"ok"}
    outcome = search(store, "compose", f"{dataset}:{root}")
    assert set(outcome.about["status"]) == {"ok"}
    firsts = []
    for query in store.read_table("searches/q/queries.parquet").to_pylist():
        own = np.array([rows[query["row_id"]]["embedding_compose"]], np.float32)
        asked = model.compose(own, [query["text"]])[0].astype(np.float64)
        cosine = {
            row_id: float(
                asked @ r["embedding_compose"] / np.linalg.norm(asked) / np.linalg.norm(r["embedding_compose"])
            )
            for row_id, r in rows.items()
            if dataset == "fashioniq" or row_id != query["row_id"]
        }
        ranked = sorted(cosine, key=lambda row_id: -cosine[row_id])
        firsts.append(min(ranked.index(name) for name in query["relevant"]) + 1)
        assert query["first_rank"] == firsts[-1]
    for k in KS:
        value = outcome.metrics[f"{PREFIX[dataset]}hit_rate@{k}"]["value"]
        assert value == pytest.approx(np.mean(np.array(firsts) <= k))
    left_out = ["1 queries of fashioniq left out: missing picture"] if dataset == "fashioniq" else []
    assert outcome.about["notes"] == left_out


@pytest.mark.usefixtures("local_ray")
def test_the_job_scores_a_data_set_as_it_scores_a_manifest(tmp_path, tiny):
    """The same rows in the same order, and the same bits, from Ray's actors as from this process."""
    root = DRAWN["fashioniq"](tmp_path / "set")
    config = job(tmp_path, "fashioniq", root, {"tirg": tiny["tirg"][0]})
    result = score(prepare(config))
    assert result.ledger.complete and result.ledger.counts == {"ok": 9}
    assert result.ledger.num_rejected == 1
    here = score_here(config.model_copy(update={"output": str(tmp_path / "here")}))
    names = ["row_id", "item_id", "image_url", "categories", "embedding_tirg"]
    ours, theirs = (
        pa.concat_tables([s.read_table(e.key, names) for e in s.list("scores/")])
        for s in (here, open_store(config.output))
    )
    assert ours.select(names).to_pylist() == theirs.select(names).to_pylist()
    assert score(prepare(config)).did_nothing
    draw(root / "all_imgs" / "GONE.jpg")
    with pytest.raises(RunMismatchError, match="manifest"):
        prepare(config)


def test_one_category_asks_its_own_gallery_in_its_own_words(tmp_path, tiny):
    root = DRAWN["fashioniq"](tmp_path / "set")
    conf = tiny["tirg"][0]
    store = score_here(job(tmp_path, "fashioniq", root, {"tirg": conf}, categories=["dress"], split="train"))
    outcome = search(store, "tirg", f"fashioniq:{root}")
    queries = store.read_table("searches/q/queries.parquet").to_pylist()
    assert [q["text"] for q in queries] == [f"is more {x} has a long collar" for x in "bcda"]
    assert outcome.about["gallery_rows"] == 4 and outcome.about["queries_failed"] == 0


def test_protocols_are_part_of_a_metrics_name(tmp_path, tiny):
    root = DRAWN["fashioniq"](tmp_path / "iq")
    store = score_here(job(tmp_path, "fashioniq", root, {"tirg": tiny["tirg"][0]}))
    place, own = f"fashioniq:{root}", ("search.filter=[category=categories]", "search.filter_separator=','")
    pooled = search(store, "tirg", place).metrics
    assert all(name.startswith(("id/pooled+query_kept+modification/", "reference/")) for name in pooled)
    assert any(name.startswith("reference/recall_top1_correct_dress") for name in pooled)
    per_category = search(store, "tirg", place, *own).metrics
    assert {name.rpartition("/")[0] for name in per_category} == {"id/per_category+query_kept+modification"}
    kept = search(store, "tirg", place, "search.leave_out=[row]").metrics
    assert {name.rpartition("/")[0] for name in kept} == {"id/pooled+query_removed+modification"}
    root = DRAWN["mitstates"](tmp_path / "mit")
    (tmp_path / "second").mkdir()
    store = score_here(job(tmp_path / "second", "mitstates", root, {"tirg": tiny["tirg"][0]}))
    complete = search(store, "tirg", f"mitstates:{root}", "search.text=complete").metrics
    kinds = {name.rpartition("/")[0] for name in complete}
    assert kinds == {"caption/pooled+query_removed+complete", "reference/complete_text"}
    texts = store.read_table("searches/q/queries.parquet")["text"].to_pylist()
    assert "sliced tomato" in texts


def test_own_queries_with_fresh_pictures_fail_alone(tmp_path, tiny, image_server):
    """A picture from the web and one of the run, each with a text; what cannot be fetched or read costs its query."""
    config = job(tmp_path, "mitstates", DRAWN["mitstates"](tmp_path / "set"), {"tirg": tiny["tirg"][0]})
    store = score_here(
        config.model_copy(update={"download": DownloadSettings(allow_private_addresses=True, retries=0)})
    )
    right, url = "images/sliced tomato/0.jpg", image_server.url("ok/1.jpg")
    lines = [
        {"query_id": "web", "image_url": url, "text": "red dress", "relevant": [right], "change": "<b>mine</b>"},
        {"query_id": "again", "image_url": url, "text": "blue dress"},
        {"query_id": "gone", "image_url": image_server.url("404/x.jpg"), "text": "red dress", "relevant": [right]},
        {"query_id": "stored", "row_id": "images/ripe tomato/0.jpg", "text": "red stripes", "relevant": [right]},
        {"query_id": "wordless", "row_id": "images/ripe tomato/0.jpg", "text": "?!"},
        {"query_id": "text", "text": "red dress"},
    ]
    table = tmp_path / "q.jsonl"
    table.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    outcome = search(store, "tirg", str(table), "search.per=row")
    queries = {q["query_id"]: q for q in store.read_table("searches/q/queries.parquet").to_pylist()}
    assert {name: q["status"] for name, q in queries.items()} == {
        "web": "ok", "again": "ok", "gone": "http_error", "stored": "ok", "wordless": "model_error",
        "text": "bad_query",
    }  # fmt: skip
    assert image_server.hits["/ok/1.jpg"] == 1 and queries["web"]["thumbnail"]
    assert "word" in queries["wordless"]["error"] and outcome.too_many_failed
    assert queries["web"]["change"] == "<b>mine</b>" and queries["stored"]["change"] == "colour"
    assert queries["web"]["num_relevant"] == queries["stored"]["num_relevant"] == 1
    results = store.read_table("searches/q/results.parquet").to_pylist()
    assert {r["query_id"] for r in results} == {"web", "again", "stored"}
    assert {r["row_id"] for r in results if r["query_id"] == "stored"}.isdisjoint({"images/ripe tomato/0.jpg"})
    write_report(store, ReportSettings(map_images=0))
    assert b"<b>mine" not in store.read_bytes("report/composed.html")


CONFIGS = {"tirg-512": "tirg", "composeae-768": "compose_ae", "realspace-768": "real_space_concat_ae"}


@pytest.fixture(scope="module")
def reference(shared_dir):
    folder = shared_dir / "composed"
    if not (folder / "recipe.py").is_file():
        pytest.skip("the composed-retrieval cases are not on this machine")
    sys.path.insert(0, str(folder))
    try:
        recipe = importlib.import_module("recipe")
    finally:
        sys.path.remove(str(folder))
    return folder, recipe, json.loads((folder / "public" / "expected.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("dataset", "variant", "category"),
    [
        ("mitstates", "reference", "all"), ("fashion200k", "reference", "all"), ("fashioniq", "reference", "all"),
        ("fashioniq", "words", "shirt"),
    ],
)  # fmt: skip
def test_the_fixtures_give_the_references_numbers(tmp_path, reference, dataset, variant, category):
    """Weights by recipe, pictures and labels in the published layouts, every composer that the reference ran."""
    folder, recipe, expected = reference
    root = folder / "fixtures" / dataset
    runs = [
        run for run in expected["retrieval"]
        if (run["dataset"], run["category"], run.get("vocabulary", "reference")) == (dataset, category, variant)
    ]  # fmt: skip
    pairs = read_pairs(LocalFiles(root), ManifestSettings.model_validate({"path": str(root), "format": dataset}))
    words = build_vocabulary(vocabulary_texts(pairs, variant))
    (tmp_path / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    confs = {}
    for name in {run["config"] for run in runs}:
        state = recipe.make_state_dict(str(folder / "keys" / f"{name}.json"), len(words))
        torch.save({"it": 0, "model_state_dict": state}, tmp_path / f"{name}.pth")
        cfg = ModelConfig.model_validate({
            "family": CONFIGS[name], "name": name, "weights": WeightsFile(path=str(tmp_path / f"{name}.pth")),
            "extra_files": {"vocabulary": {"path": str(tmp_path / "words.txt")}},
            "image": {"resize": "torchvision_bilinear_center_crop"}, "arch": {"text_dim": int(name[-3:])},
        })  # fmt: skip
        confs[CONFIGS[name]] = write_conf(cfg, tmp_path / f"{name}.yaml")
    chosen = {} if category == "all" else {"categories": [category]}
    store = score_here(job(tmp_path, dataset, root, confs, **chosen))
    for run in runs:
        complete = run["complete_text"] and dataset != "fashioniq"
        text = "complete" if complete else "modification"
        metrics = search(store, CONFIGS[run["config"]], f"{dataset}:{root}", f"search.text={text}").metrics
        prefix = "reference/complete_text/" if complete else "reference/"
        for name, value in run["reference"].items():
            k = name.split("_")[1].removeprefix("top")
            num = len(run["first_hit_rank"])
            near = (run["fragile"][k] + ("adj" in name or "noun" in name)) / num if run["fragile"][k] else 0
            assert metrics[prefix + name]["value"] == pytest.approx(value, abs=near + 1e-9), (run["config"], name)
        first = np.array([np.inf if r is None else r for r in run["first_hit_rank"]], float)
        true = PREFIX[dataset].replace("modification", text)
        for k in KS:
            near = run["fragile"][str(k)] / len(first)
            value = metrics[f"{true}hit_rate@{k}"]["value"]
            assert value == pytest.approx(np.mean(first <= k), abs=near + 1e-9)
