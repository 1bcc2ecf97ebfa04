"""The same results, bit for bit, in this process and as Ray tasks over groups of files."""

from aistudio.search.listing import Rules, best_lists
from aistudio.search.query_table import Query
from aistudio.search.resolving import Asked, Source, make_asking, resolve_stored
from aistudio.search.searched import Searched
from aistudio.search.vectors import VectorColumn
from tests.evaluation.stored_run import under_ray
from tests.search.test_listing import files_of
from tests.search.test_search_job import make_run


def lists(store, mapper):
    source = Source(store, files_of(store), VectorColumn())
    asked = [Asked(Query(f"item{i}", item_id=f"item{i}"), "item") for i in range(11)]
    resolve_stored(asked, source, [], mapper)
    asking = make_asking(asked, source, ["item", "copies"], (), None, False, mapper)
    rules = Rules(7, "item_id", (("category", 3),), 0.9)
    return list(best_lists(Searched(store, files_of(store), VectorColumn()), asking, rules, mapper))


def test_ray_tasks_change_nothing(tmp_path, local_ray):
    from aistudio.runs.mapper import InProcess

    store, _ = make_run(tmp_path)
    here = lists(store, InProcess())
    with under_ray() as mapper:
        there = lists(store, mapper)
    assert len(here) == len(there) == 1 and len(here[0].query_R) > 50
    for name in ("query_R", "rank_R", "id_R", "score_R", "vector_R"):
        assert getattr(here[0], name).tolist() == getattr(there[0], name).tolist()
    assert here[0].left_out == there[0].left_out
