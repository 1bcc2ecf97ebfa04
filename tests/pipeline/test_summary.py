"""What the closing summary says of a GPU; the ledger has tests of its own, and whole runs are in test_score.py."""

from aistudio.catalogue import Reading
from aistudio.pipeline.score import Result
from aistudio.pipeline.summary import print_summary, reading_lines
from aistudio.runs.ledger import Ledger
from aistudio.store import open_store


def test_the_batch_size_that_an_actor_found_is_told(tmp_path, capsys):
    record = {
        "timings": {"wall_s": 2.0, "images_per_s": 5.0, "first_row_s": 1.0, "model_s": 1.0},
        "facts": {"image_tower": "shared", "batch_size on NVIDIA L4": "256 (tried 8 to 512)"},
    }
    result = Result(Ledger(10, 10, 0, {"ok": 10}, 0, 0, []), record, False)
    print_summary(result, open_store(str(tmp_path)), str(tmp_path))
    told = capsys.readouterr().out
    assert "batch_size on NVIDIA L4: 256 (tried 8 to 512)\n" in told and "image_tower" not in told


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
