"""Progress asks for counts often while somebody watches or a run is young, seldom otherwise."""

import io
import time

import pytest

from aistudio.pipeline.progress import Progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("out", "old"), [(io.StringIO(), 5.0), (Terminal(), 0.5)])
def test_long_runs_are_asked_less_often_unless_watched(out: io.StringIO, old: float) -> None:
    progress = Progress(dict, total=10, already=0, out=out)
    assert progress._pause_s() == 0.5
    progress.started = time.monotonic() - 3600
    assert progress._pause_s() == old
