"""run.json and attempts/: claims that race, differences by name, secrets left out."""

import json
import threading

import pytest

from aistudio.config import parse_config
from aistudio.errors import ConfigError, FencedError, RunMismatchError
from aistudio.run_record import ModelFacts, RunRecord
from aistudio.runs.attempts import claim_attempt, latest_attempt, refuse_if_fenced
from aistudio.runs.record import (
    load_run,
    new_record,
    open_record,
    refuse_other_run,
    stored_settings,
    without_secrets,
    write_run,
)
from aistudio.runs.shape import differences, fingerprint, run_shape
from aistudio.store import open_store

DATA = {
    "manifest": {"path": "https://me:s3cret@files.example/m.csv", "format": "csv"},
    "output": "out",
    "models": {"recall": "r.yaml"},
    "download": {
        "headers": {"Authorization": "Bearer t0ken", "X-Api-Key": "k3y", "Accept": "image/*"},
        "url_map": {"http://a/": "http://me:s3cret@b/"},
    },
}


def test_attempts_claimed_at_once_are_all_different(tmp_path):
    store, start, claimed = open_store(str(tmp_path)), threading.Barrier(8), []

    def claim() -> None:
        start.wait(10)
        claimed.append(claim_attempt(store))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    assert sorted(claimed) == list(range(1, 9)) and latest_attempt(store) == 8


def test_an_older_attempt_is_fenced_a_newer_one_not(tmp_path):
    store = open_store(str(tmp_path))
    first = claim_attempt(store)
    refuse_if_fenced(store, first)
    second = claim_attempt(store)
    refuse_if_fenced(store, second)
    with pytest.raises(FencedError, match=r"attempt 2 has taken over .*; this one \(1\) stops"):
        refuse_if_fenced(store, first)


def test_strange_files_among_the_attempts_are_no_attempts(tmp_path):
    store = open_store(str(tmp_path))
    assert latest_attempt(store) == 0
    for name in ("000002.json", "note.txt", "000009.json.bak", "000003"):
        store.write_bytes(f"attempts/{name}", b"{}")
    assert latest_attempt(store) == 2


def test_differences_are_named_with_both_values():
    old = {"manifest": {"path": "a", "limit": None}, "precision": "float32"}
    new = {"manifest": {"path": "b", "limit": None}, "models": {"ranking": "f"}, "precision": "float32"}
    found = differences(old, new)
    assert found == [
        "manifest.path: the run folder has 'a', now 'b'",
        "models: the run folder has none, now {'ranking': 'f'}",
    ]
    assert differences(old, old) == []
    with pytest.raises(RunMismatchError, match=r"manifest\.path"):
        refuse_other_run(RunRecord(shape=old), new, "place")


def test_of_two_runs_that_open_a_new_folder_at_once_the_other_is_refused(tmp_path):
    store = open_store(str(tmp_path))
    open_record(store, RunRecord(shape={"a": 1}, attempt=1), new=True)
    open_record(store, RunRecord(shape={"a": 1}, attempt=2), new=True)
    assert load_run(store).attempt == 2
    with pytest.raises(RunMismatchError, match="a: the run folder has 1, now 2"):
        open_record(store, RunRecord(shape={"a": 2}, attempt=3), new=True)


def test_no_secret_is_recorded(monkeypatch):
    config = parse_config(DATA, "test")
    argv = [
        "score",
        "--set",
        "download.headers.Cookie=s3cret",
        "--set=download.headers={A: s3cret}",
        "http://u:s3cret@h/",
    ]
    monkeypatch.setattr("sys.argv", argv)
    text = json.dumps(new_record(config, {}, {}, 1).as_json()) + json.dumps(without_secrets(config))
    for secret in ("s3cret", "t0ken", "k3y"):
        assert secret not in text
    assert '"Accept": "image/*"' in text and "https://***@files.example/m.csv" in text


def test_the_fingerprint_follows_what_shapes_scores_and_nothing_else():
    def of(**changes) -> str:
        config = parse_config({**DATA, **changes}, "test")
        return fingerprint(run_shape(config, {"path": "m"}, {"recall": ModelFacts(fingerprint="f")}))

    assert of() == of(download={"timeout_s": 3}) == of(images={"decode_timeout_s": 3}) == of(engine={"batch_size": 2})
    shaped = {of(), of(images={"thumbnail_px": 8}), of(store={"embedding_dtype": "float16"})}
    assert len(shaped | {of(engine={"precision": "bfloat16"})}) == 4


def test_settings_of_a_stored_run_come_back_with_overrides(tmp_path):
    store = open_store(str(tmp_path))
    with pytest.raises(ConfigError, match="is this a run folder"):
        stored_settings(str(tmp_path))
    write_run(store, new_record(parse_config(DATA, "test"), {}, {}, 1))
    config = stored_settings(str(tmp_path), ["download.timeout_s=7"])
    assert config.output == str(tmp_path) and config.download.timeout_s == 7 and config.models.recall == "r.yaml"
