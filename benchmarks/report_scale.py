"""How a report behaves at size: time and memory to write it, then what each page costs a browser.

    python -m benchmarks.report_scale [--rows 100000] [--keep FOLDER]

Makes up a run folder, writes its report in a process of its own and opens every page from disk in headless
Chromium. Prints one table. Fails (exit code 1) when a page logs an error or needs more than LIMIT_HEAP_MB.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

from aistudio.config import ReportSettings
from aistudio.pipeline.report import write_report
from aistudio.store import open_store
from tests.reports.synthetic_run import write_run

LIMIT_HEAP_MB = 150
IMAGES_PER_ITEM = 50
PAGES = ("index", "metrics", "gallery", "pairs", "selection", "failures", "map", "compare")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run", "--enable-precise-memory-info")  # fmt: skip
PAINT = "performance.getEntriesByType('paint').find(e => e.name === 'first-contentful-paint')?.startTime"
READY = {"gallery": ".tile", "pairs": ".tile", "selection": ".tile", "map": "[data-map] canvas"}


def write_and_measure(folder: str, out: "multiprocessing.Queue[tuple[float, float]]") -> None:
    """In a process of its own, so that its peak memory is that of the report alone."""
    started = time.perf_counter()
    write_report(open_store(folder), ReportSettings(title="100,000 rows"))
    seconds = time.perf_counter() - started
    out.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure_page(browser, url: str, name: str) -> tuple[float, float, int, float, list[str]]:
    """First paint in ms, heap in MB and DOM nodes when ready, heap after scrolling to the end, console errors."""
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    page, errors = context.new_page(), []
    page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(url, timeout=60_000)
    page.wait_for_selector(READY.get(name, "h1"), timeout=60_000)
    page.wait_for_timeout(500)
    paint = page.evaluate(PAINT)
    heap, nodes = page.evaluate("[performance.memory.usedJSHeapSize / 1e6, document.querySelectorAll('*').length]")
    for _ in range(30):
        page.mouse.wheel(0, 1500)
        page.wait_for_timeout(40)
    scrolled = page.evaluate("performance.memory.usedJSHeapSize / 1e6")
    context.close()
    return paint, heap, nodes, scrolled, errors


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--keep", metavar="FOLDER", help="write the run here and leave it")
    args = parser.parse_args()
    folder = args.keep or tempfile.mkdtemp(prefix="report_scale_")
    store = open_store(folder)
    if not store.exists("run.json"):
        write_run(store, args.rows // IMAGES_PER_ITEM, IMAGES_PER_ITEM, dim=64, shard_rows=500)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    worker = context.Process(target=write_and_measure, args=(folder, queue))
    worker.start()
    seconds, peak_mb = queue.get(timeout=3600)
    worker.join(60)
    files = store.list("report/")
    print(f"{args.rows:,} rows, {args.rows // IMAGES_PER_ITEM:,} queries: {seconds:.1f} s, peak {peak_mb:,.0f} MB,")
    print(f"{sum(f.size for f in files) / 1e6:.1f} MB in {len(files):,} files\n")
    print("| page | first paint ms | JS heap MB | after scrolling MB | DOM nodes | errors |")
    print("|---|---:|---:|---:|---:|---:|")
    failed = False
    from playwright.sync_api import sync_playwright  # a test dependency

    with sync_playwright() as p:
        chromium = os.environ.get("AISTUDIO_CHROMIUM") or shutil.which("chromium")
        browser = p.chromium.launch(executable_path=chromium, args=list(FLAGS))
        for name in PAGES:
            url = f"{Path(folder, 'report').resolve().as_uri()}/{name}.html"
            paint, heap, nodes, scrolled, errors = measure_page(browser, url, name)
            print(f"| {name} | {paint:.0f} | {heap:.1f} | {scrolled:.1f} | {nodes:,} | {len(errors)} |")
            failed |= bool(errors) or max(heap, scrolled) > LIMIT_HEAP_MB
        browser.close()
    if not args.keep:
        shutil.rmtree(folder)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
