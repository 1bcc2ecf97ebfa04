"""An output folder as img2dataset 1.47 writes it, in each of its formats: a table and statistics per shard."""

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import webdataset

ROWS_PER_SHARD = 10_000  # what its keys count by


def write_output(folder: Path, bodies: list[list[bytes | str]], output_format: str) -> None:
    """Write shards. A body that is a text is the error of a row that was not fetched."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, rows in enumerate(bodies):
        shard = f"{number:05d}"
        records = [_record(number, i, body) for i, body in enumerate(rows)]
        good = [(record, body) for record, body in zip(records, rows, strict=True) if isinstance(body, bytes)]
        table = pa.Table.from_pylist(records)
        if output_format == "webdataset":
            _tar(folder / f"{shard}.tar", good)
        elif output_format == "files":
            (folder / shard).mkdir()
            for record, body in good:
                (folder / shard / f"{record['key']}.jpg").write_bytes(body)
                (folder / shard / f"{record['key']}.txt").write_text(record["caption"])
                (folder / shard / f"{record['key']}.json").write_text(json.dumps(record))
        elif output_format == "parquet":
            images = [body if isinstance(body, bytes) else None for body in rows]
            table = table.append_column("jpg", pa.array(images, pa.binary()))
        pq.write_table(table, folder / f"{shard}.parquet")
        stats = {"count": len(rows), "successes": len(good), "failed_to_download": len(rows) - len(good)}
        (folder / f"{shard}_stats.json").write_text(json.dumps(stats))


def _record(shard: int, i: int, body: bytes | str) -> dict:
    failed = isinstance(body, str)
    return {
        "url": f"http://h/{shard}/{i}.jpg", "caption": f"picture {i} of {shard}", "key": f"{shard:05d}{i:04d}",
        "status": "failed_to_download" if failed else "success", "error_message": body if failed else None,
        "width": None if failed else 16, "height": None if failed else 16, "sha256": None if failed else "0" * 64,
    }  # fmt: skip


def _tar(path: Path, good: list[tuple[dict, bytes]]) -> None:
    out = io.BytesIO()
    with webdataset.TarWriter(out) as writer:
        for record, body in good:
            writer.write({"__key__": record["key"], "jpg": body, "txt": record["caption"], "json": record})
    path.write_bytes(out.getvalue())
