"""Who is blamed for a worker's death: the row in hand, when nothing else in that process can have caused it."""

from aistudio.pipeline.coordinator import Coordinator, Start


def test_the_first_start_is_not_careful_and_a_second_by_the_same_process_neither():
    c = Coordinator()
    assert c.begin("a", "score", "p1") == Start(False, ())
    assert c.begin("a", "score", "p1") == Start(False, ())


def test_a_row_in_hand_at_two_deaths_is_poison():
    c = Coordinator()
    c.begin("a", "score", "p1")
    for process in ("p2", "p3"):
        assert c.begin("a", "score", process) == Start(True, ())
        c.in_hand("a", "score", 4)
    assert c.begin("a", "score", "p4") == Start(True, (4,))


def test_a_row_that_went_well_is_not_blamed_for_a_death_between_rows():
    c = Coordinator()
    c.begin("a", "score", "p1")
    for process in ("p2", "p3", "p4"):
        c.begin("a", "score", process)
        c.in_hand("a", "score", 4)
        c.in_hand("a", "score", None)
    assert c.begin("a", "score", "p5") == Start(True, ())


def test_nobody_is_blamed_while_a_shard_without_announcements_shares_the_process():
    c = Coordinator()
    c.begin("a", "score", "p1")
    for process in ("p2", "p3", "p4"):
        c.begin("a", "score", process)
        c.begin(f"new for {process}", "score", process)  # may hold the culprit
        c.in_hand("a", "score", 4)
    assert c.begin("a", "score", "p5") == Start(True, ())


def test_shards_that_left_the_process_do_not_count():
    c = Coordinator()
    c.begin("fetched", "fetch", "p2")
    c.end("fetched", "fetch")
    c.begin("finished", "fetch", "p2")
    c.done("finished", {})
    c.begin("a", "fetch", "p1")
    for process in ("p2", "p3"):
        c.begin("a", "fetch", process)
        c.in_hand("a", "fetch", 1)
    assert c.begin("a", "fetch", "p4").poison == (1,)


def test_stages_have_memories_of_their_own():
    c = Coordinator()
    c.begin("a", "fetch", "f1")
    c.end("a", "fetch")
    assert c.begin("a", "encode", "e1") == Start(False, ())
    assert c.begin("a", "encode", "e2") == Start(True, ())
    assert c.begin("a", "fetch", "f2") == Start(False, ())


def test_a_finished_shard_is_forgotten_and_counted_once():
    c = Coordinator()
    c.begin("a", "score", "p1")
    c.progress("a", {"ok": 3})
    assert c.snapshot() == {"ok": 3}
    c.done("a", {"ok": 8})
    c.done("a", {"ok": 8})
    c.progress("a", {"ok": 8})
    c.in_hand("a", "score", 1)
    assert c.snapshot() == {"ok": 8}
    assert c.begin("a", "score", "p9") == Start(False, ())
