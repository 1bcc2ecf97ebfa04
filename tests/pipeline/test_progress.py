"""Progress asks for counts often while somebody watches or a run is young, seldom otherwise."""

import io
import time

import pytest

from aistudio.pipeline.progress import Progress, say


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("out", "old"), [(io.StringIO(), 5.0), (Terminal(), 0.5)])
def test_long_runs_are_asked_less_often_unless_watched(out: io.StringIO, old: float) -> None:
    progress = Progress(dict, total=10, already=0, out=out)
    assert progress._pause_s() == 0.5
    progress.started = time.monotonic() - 3600
    assert progress._pause_s() == old


class Broken(Terminal):
    """A terminal that went away."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("out", [Broken(), io.TextIOWrapper(io.BytesIO(), "ascii")])
def test_a_display_that_fails_ends_nothing_and_the_timeline_is_kept(out: io.TextIOBase) -> None:
    with Progress(lambda: {"ok": 3.0, "timeout": 1.0}, total=10, already=0, out=out) as progress:
        deadline = time.monotonic() + 60
        while len(progress.timeline) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert progress.timeline[-1][1:] == (4, 3)


@pytest.mark.parametrize(("encoding", "want"), [("ascii", b"\\u2026 \\u897f\n"), ("utf-8", "… 西\n".encode())])
def test_a_line_is_said_in_what_the_stream_can_write(encoding: str, want: bytes) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding)
    say("… 西", stream)
    assert raw.getvalue() == want


def test_the_line_names_the_host_that_holds_the_run_up():
    out = io.StringIO()
    progress = Progress(dict, total=10, already=0, out=out, held_up=lambda: "h: 9 answers/s, at most 10 requests/s")
    assert progress._line({"ok": 3.0}).endswith("failed: none  slowest host h: 9 answers/s, at most 10 requests/s")
    assert "slowest" not in Progress(dict, total=10, already=0, out=out)._line({"ok": 3.0})
    broken = Progress(dict, total=10, already=0, out=out, held_up=lambda: str(1 / 0))
    assert broken._line({"ok": 3.0}).endswith("failed: none")


def test_the_line_says_how_many_rows_were_taken_over():
    line = Progress(dict, total=10, already=0, out=io.StringIO())._line(
        {"ok": 9.0, "reused_no": 2, "reused_url": 1_234}
    )
    assert "failed: none  reused: url 1,234" in line
    assert "reused" not in Progress(dict, total=10, already=0, out=io.StringIO())._line({"ok": 9.0, "reused_no": 9})
