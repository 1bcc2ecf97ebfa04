"""The JSON API of a running server: every kind of question, the same lists as `jobs.search`, files, what is refused."""

import csv
import io
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from aistudio.pipeline.search import plan_search, run_search
from tests.serving.served import HOSTILE, picture

RESULT = ("rank", "item_id", "row_id", "score", "why")


def ask(client, status=200, **question):
    answer = client.post("/v1/search", json=question)
    assert answer.status_code == status, answer.text
    return answer.json()


def rows(found):
    return [(r["rank"], r["item_id"], r["row_id"], r["score"], r["why"]) for r in found["results"]]


def test_the_same_ids_and_scores_as_the_job(client, served_run, tmp_path):
    table = tmp_path / "q.jsonl"
    queries = [
        {"query_id": "t", "text": "red 4"},
        {"query_id": "r", "row_id": "1"},
        {"query_id": "i", "item_id": "item3"},
    ]
    (tmp_path / "p.png").write_bytes(picture("blue", 99))
    queries.append({"query_id": "p", "image_url": str(tmp_path / "p.png")})
    table.write_text("\n".join(json.dumps(q) for q in queries), encoding="utf-8")
    run_search(plan_search(served_run.root, "api", ["search.top_n=6"], queries=str(table)))
    stored = served_run.read_table("searches/api/results.parquet").to_pylist()
    photo = client.post("/v1/photos", content=picture("blue", 99)).json()["photo"]
    asked = {"t": {"text": "red 4"}, "r": {"row_id": "1"}, "i": {"item_id": "item3"}, "p": {"photo": photo}}
    for name, question in asked.items():
        wanted = [
            tuple(r[c] for c in ("rank", "item_id", "row_id", "score", "why")) for r in stored if r["query_id"] == name
        ]
        assert rows(ask(client, top_n=6, **question)) == wanted and wanted


def test_compositions_are_those_of_the_job(client, served_run, tmp_path):
    (tmp_path / "p.png").write_bytes(picture("green", 98))
    queries = [
        {"query_id": "r", "row_id": "1", "text": "at night"},
        {"query_id": "p", "image_url": str(tmp_path / "p.png"), "text": "at night"},
    ]
    table = tmp_path / "q.jsonl"
    table.write_text("\n".join(json.dumps(q) for q in queries), encoding="utf-8")
    run_search(plan_search(served_run.root, "composed", ["search.top_n=6"], model="composed", queries=str(table)))
    stored = served_run.read_table("searches/composed/results.parquet").to_pylist()
    photo = client.post("/v1/photos", content=picture("green", 98)).json()["photo"]
    for name, question in {"r": {"row_id": "1"}, "p": {"photo": photo}}.items():
        wanted = [tuple(r[c] for c in RESULT) for r in stored if r["query_id"] == name]
        got = rows(ask(client, top_n=6, index="run:composed", text="at night", **question))
        assert got == wanted and len(wanted) == 6
    assert "picture beside it" in ask(client, 422, index="run:composed", text="at night")["error"]
    assert "one picture" in ask(client, 422, index="run:composed", text="a", row_id="1", photo=photo)["error"]


def test_runs_columns_and_pictures(client):
    first, second, third = client.get("/v1/runs").json()
    assert first["index"].endswith(":recall") and second["model"] == "second" and first["rows"] == 24
    assert "text" in first["asks"] and "composed" in third["asks"] and "text" not in third["asks"]
    found = {f["column"]: f for f in client.get("/v1/columns").json()}
    assert ["blue", 6] in found["category"]["choices"] and (found["price"]["min"], found["price"]["max"]) == (0, 230)
    one = ask(client, text="red")["results"][0]
    thumbnail = client.get(one["thumbnail"])
    assert thumbnail.headers["content-type"] == "image/jpeg" and thumbnail.content[:2] == b"\xff\xd8"
    assert client.get("/v1/thumbnail", params={"row": "nope"}).status_code == 404


def test_filters_pages_and_diversity(client):
    whole = ask(client, text="red", per="row", top_n=24)
    first, second = (ask(client, text="red", per="row", top_n=5, offset=o) for o in (0, 5))
    assert rows(first) + rows(second) == rows(whole)[:10] and first["more"] and not whole["more"]
    cheap = ask(client, text="red", per="row", where={"price": {"max": 60}, "category": ["blue", "red"]})
    assert cheap["results"] and all(float(r["columns"]["price"]) <= 60 for r in cheap["results"])
    assert {r["columns"]["category"] for r in cheap["results"]} <= {"blue", "red"}
    varied = ask(client, text="red", per="row", diversify={"category": 1}, top_n=24)["results"]
    assert len({r["columns"]["category"] for r in varied}) == len(varied)
    assert ask(client, text="red", where={"category": "none such"})["results"] == []


def test_weights_lean_towards_what_weighs_more(client):
    by_row = rows(ask(client, row_id="1", leave_out=[], per="row"))
    by_text = rows(ask(client, text="yellow 7", per="row"))
    only = ask(client, row_id="1", text="yellow 7", text_weight=0, leave_out=[], per="row")
    assert [r[2] for r in rows(only)] == [r[2] for r in by_row]
    words = ask(client, row_id="1", text="yellow 7", picture_weight=0, leave_out=[], per="row")
    assert [r[2] for r in rows(words)] == [r[2] for r in by_text]
    assert "and like the text" in ask(client, row_id="1", text="yellow 7")["results"][0]["why"]


def test_no_path_of_the_machine_is_in_an_answer(client, served_run):
    folder = served_run.root.rpartition("/")[0]
    answers = [client.post("/v1/search", json={"text": "red", "top_n": 24}).text, client.get("/v1/runs").text]
    answers += [client.get(f"/v1/results.csv?text=red&{e}").text for e in ("", "row=nope")]
    answers += [client.get("/", params={"text": "red"}).text, client.post("/v1/search", json={"row_id": "nope"}).text]
    answers.append(client.get("/openapi.json").text)
    assert not [a for a in answers if folder in a]
    for path in (
        "/assets/../pyproject.toml",
        "/assets/%2e%2e%2fapp.py",
        "/v1/thumbnail?row=../../run.json",
        "/assets//etc/passwd",
    ):
        assert client.get(path).status_code in (404, 422)


def test_csv_and_parquet_of_a_pages_address(client):
    wanted = rows(ask(client, text="red", top_n=7, where={"price": {"min": 30}}))
    address = "?text=red&n=7&min.price=30"
    table = pq.read_table(io.BytesIO(client.get(f"/v1/results.parquet{address}").content))
    assert [(r["rank"], r["item_id"], r["row_id"], r["score"], r["why"]) for r in table.to_pylist()] == wanted
    answer = client.get(f"/v1/results.csv{address}")
    assert "attachment" in answer.headers["content-disposition"]
    read = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert [r["row_id"] for r in read] == [w[2] for w in wanted]
    assert {r["note"] for r in read} <= {"'=1+1", HOSTILE}  # no formula


@pytest.mark.parametrize(
    ("question", "status"),
    [
        ({}, 422), ({"text": "  "}, 422), ({"row_id": "nope"}, 422), ({"row_id": "25"}, 422),
        ({"index": "no:such", "text": "a"}, 404),
        ({"text": "a", "top_n": 0}, 422), ({"text": "a", "top_n": 201}, 422), ({"text": "a", "offset": 990}, 422),
        ({"text": "a", "where": {"nope": 1}}, 422), ({"text": "a", "where": {"category": {"min": 1}}}, 422),
        ({"text": "a" * 2_001}, 422), ({"photo": "nope"}, 404), ({"vector": [1, 2]}, 422),
        ({"vector": [0.0] * 16}, 200),
        ({"text": "red \0"}, 200), ({"text": "\ud800"}, 422), ({"row_id": "\udfff"}, 422),
        ({"text": "a", "columns": ["nope"]}, 422),
        ({"text": "a", "where": {"price": 10**18}}, 200), ({"text": "a", "surprise": 1}, 422),
        ({"text": "a", "diversify": {"nope": 2}}, 422),
        ({"row_id": "1", "text": "a", "text_weight": 0, "picture_weight": 0}, 422),
    ],
)  # fmt: skip
def test_what_cannot_be_answered_is_refused_with_a_sentence(client, question, status):
    answer = client.post("/v1/search", content=json.dumps(question), headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert status == 200 or answer.json()["error"]


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[" * 50_000, b"\xff\xfe", b'{"text": NaN}', b'{"text_weight": 1e999, "text": "a"}']
)
def test_bodies_that_are_no_question(client, body):
    answer = client.post("/v1/search", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422) and answer.json()["error"]


def test_vectors_that_were_stored_ask_like_their_rows(client, served_run):
    table = served_run.read_table(
        "scores/" + sorted(e.key for e in served_run.list("scores/"))[0].removeprefix("scores/")
    )
    vector = np.asarray(table["embedding"][0].as_py(), np.float32)
    by_vector = ask(client, vector=vector.tolist(), leave_out=[], per="row")
    by_row = ask(client, row_id=table["row_id"][0].as_py(), leave_out=[], per="row")
    assert [r["row_id"] for r in by_vector["results"]] == [r["row_id"] for r in by_row["results"]]


def test_operators_see_that_it_lives_and_what_it_did(client, log):
    assert client.get("/live").text == "live\n" and client.get("/ready").text == "ready\n"
    ask(client, text="red")
    text = client.get("/metrics").text
    assert 'aistudio_requests_total{route="/v1/search",status="200"}' in text and "aistudio_index_rows" in text
    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert {"time", "id", "client", "method", "path", "status", "ms"} <= lines[-1].keys()
    assert all("red" not in line["path"] for line in lines)  # what people ask is not logged
    headers = client.get("/").headers
    assert "default-src 'none'" in headers["content-security-policy"] and headers["x-content-type-options"] == "nosniff"
