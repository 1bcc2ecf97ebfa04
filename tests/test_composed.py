"""The shared check of composed retrieval, where it is on this machine: what takes seconds of it.

The whole, training traces included: PYTHONPATH=tests python ../shared/composed/check.py composed_adapter --strict
"""

import contextlib
import io
import runpy
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
CHECK = HERE.parents[1] / "shared" / "composed" / "check.py"


@pytest.mark.parametrize("part", ["vocabulary", "queries", "drawn pairs", "recall_by", "pixels", "tokens", "tirg-768"])
def test_part_of_the_shared_check(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process: what takes a part's seconds in one of its own is importing torch."""
    if not CHECK.is_file():
        pytest.skip("the composed-retrieval cases are not on this machine")
    for folder in (HERE, CHECK.parent):  # of the adapter and of what the check imports
        monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr(sys, "argv", [str(CHECK), "composed_adapter", "--only", part, "--skip", "train"])
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = runpy.run_path(str(CHECK), run_name="check")["main"]()
    assert code == 0 and "all ok" in said.getvalue(), said.getvalue()
