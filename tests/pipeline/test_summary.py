"""What the closing summary says of a GPU; the ledger has tests of its own, and whole runs are in test_score.py."""

from aistudio.pipeline.score import Result
from aistudio.pipeline.summary import print_summary
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
