"""An index in shards answers as one does, bit for bit, or not at all.

Shards in this process; on Ray: tests/cluster/test_serve_on_ray.py.
"""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ray import serve
from ray.serve.schema import ServeStatus

from aistudio.config import EngineSettings, ServeSettings
from aistudio.errors import ConfigError, StoreError
from aistudio.pipeline import serve_cluster
from aistudio.pipeline.plan import Resources
from aistudio.pipeline.serve_front import Generation, ShardedSearcher, ShardsError, explained
from aistudio.pipeline.serve_shards import NotHereError, ShardIndexes, Spec, cut, generation_of
from aistudio.search.searcher import Range, Searcher
from aistudio.serving.facets import facets
from tests.search.test_search_job import make_run

NAME = "run:recall"


class Here:
    """A shard that is called as over a wire: what goes in and out is pickled."""

    def __init__(self, indexes, number):
        self.indexes, self.number, self.dead = indexes, number, False

    def call(self, method, *args):
        if self.dead:
            raise explained(self.number, RuntimeError("the actor died"))
        try:
            return pickle.loads(pickle.dumps(getattr(self.indexes, method)(*pickle.loads(pickle.dumps(args)))))
        except Exception as e:  # noqa: BLE001
            raise explained(self.number, e) from None


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("AISTUDIO_CACHE", str(tmp_path / "cache"))
    return make_run(tmp_path / "run")


def sharded(store, num, tmp_path):
    spec = Spec((store.root,), shards=num)
    plan = spec.plan()
    name = generation_of(plan, num)
    shards = [Here(ShardIndexes(spec, i), i) for i in range(num)]
    facts = [shard.call("load", name)[NAME] for shard in shards]
    generation = Generation(shards, name, NAME, ThreadPoolExecutor(num))
    return ShardedSearcher(plan.indexes[0].plan, generation, facts, tmp_path / "pictures"), shards, facts


def shown(found):
    return found.table(["category", "price"]).to_pydict(), found.more, found.gallery_rows, found.left_out


ASKED = [
    {}, {"per": "row", "top_n": 60}, {"leave_out": []}, {"leave_out": ["row"], "per": "row"},
    {"where": {"category": "hat"}}, {"where": {"price": Range(2, 7), "category": ["coat", "hat"]}, "explain": 3},
    {"diversify": {"category": 2}, "top_n": 7}, {"duplicate_cosine": 0.9, "per": "row", "explain": 5},
    {"offset": 4, "top_n": 3}, {"where": {"category": "nothing"}},
]  # fmt: skip


@pytest.mark.parametrize("num", [1, 3, 7])
def test_shards_answer_as_one_index(run, tmp_path, num):
    store, _ = run
    one = Searcher.open(store.root)
    many, _, facts = sharded(store, num, tmp_path)
    assert len(many) == len(one) and many.dim == one.dim and many.columns == one.columns
    rng = np.random.default_rng(0)
    vector = rng.normal(size=one.dim)
    asks = [
        lambda s: s.like_row("0"),
        lambda s: s.like_row("41"),
        lambda s: s.like_item("item3"),
        lambda s: s.like_vector(vector),
        lambda s: s.mixed([(s.like_row("2"), 1.0), (s.like_item("item5"), 0.3)]),
    ]
    for how in ASKED:
        for ask in asks:
            assert shown(many.search(ask(many), **how)) == shown(one.search(ask(one), **how)), how
    assert facets(many.copy.table) == facets(one.copy.table)
    for row_id in ("0", "30", "49", "no such"):
        assert many.row(row_id) == one.row(row_id) and many.place_of(row_id) == one.place_of(row_id)
    assert (many.raw_vectors(["30", "0", "30"]) == one.raw_vectors(["30", "0", "30"])).all()
    sizes = [len(f["ids"]) for f in facts]
    assert max(sizes) - min(sizes) <= 1 and sum(sizes) == len(one)
    whole = one.copy.memory_bytes
    assert all(f["memory_bytes"] <= whole * (1 / num + 0.15) for f in facts)


def test_what_cannot_be_asked_is_said_as_by_one_index(run, tmp_path):
    store, _ = run
    one, (many, _, _) = Searcher.open(store.root), sharded(store, 2, tmp_path)
    for wrong in ({"where": {"colour": 1}}, {"where": {"text": Range(1)}}, {"top_n": 0}, {"diversify": {"x": 1}}):
        said = []
        for searcher in (one, many):
            with pytest.raises(ConfigError) as caught:
                searcher.search(searcher.like_row("0"), **wrong)
            said.append(str(caught.value))
        assert said[0] == said[1]
    with pytest.raises(ConfigError, match="no such"):
        many.like_row("no such")


def test_a_dead_shard_leaves_no_partial_answer(run, tmp_path):
    many, shards, _ = sharded(run[0], 3, tmp_path)
    ask = many.like_row("0")
    whole = shown(many.search(ask))
    for shard in shards:
        shard.dead = True
        with pytest.raises(ShardsError, match="does not answer"):
            many.search(ask)
        shard.dead = False
    assert shown(many.search(ask)) == whole


def test_a_generation_is_of_the_files_and_never_mixed(run, tmp_path):
    store, _ = run
    many, shards, _ = sharded(store, 2, tmp_path)
    old, wanted = many.held._generation.name, shown(many.search(many.like_row("0")))
    other, _ = make_run(tmp_path / "other", seed=9)
    for entry in other.list("scores/"):
        store.write_bytes(entry.key, other.read_bytes(entry.key))
    spec = Spec((store.root,), shards=2)
    new = generation_of(spec.plan(), 2)
    assert new != old
    assert shown(many.search(many.like_row("0"))) == wanted  # the old one answers on
    with pytest.raises(NotHereError, match="does not hold this generation"):
        shards[0].call("rows_of", new, NAME, "row_id", "0")
    with pytest.raises(NotHereError, match="has changed again"):
        shards[0].call("load", "another")
    facts = [shard.call("load", new)[NAME] for shard in shards]
    fresh = ShardedSearcher(many.plan, Generation(shards, new, NAME, ThreadPoolExecutor(2)), facts, tmp_path)
    one = Searcher.open(store.root)
    assert shown(fresh.search(fresh.like_row("0"))) == shown(one.search(one.like_row("0"))) != wanted
    for shard in shards:
        shard.call("keep", new)
    with pytest.raises(NotHereError):
        many.search(fresh.like_row("0"))


def test_more_shards_than_rows_are_refused(run):
    with pytest.raises(ConfigError, match="50 rows cannot be cut into 51 shards"):
        cut(Spec((run[0].root,)).plan().indexes[0].plan.gallery, 51)


def test_a_shards_own_error_is_told_as_it_is():
    class Wrapped(Exception):
        cause = StoreError("a file is damaged")

    assert str(explained(0, Wrapped())) == "a file is damaged"
    assert str(explained(1, TimeoutError())) == "shard 2 does not answer: TimeoutError"


def test_an_application_of_a_service_needs_a_token_and_right_arguments(run, monkeypatch):
    root = run[0].root
    monkeypatch.delenv("AISTUDIO_SERVE_TOKEN", raising=False)
    with pytest.raises(ConfigError, match="AISTUDIO_SERVE_TOKEN"):
        serve_cluster.build({"runs": [root]})
    monkeypatch.setenv("AISTUDIO_SERVE_TOKEN", "0123456789abcdef")
    for args, said in (
        ({}, "runs"), ({"runs": root}, "list of run folders"), ({"runs": [root], "shards": 0}, "shards"),
        ({"runs": [root], "run": root}, "not known"), ({"runs": [root], "settings": ["serve.nope=1"]}, "nope"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=said):
            serve_cluster.build(args)
    assert isinstance(serve_cluster.build({"runs": [root], "shards": 3}), serve.Application)


def test_a_cluster_without_room_or_with_another_application_is_refused(monkeypatch):
    asked = [Spec(("x",), shards=3), ServeSettings(), EngineSettings(), Resources(2, 0, 1)]
    monkeypatch.setattr(serve, "status", ServeStatus)
    with pytest.raises(ConfigError, match=r"reserve 4 CPUs, there are 2: .*serve\.shard_cpus=0\.5"):
        serve_cluster.check_room(*asked)
    monkeypatch.setattr(serve, "status", lambda: ServeStatus(applications={"theirs": None}))
    with pytest.raises(ConfigError, match="theirs"):
        serve_cluster.check_room(*asked)
