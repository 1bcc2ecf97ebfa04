"""The snippets of docs/read_results.md do what the page says, on a run with metrics of both kinds and a selection."""

import contextlib
import importlib.util
import io
import re
from pathlib import Path

import pytest

from aistudio.config import MetricsSettings, parse_config
from aistudio.evaluation.aggregate import aggregate
from aistudio.pipeline.select import select_run
from aistudio.runs import layout
from tests.evaluation.stored_run import DIM, FAST, catalogue, write_run

PAGE = Path(__file__).resolve().parents[1] / "docs/read_results.md"
SNIPPETS = re.findall(
    r"^## ([^\n]+)\n.*?```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)
SHOWS = {
    "pandas": "x.example/0/", "polars": "timeout", "DuckDB": "('item11', 0)", "Arrow": f", {DIM})",
    "Nearest neighbours of each image": "query_id",
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    store = write_run(tmp_path_factory.mktemp("read") / "run", *catalogue(), shard=25)
    aggregate(store, MetricsSettings(**FAST))
    aggregate(store, MetricsSettings(query="image", **FAST))
    index = {"shards": [[f"{i:05d}", 20] for i in range(3)], "passthrough": [], "num_rejected": 0}
    store.write_json(layout.MANIFEST_INDEX, index | {"rejected_reasons": {}, "identity": {}})
    data = {"manifest": {"path": "-", "format": "csv"}, "output": store.root, "models": {"recall": "-"}}
    select_run(store, parse_config(data, "test"), csv=True)
    return store.root


def test_every_snippet_is_tested():
    assert [name for name, _ in SNIPPETS] == list(SHOWS)


@pytest.mark.parametrize(("name", "code"), SNIPPETS, ids=[name for name, _ in SNIPPETS])
def test_a_snippet(run, name, code):
    library = re.search(r"import (\w+)", code)[1]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(code, {"RUN": run})
    assert SHOWS[name] in out.getvalue(), out.getvalue()
