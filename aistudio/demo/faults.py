"""Rows of the recall manifest that do not simply work, and the status that each must end with.

The files are written here; what the server has to do for a fault, it reads from the address (server.py).
"""

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

BASE_URL = "http://demo.catalogue.invalid/"  # .invalid never resolves (RFC 2606)

# kind -> status a scored row must have
FAULTS: dict[str, str] = {
    "missing": "http_error",
    "cut_jpeg": "truncated_image",
    "html": "not_an_image",
    "garbage": "not_an_image",
    "empty": "empty",
    "redirect": "ok",
    "redirect_loop": "too_many_redirects",
    "slow": "ok",
    "flaky": "ok",
    "typing_error": "bad_url",
}
SERVER_PREFIXES = ("redirect", "redirect_loop", "slow", "flaky")  # first part of the path: the server misbehaves
_PAGE = b"<!DOCTYPE html><html><head><title>Moved</title></head><body><p>This picture has moved.</p></body></html>\n"


@dataclass(frozen=True)
class ManifestRow:
    """One line of the recall manifest; `kind` is empty for a plain picture."""

    item_id: str
    name: str
    image_url: str
    rank: int
    width: int
    height: int
    kind: str = ""

    @property
    def status(self) -> str:
        """The status that a scored row must have."""
        return FAULTS.get(self.kind, "ok")


def write_fault(folder: Path, kind: str, path: str) -> str:
    """Turn the whole picture at `path` into the fault `kind`; returns the address for the manifest."""
    file = folder / path
    if kind in SERVER_PREFIXES:
        return f"{BASE_URL}{kind}/{path}"
    whole = file.read_bytes()
    file.unlink()
    if kind == "typing_error":
        return BASE_URL.replace("http:", "htp:") + path
    bad = Path(path).with_name(f"{kind}.jpg").as_posix()
    jpeg = _as_jpeg(whole)
    bodies = {
        "cut_jpeg": jpeg[: len(jpeg) // 2],
        "html": _PAGE,
        "garbage": bytes((i * 167 + (i >> 3) * 59) % 251 for i in range(4000)),
        "empty": b"",
    }
    if kind in bodies:
        (folder / bad).write_bytes(bodies[kind])
    return BASE_URL + bad


def _as_jpeg(body: bytes) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(body)).convert("RGB").save(out, "JPEG", quality=90)
    return out.getvalue()
