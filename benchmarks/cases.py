"""Runs the 24 cases of ../shared/cases/2026-11/README.md and prints what was expected and what was seen.

    python benchmarks/cases.py [--only 1 7 ...] [--out FILE]

Needs ../shared; says so and ends with 0 where it is absent. Three cases at a time, every job within a limit; an idle
machine takes five minutes. Exit code 1 if a case is not as expected.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parent))
from _cases_bench import CASES, ROOT, Bench, Done, Verdict, odd_server, same, seen, whole


def reason(b: Bench) -> Verdict:
    done = b.score("c1", b.shared("reason.csv"))
    bad = next((r for r in done.rows() if r["status"] != "ok"), {})
    right = whole(done, 5) and bad.get("http_status") == 404 and bad["error"].startswith("the server answered 404")
    bad.get("error", "").encode()
    return right and bad["status"] == "http_error", f"{seen(done)} {bad.get('error')!r}"


def chinese_output(b: Bench) -> Verdict:
    done = b.score("图片打分", b.shared("three_rows.csv"))
    return whole(done, 3), seen(done)


def readers(b: Bench) -> Verdict:
    import pandas as pd

    done = b.score("c3", b.shared("reason.csv"))
    again = b.job("aggregate", "--run", str(done.run))
    frames = [pd.read_parquet(f) for f in (done.run / "scores").glob("*.parquet")]
    return whole(done, 5) and again.code == 0 and sum(map(len, frames)) == 5, f"{seen(done)}; aggregate {again.code}"


def far_date(b: Bench) -> Verdict:
    done = b.score("c4", b.shared("valid_until.parquet"), format="parquet")
    after = [b.job(verb, "--run", str(done.run)) for verb in ("aggregate", "report")]
    return whole(done, 6) and not any(a.code for a in after), f"{seen(done)}; then {[a.code for a in after]}"


def binary_view(b: Bench) -> Verdict:
    done = b.score("c5", b.shared("binary_view.parquet"), format="parquet")
    return whole(done, 12) and [r["raw"] for r in done.rows()] == [bytes([i]) for i in range(12)], seen(done)


def cut(b: Bench) -> Verdict:
    done = b.score("c6", f"{b.url}/manifest/cut.csv")
    size = (CASES / "rows.csv").stat().st_size
    sizes = [str(n) in done.text.replace(",", "") for n in (size, size * 6 // 10)]
    no_snapshot = not any((done.run / "manifest").glob("*")) if (done.run / "manifest").exists() else True
    return done.code in (1, 2) and "cut.csv" in done.text and all(sizes) and no_snapshot, seen(done)


def quotes(b: Bench) -> Verdict:
    done = b.score("c7", b.shared("quotes.tsv"), format="tsv")
    texts = {r["item_id"]: r["text"] for r in done.rows()}
    expected = {
        "2": '"Retro radio',
        "3": 'TV wall mount 55"',
        "4": '"Best" gift mug',
        "5": '5" tablet case',
        "6": '"',
        "8": '"',
    }
    return whole(done, 8) and expected.items() <= texts.items(), f"{seen(done)} {texts}"


def schemes(b: Bench) -> Verdict:
    gs = b.score("c8", b.shared("three_rows.csv"), "output=gs://shop-scores/2026-11", more=("--dry-run",))
    place = b.folder / "c8_file"
    file = b.score("c8", b.shared("three_rows.csv"), f"output=file://{place}", more=("--dry-run",))
    nothing = not (ROOT / "gs:").exists() and not (ROOT / "file:").exists()
    words = all(word in gs.text for word in ("output", "gs", "s3://"))
    return gs.code == 2 and words and file.code in (0, 2) and nothing, f"{seen(gs)}; file://: {file.code}"


def grown(b: Bench) -> Verdict:
    lines = (CASES / "rows.csv").read_bytes().splitlines(keepends=True)
    manifest = b.folder / "grown.csv"
    manifest.write_bytes(b"".join(lines[:9]))
    with odd_server(manifest) as port:
        url = f"http://127.0.0.1:{port}/manifest/no-length.csv"
        first = b.score("c9", url)
        manifest.write_bytes(b"".join(lines))
        second = b.score("c9", url)
    return whole(first, 8) and second.code == 2 and len(second.rows()) == 8, f"{seen(first)}; then {seen(second)}"


def twice(b: Bench) -> Verdict:
    done = b.job("score", "--conf", str(CASES / "twice.yaml"), "--dry-run")
    return done.code == 2 and all(w in done.text for w in ("twice.yaml", "download")), seen(done)


def folder(b: Bench, name: str) -> Done:
    where = b.folder / name
    subprocess.run(["sh", CASES / "make_folder.sh", where, CASES / "pictures/plain.jpg"], check=True, timeout=60)
    (where / "shop" / "1001" / "loop").symlink_to("..")
    return b.score(f"{name}_run", where / "shop", format="folder")


def links(b: Bench) -> Verdict:
    done = folder(b, "c11")
    rows = {r["row_id"]: r["item_id"] for r in done.rows()}
    return done.code == 0 and {
        "1003/e.jpg": "1003",
        "1003/f.jpg": "1003",
    }.items() <= rows.items(), f"{seen(done)} {rows}"


def hidden(b: Bench) -> Verdict:
    done = folder(b, "c12")
    rows = sorted(r["row_id"] for r in done.rows())
    right = rows == ["1001/a.jpg", "1002/b.JPG", "1003/e.jpg", "1003/f.jpg"]
    tables = b.folder / "c12_tables"
    tables.mkdir()
    shutil.copy(b.shared("three_rows.csv"), tables / "part1.csv")
    (tables / "._part1.csv").write_bytes(b"\0\5\x16\7Mac")
    csvs = b.score("c12_csv", tables)
    return right and whole(csvs, 3), f"{seen(done)} {rows}; tables: {seen(csvs)}"


def buckets(b: Bench) -> Verdict:
    from tests.s3_server import S3Server

    def files(endpoint: str, path: str) -> int:
        text = b.score(
            "c13", path, f"store.endpoint_url={endpoint}", "store.region=us-east-1", more=("--dry-run",)
        ).text
        return int(text.partition(" file(s)")[0].split()[-1]) if " file(s)" in text else -1

    with S3Server() as s3:
        body = b.shared("three_rows.csv").read_bytes()
        for bucket, keys in {"deep": ("catalogue/now.csv", "catalogue/archive/2024.csv"),
                             "rootcat": ("part-1.csv", "part-2.csv")}.items():  # fmt: skip
            s3.client.create_bucket(Bucket=bucket)
            for key in keys:
                s3.client.put_object(Bucket=bucket, Key=key, Body=body)
        found = [
            files(s3.url, f"s3://{p}") for p in ("deep/catalogue/*.csv", "deep/catalogue/**.csv", "rootcat", "rootcat/")
        ]
    return found == [1, 2, 2, 2], f"files: {found}"


def run_in_manifest(b: Bench) -> Verdict:
    place = b.folder / "c14"
    place.mkdir()
    shutil.copy(b.shared("valid_until.parquet"), place)
    done = [b.score("c14/run1", place, format="parquet") for _ in range(2)]
    finished = done[0].code == 0 and done[1].code == 0 and "finished" in done[1].text
    refused = done[0].code == 2 and "output" in done[0].text and "manifest.path" in done[0].text
    return finished or refused, f"{seen(done[0])}; then {seen(done[1])}"


def utf16(b: Bench) -> Verdict:
    done = b.score("c15", b.shared("utf16.csv"), "manifest.encoding=utf-16")
    rejected = list((done.run / "rejected").glob("*"))
    return whole(done, 3) and not rejected, f"{seen(done)}; {len(rejected)} files of rejected lines"


def pictures(b: Bench, name: str, *settings: str) -> dict[str, dict[str, Any]]:
    return b.score(name, b.shared("pictures.csv"), *settings).by_name()


def alike(rows: dict[str, dict[str, Any]], model: str, *names: str, width: int | None = None) -> Verdict:
    found = {n: rows[n]["status"] + (" same" if same(rows[n], rows[model]) else " other") for n in names if n in rows}
    right = all(found.get(n) == "ok same" and (not width or rows[n]["width"] == width) for n in names)
    return right, str(found)


def profiles(b: Bench) -> Verdict:
    return alike(pictures(b, "c16"), "plain.png", "png_profile_1600kB.png", "png_ztxt_1200kB.png", width=160)


def ancillary(b: Bench) -> Verdict:
    return alike(pictures(b, "c17"), "plain.png", "png_comment_bad_sum.png", "png_short_phys.png")


def odd_tags(b: Bench) -> Verdict:
    rows = pictures(b, "c18", "images.apply_exif_orientation=true")
    names = ("exif_turn_rational_minus_1_by_0.jpg", "exif_turn_unit_is_text.jpg")
    return alike(rows, "exif_turn_only.jpg", *names, width=160)


def turned_tiff(b: Bench) -> Verdict:
    plain = alike(pictures(b, "c19"), "plain.png", "turn.tif", width=160)
    turned = alike(pictures(b, "c19on", "images.apply_exif_orientation=true"), "turn.png", "turn.tif")
    return plain[0] and turned[0], f"off {plain[1]}, on {turned[1]}"


def appended(b: Bench) -> Verdict:
    return alike(pictures(b, "c20"), "plain.jpg", "jpeg_appended_data.jpg")


def codings(b: Bench) -> Verdict:
    rows = b.score("c21", b.shared("http.csv")).by_name()
    return alike(rows, "ok", "enc-aws-chunked", "enc-utf8", "enc-aws-gzip")


def long_fields(b: Bench) -> Verdict:
    return alike(b.score("c22", b.shared("http.csv")).by_name(), "ok", "big-header", "big-location")


def raw_location(b: Bench) -> Verdict:
    row = b.score("c23", b.shared("http.csv")).by_name().get("location-latin1", {})
    return row.get("status") == "ok" and row["final_url"].endswith(
        "/ok/caf%E9"
    ), f"{row.get('status')} {row.get('final_url')}"


def head_refused(b: Bench) -> Verdict:
    names = ("head-403.csv", "needs-agent.csv", "with%20space.csv")
    done = [b.score(f"c24_{i}", f"{b.url}/manifest/{name}") for i, name in enumerate(names)]
    blank = b.score("c24_blank", f"{b.url}/manifest/with space.csv")
    one_message = blank.code == 2 and "error" in blank.text and "Traceback" not in blank.text
    right = all(whole(d, 40) for d in done) and (whole(blank, 40) or one_message)
    return right, "; ".join(seen(d) for d in (*done, blank))


ALL: list[tuple[str, Callable[[Bench], Verdict]]] = [
    ("5 rows, row 2 http_error 404, valid text", reason), ("3 rows", chinese_output),
    ("readers read it", readers), ("report exits 0", far_date), ("12 rows, raw kept", binary_view),
    ("exit 1 or 2, address and both sizes, no snapshot", cut), ("8 rows, texts as they stand", quotes),
    ("exit 2, names output and what is possible", schemes), ("8 rows, then refused", grown),
    ("exit 2, file and key", twice), ("1003/e.jpg, 1003/f.jpg", links), ("4 rows; hidden files passed over", hidden),
    ("1, 2, 2, 2 files", buckets), ("finished, or refused at first", run_in_manifest), ("3 rows, 0 rejected", utf16),
    ("ok, as plain.png", profiles), ("ok, as plain.png", ancillary), ("ok, as exif_turn_only.jpg", odd_tags),
    ("off: as plain.png, on: as turn.png", turned_tiff), ("ok, as plain.jpg", appended), ("ok, as ok/1.jpg", codings),
    ("ok, as ok/1.jpg", long_fields), ("ok, final_url /ok/caf%E9", raw_location), ("40 rows each", head_refused),
]  # fmt: skip


def line(number: int, bench: Bench) -> tuple[bool, str]:
    expected, run = ALL[number - 1]
    try:
        right, found = run(bench)
    except Exception as e:  # noqa: BLE001 - a case that breaks the script is not as expected; the others go on
        right, found = False, f"{type(e).__name__}: {e}"
    found = " ".join(found.split()).replace("|", "/")[:300]
    return right, f"| {number} | {run.__name__} | {expected} | {found} | {'yes' if right else '**NO**'} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", type=int, default=[], metavar="N")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--at-once", type=int, default=3, metavar="N", help="how many run side by side")
    options = parser.parse_args()
    if not CASES.is_dir():
        print(f"skipped: {CASES} is not there")
        return 0
    numbers = options.only or range(1, len(ALL) + 1)
    lines = ["| | case | expected | seen | as expected |", "|---|---|---|---|---|"]
    rights = []
    place = Path(tempfile.mkdtemp(prefix="cases_"))
    with odd_server(CASES / "rows.csv") as port, ThreadPoolExecutor(options.at_once) as pool:
        for right, text in pool.map(lambda n: line(n, Bench(place, port)), numbers):
            print(text, flush=True)
            lines.append(text)
            rights.append(right)
    if options.out:
        options.out.write_text("# Twenty-four cases\n\n`python benchmarks/cases.py`\n\n" + "\n".join(lines) + "\n")
    shutil.rmtree(place, ignore_errors=True)
    return 0 if all(rights) else 1


if __name__ == "__main__":
    sys.exit(main())
