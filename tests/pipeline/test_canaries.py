"""A worker whose numbers are wrong: found before it stores anything, replaced, named; the run's numbers are right."""

import time
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import ray
import torch
from PIL import Image

from aistudio.errors import AIStudioError
from aistudio.pipeline import dataset as dataset_module
from aistudio.pipeline import score as score_module
from aistudio.pipeline.actors import EncodeWorker, FusedWorker
from aistudio.pipeline.reference import make_reference, reference_folder
from aistudio.pipeline.score import prepare, score
from aistudio.runs import layout
from aistudio.scoring.canaries import Canaries
from aistudio.store import open_store
from tests.pipeline.test_poison import write_manifest
from tests.score_here import workers_here

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def pictures(tmp_path) -> list[str]:
    """33 pictures, no two alike: a worker does not compute again what it remembers, and needs no canary for it."""
    drawn = np.random.default_rng(0).integers(0, 256, (33, 24, 24, 3), np.uint8)
    for i, pixels in enumerate(drawn):
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return [str(tmp_path / f"{i}.png") for i in range(len(drawn))]


@pytest.fixture
def manifest(pictures, tmp_path):
    return write_manifest(tmp_path / "m.csv", pictures[:32])


@pytest.fixture
def cache(tmp_path):
    return {"weights_cache": str(tmp_path / "cache" / "weights")}


def stored(config) -> pd.DataFrame:
    store = open_store(config.output)
    columns = ["row_id", "status", "error", "embedding", "recall_score", "rank_score"]
    rows = pd.concat([store.read_table(e.key, columns).to_pandas() for e in store.list("scores/")])
    return rows.sort_values("row_id", ignore_index=True)


def flip_a_weight(model) -> None:
    """Change one number of the image tower's last layer by much, as the flip of a high bit does."""
    last = list(model._images._tower.parameters())[-1]
    with torch.inference_mode():
        last.data.view(-1)[7] += 3


def worker_that_goes_wrong(base, marker, after_shards, times):
    """Return a worker class: its weights are hurt before the shard after so many, in its first `times` lives."""

    class Hurt(base):
        def __init__(self, run):
            super().__init__(run)
            self.shards = 0
            self.lives = len(marker.read_text()) if marker.exists() else 0

        def scorer(self, batch_size):
            if self.shards == after_shards and self.lives < times:
                marker.write_text("x" * (self.lives + 1))
                flip_a_weight(self.encoders.towers.models[0])
            self.shards += 1
            return super().scorer(batch_size)

    return Hurt


@pytest.mark.parametrize("plan", ["fused", pytest.param("staged", marks=pytest.mark.campaign)])
def test_a_worker_whose_weights_change_is_replaced_and_no_wrong_row_is_stored(
    plan, manifest, tmp_path, make_config, cache, monkeypatch
):
    engine = {"plan": plan, "device": "cpu", "shards_in_flight": 1, **cache}
    config = make_config(manifest, engine=engine, output=str(tmp_path / "good"))
    with workers_here():
        right = score(prepare(config))
    assert "wrong_workers" not in right.record.facts and "canaries" not in right.record.facts
    assert len(list(reference_folder(config).glob("*.npz"))) == 1

    name, base = ("FusedWorker", FusedWorker) if plan == "fused" else ("EncodeWorker", EncodeWorker)
    monkeypatch.setattr(dataset_module, name, worker_that_goes_wrong(base, tmp_path / "lives", 2, 1))
    hurt = config.model_copy(update={"output": str(tmp_path / "hurt")})
    found = score(prepare(hurt))
    assert (tmp_path / "lives").read_text() == "x"  # it did happen
    assert found.ledger.complete and found.record.state == "complete"
    assert found.record.facts["wrong_workers"].startswith("1 on ")
    pd.testing.assert_frame_equal(stored(hurt), stored(config))


@pytest.mark.campaign
def test_a_run_whose_workers_are_all_wrong_stops_and_names_the_node(
    manifest, tmp_path, make_config, cache, monkeypatch
):
    config = make_config(manifest, engine={"max_wrong_workers": 1, **cache})
    monkeypatch.setattr(dataset_module, "FusedWorker", worker_that_goes_wrong(FusedWorker, tmp_path / "lives", 0, 99))
    with pytest.raises(AIStudioError, match=r"more than 1 workers .* wrong numbers, the last on node \d"):
        score(prepare(config))
    assert not layout.score_keys(open_store(config.output))
    monkeypatch.undo()
    assert score(prepare(config)).ledger.complete  # the same command goes on


def test_kept_answers_that_are_damaged_are_made_again_and_none_are_asked_for_without_canaries(
    manifest, tmp_path, make_config, cache, in_process
):
    config = make_config(manifest, engine={"canaries": False, **cache}, output=str(tmp_path / "none"))
    score(prepare(config))
    assert not reference_folder(config).exists()
    config = make_config(manifest, engine=cache, output=str(tmp_path / "one"))
    score(prepare(config))
    (kept,) = reference_folder(config).glob("*.npz")
    whole = kept.read_bytes()
    kept.write_bytes(whole[:100])
    result = score(prepare(config.model_copy(update={"output": str(tmp_path / "two")})))
    assert result.ledger.complete and "canaries" not in result.record.facts and kept.read_bytes() == whole


@pytest.mark.parametrize("new", [False, True])
def test_a_wrong_worker_that_is_asked_nothing_does_no_harm_and_one_new_picture_finds_it(
    new, pictures, manifest, tmp_path, make_config, cache, monkeypatch
):
    before = make_config(manifest, engine=cache, output=str(tmp_path / "before"))
    score(prepare(before))
    config = make_config(
        write_manifest(tmp_path / "next.csv", pictures[: 32 + new]), engine=cache, output=str(tmp_path / "next")
    )
    hurt = worker_that_goes_wrong(FusedWorker, tmp_path / "lives", 0, 1)
    monkeypatch.setattr(dataset_module, "FusedWorker", hurt)
    if not new:  # nobody waits for the reference either
        monkeypatch.setattr(score_module, "ask_for_reference", lambda config, models: ray.put("no answers at all"))
    found = score(prepare(config.model_copy(update={"base": before.output, "trust": "url"})))
    assert found.record.reused == {"url": 32} | ({"no": 1} if new else {})
    assert ("wrong_workers" in found.record.facts) == new and (tmp_path / "lives").exists()
    assert "canaries" not in found.record.facts
    old, rows = stored(before), stored(config)
    ours = rows["row_id"].isin(old["row_id"])
    pd.testing.assert_frame_equal(rows[ours].reset_index(drop=True), old)
    assert list(rows.loc[~ours, "status"]) == ["ok"] * new


@pytest.mark.parametrize("wrong", [False, True])
def test_the_first_shard_is_scored_before_the_reference_is_there_and_stored_after(
    wrong, manifest, tmp_path, make_config, cache, monkeypatch
):
    """The reference is made only after a worker has begun; had that waited for it, the run would have no canaries."""
    begun, lives = tmp_path / "begun", tmp_path / "lives"

    class Telling(worker_that_goes_wrong(FusedWorker, lives, 0, 1 if wrong else 0)):
        def scorer(self, batch_size):
            begun.touch()
            return super().scorer(batch_size)

    def late(settings, models):
        until = time.monotonic() + 60
        while not begun.exists():
            if time.monotonic() > until:
                raise TimeoutError("no worker began")
            time.sleep(0.05)
        time.sleep(1)
        if stored := layout.score_keys(open_store(settings["output"])):
            raise RuntimeError(f"stored before anything was checked: {stored}")
        return make_reference(settings, models)

    def ask_for_reference(config, models):
        return ray.remote(num_cpus=0)(late).remote(config.model_dump(mode="json"), models)

    monkeypatch.setattr(dataset_module, "FusedWorker", Telling)
    monkeypatch.setattr(score_module, "ask_for_reference", ask_for_reference)
    config = make_config(manifest, engine=cache)
    with nullcontext() if wrong else workers_here():  # a wrong one ends its process
        found = score(prepare(config))
    assert found.ledger.complete and begun.exists() and "canaries" not in found.record.facts
    assert ("wrong_workers" in found.record.facts) == wrong == lives.exists()


@pytest.mark.parametrize(("device", "sizes"), [("cpu", []), ("cuda", [6]), ("mps", [6])])
def test_a_first_check_in_the_runs_own_batches_is_made_once_on_every_device_but_a_cpu(
    device, sizes, manifest, tmp_path, make_config, cache, monkeypatch, in_process
):
    seen = []

    class OnDevice(FusedWorker):
        """Its models are on the CPU; what it does before a commit is what a worker of the device does."""

        def check_numbers(self, scorer):
            self.run = self.run._replace(plan=self.run.plan._replace(device=device))
            super().check_numbers(scorer)

    def check(self, models, rank, batch_size, *, recall):
        seen.append(batch_size)
        judge(self, models, rank, batch_size, recall=recall)

    judge = Canaries.check
    monkeypatch.setattr(Canaries, "check", check)
    monkeypatch.setattr(dataset_module, "FusedWorker", OnDevice)
    found = score(prepare(make_config(manifest, engine={"shard_rows": 8, "batch_size": 6, **cache})))
    assert found.ledger.complete and found.ledger.num_stored == 32 and seen == sizes
    assert "wrong_workers" not in found.record.facts
