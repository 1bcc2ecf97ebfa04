"""Query tables of the composed data sets: score file -> search -> the reference's numbers, composed by a tiny TIRG."""

import numpy as np
import pyarrow as pa
import pytest
import yaml

from aistudio.catalogue import LocalFiles, read_gallery, read_queries
from aistudio.config import ImagesSettings, ManifestSettings, ReportSettings
from aistudio.images.decode import decode
from aistudio.index import cosine_top
from aistudio.metrics import composed
from aistudio.models import load_model
from aistudio.pipeline.report import write_report
from aistudio.pipeline.search import plan_search, run_search
from aistudio.schema import score_schema
from aistudio.store import open_store
from tests.models.test_composers import DIM, saved

KS = [1, 5, 10, 50, 100]


@pytest.fixture(scope="module")
def tirg(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tirg")
    cfg = saved(folder, "tirg")
    conf = folder / "tirg.yaml"
    conf.write_text(yaml.safe_dump(cfg.model_dump(mode="json", exclude_defaults=True)), encoding="utf-8")
    return load_model(cfg), str(conf)


def write_run(folder, rows, model, conf):
    files = [decode(open(r["image_url"], "rb").read(), [model.image_spec], ImagesSettings()) for r in rows]  # noqa: SIM115, PTH123
    vectors = model.encode_images(np.stack([f.pixels[0] for f in files]))
    known = score_schema([], {}).names
    extra = [f if not pa.types.is_null(f.type) else f.with_type(pa.string())
             for f in pa.Table.from_pylist(rows).schema if f.name not in known]  # fmt: skip
    schema = score_schema(extra, {"embedding_compose": DIM})
    store = open_store(str(folder))
    full = [r | {"status": "ok", "embedding_compose": v} for r, v in zip(rows, vectors, strict=True)]
    for start in range(0, len(full), 7):
        store.write_table(f"scores/{start:05d}.parquet", pa.Table.from_pylist(full[start : start + 7], schema=schema))
    facts = {
        "conf": conf,
        "name": "t",
        "family": "tirg",
        "fingerprint": model.fingerprint,
        "normalised": model.normalised,
    }
    config = {"manifest": {"path": "m", "format": "csv"}, "output": "o", "models": {"encoders": {"compose": conf}}}
    store.write_json("run.json", {"config": config, "models": {"encoders.compose": facts}})
    return store, vectors


@pytest.mark.parametrize("dataset", ["mitstates", "fashion200k", "fashioniq"])
def test_search_gives_the_references_numbers(shared_dir, tmp_path, tirg, dataset):
    model, conf = tirg
    root = str(shared_dir / "composed" / "fixtures" / dataset)
    settings = ManifestSettings.model_validate({"path": root, "format": dataset})
    rows = [r for b in read_gallery(LocalFiles(root), settings) for r in b.candidates.to_pylist()]
    asked = read_queries(LocalFiles(root), settings).table.to_pylist()
    store, vectors = write_run(tmp_path / "run", rows, model, conf)
    outcome = run_search(plan_search(store.root, "q", model="compose", queries=f"{dataset}:{root}"))
    assert outcome.about["status"] == {"ok": len(asked)}
    place = {r["row_id"]: i for i, r in enumerate(rows)}
    source = np.array([place[q["row_id"]] for q in asked])
    _, ranked = cosine_top(model.compose(vectors[source], [q["text"] for q in asked]), vectors, len(rows))
    if dataset == "fashioniq":
        ids, targets = [r["row_id"] for r in rows], [q["relevant"][0] for q in asked]
        found = composed.by_id(ranked, ids, targets, [q["category"] for q in asked], KS, as_published=True)
        first = composed.first_hit(ranked, *composed.numbered(ids, targets))
        prefix = "id/pooled+query_kept+modification/"
    else:
        captions, targets = [r["caption"] for r in rows], [q["target_caption"] for q in asked]
        ranked = composed.without_rows(ranked, source)
        found = composed.by_caption(ranked, captions, targets, KS)
        first = composed.first_hit(ranked, *composed.numbered(captions, targets))
        prefix = "caption/pooled+query_removed+modification/"
    for name, value in composed.reference_names(found).items():
        assert outcome.metrics[f"reference/{name}"]["value"] == value
    for k, value in composed.recall_at(first, KS).items():
        assert outcome.metrics[f"{prefix}hit_rate@{k}"]["value"] == pytest.approx(value, abs=1e-12)
    kinds = {q["change"] for q in store.read_table("searches/q/queries.parquet").to_pylist()}
    assert kinds <= {"mitstates": {"state"}}.get(dataset, {"colour", "state", "noun", "other"}) and kinds
    write_report(store, ReportSettings(map_images=0))
    page = store.read_bytes("report/composed.html").decode()
    assert dataset in page and "Found among the first K" in page
    assert not store.exists("report/searches.html")
    assert f'"total":{len(asked)}'.encode() in store.read_bytes("report/data/composed.js")
    assert store.read_bytes("report/data/changes.csv").count(b"\n") == len(kinds) + 2
