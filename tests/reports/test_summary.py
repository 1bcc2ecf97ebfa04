"""report.md says the same as the pages."""

from aistudio.reports import overview
from aistudio.reports.page import Site
from aistudio.reports.summary import markdown
from aistudio.run_record import RowTotals, RunRecord


def test_markdown():
    ledger = overview.ledger(RunRecord(rows=RowTotals(manifest=11, rejected=3)), {"ok": 9, "timeout": 1}, {})
    metrics = overview.metric_rows(
        {"hit_rate@5": {"value": 0.79, "low": 0.7, "high": 0.8, "n": 10}}, {"hit_rate@5": 0.788}
    )
    failures = [{"status": "timeout", "rows": 1, "meaning": "Slow.", "advice": "Run `retry`."}]
    site = Site("a | <b>\nb", "/r`x", "complete", "now", ("index", "metrics"))
    text = markdown(site, ledger, metrics, [("Rate", "50", "images per second")], failures).decode()
    assert text.startswith("# a \\| &lt;b> b\n")
    assert "| ok | 9 | 90.0 % |" in text and "does not add up" in text and "3 manifest lines" in text
    assert "| hit_rate@5 | 0.790 | 0.700 to 0.800 | 0.788 | 10 |" in text
    assert (
        "- `timeout` (1): Slow. Run `retry`." in text and "[Metrics](metrics.html)" in text and "pairs.html" not in text
    )
