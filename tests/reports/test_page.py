"""Number formats, and pages that escape what they show."""

import pytest

from aistudio.reports.page import PAGES, Site, assets, count, duration, num_bytes, number, render, share, short
from tests.reports.synthetic_run import HOSTILE


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (float("inf"), "–"),
        (0, "0"),
        (0.65234, "0.652"),
        (1.0, "1.000"),
        (-0.0123, "-0.012"),
        (12.3456, "12.35"),
        (1234567.8, "1,234,568"),
        (0.00012345, "0.0001"),
        (-0.0008333, "-0.0008"),
        (-0.00001, "> −0.0001"),
        (3e-9, "< 0.0001"),
    ],
)
def test_number(given, shown):
    assert number(given) == shown


def test_other_formats():
    assert [short(v) for v in (None, 1.0, 2.5, 12345.6, 0.12345)] == ["–", "1", "2.5", "1.235e+04", "0.1235"]
    assert (count(None), count(1234567)) == ("–", "1,234,567")
    assert (share(1, 3), share(1, 100_000), share(0, 5), share(1, 0)) == ("33.3 %", "< 0.1 %", "0.0 %", "–")
    assert [duration(s) for s in (None, 0.421, 12.34, 245, 7380)] == [
        "–",
        "0.42 s",
        "12.3 s",
        "4 min 05 s",
        "2 h 03 min",
    ]
    assert [num_bytes(s) for s in (None, 12, 4200, 3.4e6, 5e9, 5e12)] == [
        "–",
        "12 B",
        "4.2 kB",
        "3.4 MB",
        "5.00 GB",
        "5000.00 GB",
    ]


@pytest.mark.parametrize("title", HOSTILE[:7])
def test_a_page_escapes_its_title_and_links_only_existing_pages(title):
    site = Site(title, "/runs/<b>x", "complete", "today", ("index", "gallery"))
    html = render(site, "gallery").decode()
    assert "<script>window" not in html and "<img" not in html and "<svg onload" not in html and "<b>x" not in html
    assert 'href="gallery.html" aria-current="page"' in html
    assert "pairs.html" not in html
    assert "script-src 'self' file:;" in html and "unsafe-inline" not in html.split("style-src")[0]


def test_a_page_loads_nothing_from_anywhere_else():
    html = render(Site("t", "r", "complete", "now", tuple(PAGES)), "pairs").decode()
    assert "http://" not in html and "https://" not in html


def test_assets_hold_the_chart_library_with_its_licence():
    files = assets()
    assert {"app.css", "app.js", "theme.js", "cards.js", "charts.js", "map.js", "lightbox.js"} <= files.keys()
    library = [n for n in files if n.startswith("echarts") and n.endswith(".min.js")]
    assert library == ["echarts-6.1.0.common.min.js"]
    assert b"Apache License" in files["echarts-6.1.0-LICENSE.txt"]
    assert b"innerHTML" not in b"".join(
        v for k, v in files.items() if k.endswith(".js") and "echarts" not in k
    ).replace(b"without innerHTML", b"")
