"""What the closing summary says of a GPU; the ledger has tests of its own, and whole runs are in test_score.py."""

import pyarrow as pa
import pytest

from aistudio.catalogue import Reading
from aistudio.config import parse_config
from aistudio.pipeline.progress import where_time_went
from aistudio.pipeline.score import Result
from aistudio.pipeline.summary import exit_code, print_summary, reading_lines
from aistudio.run_record import DeltaFacts, RunRecord, SilentHost, Sources, TextFacts, Timings, Work
from aistudio.runs.ledger import Ledger
from aistudio.runs.record import without_secrets
from aistudio.runs.sources import sources
from aistudio.store import open_store

DATA = {"manifest": {"path": "m.csv", "format": "csv"}, "output": "/r", "models": {"recall": "r.yaml"}}
CONFIG = parse_config(DATA, "test")


def test_the_batch_size_that_an_actor_found_is_told(tmp_path, capsys):
    timings = Timings(wall_s=2.0, images_per_s=5.0, first_row_s=1.0, model_s=1.0)
    facts = {"image_tower": "shared", "batch_size on NVIDIA L4": "256 (tried 8 to 512)"}
    record = RunRecord(timings=timings, work=[Work(timings=timings)], facts=facts)
    result = Result(Ledger(10, 10, 0, {"ok": 10}, 0, 0, []), record, False)
    print_summary(result, open_store(str(tmp_path)), str(tmp_path))
    out = capsys.readouterr().out
    assert "None" not in out
    assert "batch_size on NVIDIA L4: 256 (tried 8 to 512)\n" in out and "image_tower" not in out


def took(**timings):
    measured = {"wall_s": 9.6, "startup_s": 9.1, "steady_s": 0.5, "num_rows": 250, "images_per_s": None}
    return Timings(**measured | timings)


def run_of(**timings):
    return RunRecord(timings=took(**timings), work=[Work(timings=took(**timings))])


def told(capsys, tmp_path, record, counts=None, config=None, did_nothing=False, **ledger):
    counts = counts or {"ok": 250}
    n = sum(counts.values())
    result = Result(Ledger(n, n, 0, counts, 0, 0, [], **ledger), record, did_nothing, config)
    print_summary(result, open_store(str(tmp_path)), "/r")
    return capsys.readouterr().out, exit_code(result)


def test_start_up_stands_apart_and_no_advice_comes_from_half_a_second(tmp_path, capsys):
    out, _ = told(capsys, tmp_path, run_of(model_s=0.1, wait_s=0.4))
    assert "0:10 wall for 250 rows: 9.1 s of start-up to the first rows, 0.5 s of steady work, too short to tell" in out
    assert "0 s of steady work is too little to say what the limit is" in out and "images/s" not in out


def test_a_retry_tells_of_its_own_rows(tmp_path, capsys):
    long = took(steady_s=90.0, images_per_s=100.0)
    work = [Work(kind="score", timings=long), Work(kind="retry", timings=took(num_rows=1))]
    record = RunRecord(timings=long, work=work)
    assert "0:10 wall for 1 row scored again: 9.1 s of start-up" in told(capsys, tmp_path, record)[0]


@pytest.mark.parametrize(
    ("limit", "failed", "code"), [(0.25, 51, 3), (None, 51, 0), (0.6, 51, 0), (0.25, 25, 0), (0.0, 1, 3)]
)
def test_a_run_of_which_too_much_failed_is_not_green(tmp_path, capsys, limit, failed, code):
    config = CONFIG.model_copy(update={"engine": CONFIG.engine.model_copy(update={"max_failed_share": limit})})
    out, found = told(capsys, tmp_path, run_of(), {"ok": 100 - failed, "blocked_address": failed}, config)
    assert found == code and ("exit code 3" in out) == (code == 3)
    assert (
        "python -m aistudio retry --run /r --status blocked_address --set download.allow_private_addresses=true" in out
    )


def test_a_changed_setting_is_no_nothing_to_do(tmp_path, capsys):
    record = run_of().model_copy(update={"config": without_secrets(CONFIG)})
    counts = {"ok": 166, "blocked_address": 174}
    assert "nothing to do" in told(capsys, tmp_path, record, counts, CONFIG, did_nothing=True)[0]
    other = CONFIG.model_copy(update={"download": CONFIG.download.model_copy(update={"allow_private_addresses": True})})
    out, _ = told(capsys, tmp_path, record, counts, other, did_nothing=True)
    assert "nothing to do" not in out
    assert "174 rows failed with blocked_address, which download.allow_private_addresses changes" in out


def test_rows_without_text_and_a_tokenizer_that_knows_nothing_are_said(tmp_path, capsys):
    texts = TextFacts(warning="the recall model's tokenizer does not know 97% of")
    record = run_of().model_copy(update={"texts": texts})
    out, _ = told(capsys, tmp_path, record, num_without_text=12)
    assert "without a text: 12 ok rows have no recall_score" in out and "warning: the recall model's tokenizer" in out


STEADY = {"wall_s": 100.0, "startup_s": 10.0, "steady_s": 90.0, "num_rows": 900, "images_per_s": 10.0}


@pytest.mark.parametrize(
    ("timings", "sources", "words"),
    [
        ({"model_s": 9, "wait_s": 1}, {}, "clearly the model is the limit"),
        ({"model_s": 3.5, "wait_s": 6.5}, {}, "probably the network or the decoding is the limit"),
        ({"model_s": 4.8, "wait_s": 5.2}, {}, "perhaps the network"),
        ({"model_s": 1, "wait_s": 9}, {"kinds": {"file": 95, "http": 5}}, "clearly reading and decoding local files"),
        ({"model_s": 1, "wait_s": 9, "decode_s": 8.5}, {}, "clearly decoding is the limit"),
        (
            {"model_s": 1, "wait_s": 9},
            {"looked_at": 100, "kinds": {"http": 100}, "silent_host": {"host": "dead.example", "rows": 30}},
            "the host dead.example is the limit: it did not answer for 30 of 100",
        ),
        ({"model_s": 2, "wait_s": 1, "write_s": 7}, {}, "probably storing is the limit"),
        ({}, {}, "no time was measured"),
    ],
)
def test_advice_knows_where_images_come_from_and_how_sure_it_is(timings, sources, words):
    assert words in where_time_went(Timings(**STEADY | timings), Sources(**sources))


def test_a_run_that_mostly_started_is_told_so():
    slow = {"startup_s": 200.0, "steady_s": 60.0, "model_s": 9.0}
    text = where_time_went(Timings(**STEADY | slow), Sources())
    assert "200 s of start-up took longer than 60 s of work" in text and "the limit" not in text


@pytest.mark.parametrize("steady_s", [0.0, 29.9])
def test_no_advice_from_too_little(steady_s):
    text = where_time_went(Timings(**STEADY | {"steady_s": steady_s, "model_s": 9.0}), Sources())
    assert "too little to say" in text and "is the limit:" not in text


def test_the_host_that_does_not_answer(tmp_path):
    urls = [f"http://dead.example/{i}" for i in range(20)] + [f"http://shop.example/{i}" for i in range(80)]
    table = pa.table({"image_url": urls, "status": ["timeout"] * 20 + ["ok"] * 79 + ["connection_error"]})
    store = open_store(str(tmp_path))
    store.write_table("scores/0.parquet", table)
    found = sources(store, CONFIG.download)
    silent = SilentHost(host="dead.example", rows=20)
    assert found == Sources(looked_at=100, kinds={"http": 100}, silent_host=silent)
    store.write_table("scores/0.parquet", table.slice(17))  # three time-outs are no limit
    assert sources(store, CONFIG.download).silent_host is None


def test_what_the_lines_of_the_manifest_became():
    assert reading_lines({}) == []  # of a run that was scored before lines were counted
    reading = Reading(12, 8, 1, 2, 1, 1, ("m.csv lines 4 to 6",))._asdict()
    said, warning = reading_lines(reading)
    assert said == (
        "manifest: 12 lines read: 8 became rows, 1 rejected, 1 header or empty, "
        "2 inside quoted fields that began on a line before"
    )
    assert (
        warning.startswith("warning: 1 records") and "m.csv lines 4 to 6" in warning and "manifest.quoting" in warning
    )
    assert reading_lines(Reading(3, 3)._asdict()) == ["manifest: 3 lines read: 3 became rows, 0 rejected"]


def test_what_was_taken_from_a_base_and_what_is_gone_is_told(tmp_path, capsys):
    delta = DeltaFacts(base="/runs/a", trust="validators", gone=2, matched=240)
    record = run_of().model_copy(update={"delta": delta, "facts": {"base": "00000-000001: damaged"}})
    reused = {"no": 10, "validators": 1_200, "content": 40}
    out, _ = told(capsys, tmp_path, record, reused=reused)
    assert "taken over from /runs/a: 1,240 rows (1,200 by validators, 40 by content)\n" in out
    assert "rows of it that are gone: 2, listed in gone_rows/\n" in out and "could not be read: 00000-000001" in out
    assert "taken over" not in told(capsys, tmp_path, run_of(), reused={"no": 250})[0]
