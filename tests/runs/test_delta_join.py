"""The join of a base with a manifest, against the same thing said with Python's dictionaries."""

import random

import pyarrow as pa
import pytest

from aistudio.runs import delta_join, layout
from aistudio.runs.delta_join import Group, groups_of, matches_of
from aistudio.schema import CANDIDATE_FIELDS
from aistudio.store import Store, open_store

PRINT = "f" * 64
CANDIDATES = pa.schema(CANDIDATE_FIELDS)
SCORES = pa.schema([*CANDIDATE_FIELDS, pa.field("status", pa.string()), pa.field("content_hash", pa.string())])


def row(url: str, item="i", text="t", fallback=None, poi=None, status="ok", content="c", row_id="r") -> dict:
    found = {"row_id": row_id, "item_id": item, "image_url": url, "fallback_url": fallback, "text": text}
    return found | {"poi_names": poi, "status": status, "content_hash": content if status == "ok" else None}


def write(store: Store, key, shards: list[list[dict]], schema: pa.Schema, fingerprint=PRINT) -> list[tuple[str, int]]:
    names = [f"00000-{i:06d}" for i in range(len(shards))]
    for name, rows in zip(names, shards, strict=True):
        table = pa.Table.from_pylist(rows, schema=schema)
        store.write_table(key(name), table, {"aistudio.fingerprint": fingerprint})
    return [(name, len(rows)) for name, rows in zip(names, shards, strict=True)]


def join(tmp_path, base: list[list[dict]], new: list[list[dict]], parts=1, group_rows=1000):
    """Returns (run, firsts of groups, what split_base said)."""
    run, store = open_store(str(tmp_path / "run")), open_store(str(tmp_path / "base"))
    old_groups = groups_of(write(store, layout.scores_key, base, SCORES), group_rows)
    own = groups_of(write(run, layout.manifest_key, new, CANDIDATES), group_rows)
    found = [delta_join.split_base(group, run, store, PRINT, parts) for group in old_groups]
    for group in own:
        delta_join.split_new(group, run, parts)
    numbers = [delta_join.join_part(part, run) for part in range(parts)]
    for group in own:
        delta_join.gather(group.number, run)
    return run, [g.shards[0] for g in own], found, numbers


def matches(run: Store, firsts: list[str], num_shards: int) -> dict:
    """(shard, row) -> (base shard, base row, same text), shards and rows as numbers."""
    found = {}
    for shard in range(num_shards):
        table = matches_of(run, firsts, f"00000-{shard:06d}")
        assert table.schema.equals(delta_join.MATCHES)
        for m in table.to_pylist():
            assert m["shard"] == f"00000-{shard:06d}" and (shard, m["row"]) not in found
            found[shard, m["row"]] = int(m["base_shard"][-6:]), m["base_row"], m["same_text"]
    return found


def gone(run: Store) -> list[str]:
    tables = [run.read_table(e.key) for e in run.list(layout.GONE)]
    return sorted(r for t in tables for r in t["row_id"].to_pylist())


def expected(base: list[list[dict]], new: list[list[dict]]) -> tuple[dict, list[str]]:
    by_image: dict = {}
    for s, rows in enumerate(base):
        for n, r in enumerate(rows):
            if r["status"] == "ok" and r["content_hash"] is not None:
                by_image.setdefault((r["image_url"], r["fallback_url"]), []).append((s, n, r))
    usable = {k: v for k, v in by_image.items() if len({r["content_hash"] for _, _, r in v}) == 1}
    found = {}
    for s, rows in enumerate(new):
        for n, r in enumerate(rows):
            candidates = usable.get((r["image_url"], r["fallback_url"]), [])
            same = [c for c in candidates if (c[2]["text"], c[2]["poi_names"]) == (r["text"], r["poi_names"])]
            if candidates:
                chosen = (same or candidates)[0]
                found[s, n] = chosen[0], chosen[1], bool(same)
    offers = {(r["item_id"], r["image_url"]) for rows in new for r in rows}
    left = [r["row_id"] for rows in base for r in rows if (r["item_id"], r["image_url"]) not in offers]
    return found, sorted(left)


@pytest.mark.parametrize("seed", range(6))
def test_any_catalogue_is_joined_as_dictionaries_would(tmp_path, seed):
    rng = random.Random(seed)

    def rows(n: int, prefix: str) -> list[dict]:
        return [
            row(
                f"http://h/{rng.randrange(30)}.jpg", item=f"i{rng.randrange(4)}", text=rng.choice(["", "a", "西湖"]),
                fallback=rng.choice([None, "", "http://h/f.jpg"]), poi=rng.choice([None, "", "p,q"]),
                status=rng.choice(["ok", "ok", "ok", "http_error"]), content=rng.choice(["x", "x", "x", "y"]),
                row_id=f"{prefix}{i}",
            )
            for i in range(n)
        ]  # fmt: skip

    base = [rows(rng.randrange(1, 9), f"b{s}-") for s in range(6)]
    new = [rows(rng.randrange(1, 9), f"n{s}-") for s in range(7)]
    run, firsts, _, numbers = join(tmp_path, base, new, parts=rng.choice([1, 3, 5]), group_rows=rng.choice([1, 10, 99]))
    want, left = expected(base, new)
    assert matches(run, firsts, len(new)) == want and gone(run) == left
    assert (sum(m for m, _ in numbers), sum(g for _, g in numbers)) == (len(want), len(left))


def test_a_picture_that_the_base_saw_in_two_versions_is_nobodys(tmp_path):
    base = [[row("a", content="x"), row("b")], [row("a", content="y"), row("b")]]
    run, firsts, _, _ = join(tmp_path, base, [[row("a"), row("b")]])
    assert matches(run, firsts, 1) == {(0, 1): (0, 1, True)}


def test_rows_that_failed_in_the_base_are_not_matched_but_not_gone_either(tmp_path):
    base = [[row("a", status="timeout"), row("b", status="timeout", row_id="lost")]]
    run, firsts, _, _ = join(tmp_path, base, [[row("a")]])
    assert matches(run, firsts, 1) == {} and gone(run) == ["lost"]


def test_null_and_the_empty_text_are_two_addresses(tmp_path):
    run, firsts, _, _ = join(tmp_path, [[row("a", fallback="")]], [[row("a", fallback=None), row("a", fallback="")]])
    assert matches(run, firsts, 1) == {(0, 1): (0, 0, True)}


def test_files_of_the_base_that_cannot_be_read_are_named(tmp_path):
    store = open_store(str(tmp_path / "base"))
    write(store, layout.scores_key, [[row("a")], [row("b")], [row("c")]], SCORES)
    store.write_bytes(layout.scores_key("00000-000001"), b"broken")
    store.write_table(
        layout.scores_key("00000-000002"), pa.Table.from_pylist([row("c")], schema=SCORES),
        {"aistudio.fingerprint": "other"},
    )  # fmt: skip
    run = open_store(str(tmp_path / "run"))
    found = delta_join.split_base(Group(0, [f"00000-{i:06d}" for i in range(4)]), run, store, PRINT, 1)
    assert found.rows == 1 and [u.split(":")[0] for u in found.unread] == [f"00000-{i:06d}" for i in (1, 2, 3)]
    assert "another model" in found.unread[1]


def test_a_base_without_rows_and_shards_without_matches(tmp_path):
    run, firsts, _, numbers = join(tmp_path, [], [[row("a")], [row("b")]], group_rows=1)
    assert matches(run, firsts, 2) == {} and numbers == [(0, 0)] and gone(run) == []


def test_a_long_group_is_read_a_row_group_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(delta_join, "_ROWS_AT_ONCE", 4)
    rows = [[row(f"{s}-{i}") for i in range(3)] for s in range(9)]
    run, firsts, _, _ = join(tmp_path, rows, rows)
    assert matches(run, firsts, 9) == {(s, i): (s, i, True) for s in range(9) for i in range(3)}
