"""Rows per second and memory of a manifest in PostgreSQL, streamed through ADBC, against the number of rows.

    python benchmarks/sql.py [--rows 10000 100000 1000000] [--uri postgresql://...]

Without --uri a server of its own is started in a temporary folder (tests/postgres.py). A table of N rows (sku, address,
title, ten kept columns) is read in a new process each time: `stream` is read_sql alone, `snapshot` writes the run's
shards too, as `score` does, and `at once` fetches the same rows as one table, to compare. Memory is the growth of the
process's peak resident bytes over what it held with its libraries loaded and the first batch read.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
WAYS = ("stream", "snapshot", "at once")
LIMIT_S = 1200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--uri", help="of a database in which tables may be made")
    parser.add_argument("--one", nargs=3, metavar=("WAY", "ROWS", "URI"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one[0], int(args.one[1]), args.one[2])))
        return
    if args.uri:
        table(args.rows, args.uri)
        return
    from tests.postgres import Postgres, programs

    if programs() is None:
        raise SystemExit("PostgreSQL's programs (initdb, postgres) are not on this machine; say --uri")
    with Postgres() as server:
        table(args.rows, server.uri)


def table(sizes: list[int], uri: str) -> None:
    import adbc_driver_postgresql.dbapi as postgresql

    print("| rows | way | seconds | rows/s | memory grew by, MB |\n|--:|---|--:|--:|--:|")
    for rows in sizes:
        with postgresql.connect(uri, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS bench_{rows}")
            kept = ", ".join(f"md5((n * {k})::text) AS kept_{k}" for k in range(1, 11))
            cursor.execute(
                f"CREATE TABLE bench_{rows} AS SELECT n AS sku, 'https://img.example.com/' || md5(n::text) || '.jpg' "
                f"AS url, 'title of item ' || n AS title, {kept} FROM generate_series(1, {rows}) AS n"
            )
        for way in WAYS:
            command = [sys.executable, __file__, "--one", way, str(rows), uri]
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
            found = json.loads(done.stdout)
            print(
                f"| {rows:,} | {way} | {found['seconds']:.2f} | {found['rows'] / found['seconds']:,.0f} | "
                f"{found['grew'] / 1e6:.0f} |",
                flush=True,
            )


def measure(way: str, rows: int, uri: str) -> dict[str, float]:
    from aistudio.config import parse_config
    from aistudio.runs.manifest_sql import read_sql
    from aistudio.runs.snapshot import NormaliseGroup, find_manifest

    query = f"SELECT * FROM bench_{rows} ORDER BY sku"
    columns = {"item_id": "sku", "image_url": "url", "text": "title"}
    with tempfile.TemporaryDirectory(prefix="aistudio-sql-") as folder:
        config = parse_config(
            {
                "manifest": {"path": uri, "format": "sql", "query": query, "columns": columns},
                "output": f"{folder}/run",
                "models": {"recall": "siglip"},
            },
            "benchmark",
        )
        files, found = find_manifest(config)
        first = read_sql(config.manifest, found)
        next(first)
        first.close()
        before, started, num = _peak(), time.monotonic(), 0
        if way == "stream":
            num = sum(batch.candidates.num_rows for batch in read_sql(config.manifest, found))
        elif way == "snapshot":
            task = NormaliseGroup(config.model_dump(mode="json"), files, found, False, 4)
            answer = task({"group": [0], "first": [0], "last": [1]})
            num = sum(shard[1] for shard in json.loads(answer["shards"][0]))
        else:
            import adbc_driver_postgresql.dbapi as postgresql

            with postgresql.connect(uri) as connection, connection.cursor() as cursor:
                cursor.execute(query)
                num = cursor.fetch_arrow_table().num_rows
        seconds = time.monotonic() - started
    if num != rows:
        raise SystemExit(f"{way}: {num} rows came, of {rows}")
    return {"rows": num, "seconds": seconds, "grew": _peak() - before}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
