"""The same photographs in every form that a manifest may have: each source is what `make_config` needs for it."""

import csv
import io
import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.archives import tar_of, zip_of
from tests.image_server import draw_jpeg

MAX_BYTES = 40_000
BROKEN = {  # name -> status, of rows that are there and fail
    "cut": "truncated_image", "page": "not_an_image", "noise": "not_an_image", "none": "empty",
    "large": "too_large", "wide": "image_too_large", "svg": "unsupported_image",
}  # fmt: skip


class Source(NamedTuple):
    """Settings of a job that reads the photographs, and how many lines of its manifest are rejected."""

    manifest: dict[str, Any]
    rejected: int
    more_failed: int = 0  # rows that fail in this form alone
    store: Mapping[str, Any] = MappingProxyType({})  # section `store` that reaches it


def photographs(num: int) -> dict[str, bytes]:
    """Good ones by name, then the broken ones of BROKEN."""
    found = {f"photo{i:03d}": draw_jpeg(i, (40 + i, 30)) for i in range(num)}
    return found | broken(found["photo000"])


def broken(photo: bytes) -> dict[str, bytes]:
    wide = io.BytesIO()
    Image.new("L", (4000, 3000)).save(wide, "PNG")
    return {
        "cut": photo[: len(photo) // 2], "page": b"<!doctype html><html><body>gone</body></html>",
        "noise": random.Random(1).randbytes(500), "none": b"", "large": photo + b"\0" * MAX_BYTES,
        "wide": wide.getvalue(), "svg": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'></svg>",
    }  # fmt: skip


def text_of(name: str) -> str:
    return f"{name[0]} {name[-1]}"


def folder(place: Path, photos: dict[str, bytes]) -> Source:
    place.mkdir()
    for name, body in photos.items():
        (place / f"{name}.jpg").write_bytes(body)
    return Source({"path": str(place), "format": "folder"}, 0)


def csv_file(place: Path, addresses: dict[str, str]) -> Source:
    """Ten broken lines of its own: without an address, without an item."""
    with place.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["item_id", "image_url", "text"])
        writer.writerows([name, url, text_of(name)] for name, url in addresses.items())
        writer.writerows([f"bad{i}", "", ""] if i % 2 else ["", f"http://h/{i}.jpg", ""] for i in range(10))
    return Source({"path": str(place), "format": "csv"}, 10)


def hub_parquet(place: Path, photos: dict[str, bytes]) -> Source:
    pq.write_table(hub_table(photos), place, row_group_size=16)
    return Source({"path": str(place), "format": "parquet"}, 0, 10)


def hub_table(photos: dict[str, bytes]) -> pa.Table:
    """With Hugging Face's structs; ten rows without a picture."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": body, "path": f"{name}.jpg"} for name, body in photos.items()]
    bad = [{"bytes": None, "path": None}] * 10
    return pa.table({
        "image": pa.array(images + bad, kind), "item_id": [*photos, *(f"bad{i}" for i in range(10))],
        "text": [*map(text_of, photos), *[""] * 10],
    })  # fmt: skip


def lance_set(place: Path, photos: dict[str, bytes]) -> Source:
    import lance

    lance.write_dataset(hub_table(photos), str(place), max_rows_per_file=25)
    return Source({"path": str(place), "format": "lance"}, 0, 10)


def bytes_table(photos: dict[str, bytes]) -> pa.Table:
    """For a database: the pictures themselves, and ten rows without one."""
    table = hub_table(photos)
    return table.set_column(0, "image_url", pa.array([*photos.values(), *[None] * 10], pa.binary()))


def members(photos: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Each photograph with its text; ten broken samples: no picture, climbing names, a name twice, bad JSON."""
    found = [m for n, b in photos.items() for m in ((f"{n}.jpg", b), (f"{n}.txt", text_of(n).encode()))]
    first = next(iter(photos.values()))
    bad = [(f"lonely{i}.txt", b"x") for i in range(4)] + [(f"../../up{i}.jpg", first) for i in range(3)]
    bad += [("twice.jpg", first), ("twice.jpg", first), ("json.jpg", first), ("json.json", b"{")]
    return found + bad + [("latin.jpg", first), ("latin.txt", b"\xe9")]


def webdataset_tar(place: Path, photos: dict[str, bytes]) -> Source:
    place.write_bytes(tar_of(members(photos)))
    return Source({"path": str(place), "format": "webdataset"}, 10)


def zip_file(place: Path, photos: dict[str, bytes]) -> Source:
    place.write_bytes(zip_of(members(photos)))
    return Source({"path": str(place), "format": "zip", "columns": {"item_id": "key"}}, 10)


def table_of(addresses: dict[str, str]) -> pa.Table:
    names = [*addresses, *(f"bad{i}" for i in range(10))]
    return pa.table({
        "item_id": names, "image_url": [*addresses.values(), *[None] * 10],
        "text": [*map(text_of, addresses), *[""] * 10],
    })  # fmt: skip
