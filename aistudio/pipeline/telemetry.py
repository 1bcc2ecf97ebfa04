"""A run seen from outside: Prometheus metrics through Ray's own exporter, and log lines that a machine can read.

The metrics live in the run's coordinator, which hears of every finished shard; a node's exporter (`ray start
--metrics-export-port`) hands them to Prometheus as ray_aistudio_*, and deploy/grafana/aistudio.json draws them. The
driver writes the log lines to standard error when AISTUDIO_LOG=json is set. Nothing here can end a run.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO
from urllib.parse import quote

from ray.util.metrics import Counter, Gauge, Histogram

from aistudio.schema import Status
from aistudio.storable import error_text
from aistudio.store import storable_json

LOG_VARIABLE = "AISTUDIO_LOG"
STAGES = {"wait_s": "wait", "decode_s": "decode", "model_s": "model", "write_s": "write"}
_STATUSES = {s.value for s in Status}
_SHARD_S = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]
_MODEL_MS = [0.1, 0.3, 1, 3, 10, 30, 100, 300]
_LABEL_CHARS = 200  # Ray's exporter takes 256 at most
_LABEL_SAFE = "".join(chr(c) for c in range(0x20, 0x7F) if chr(c) not in '"%')  # printable ASCII


def label(text: str) -> str:
    """Return `text` as the value of a metric's label: printable ASCII, as the exporter wants it.

    Other characters are percent-encoded, as in an address, so that different texts stay different. Of a long text the
    end is kept. The empty text becomes "-".
    """
    safe = quote(text, safe=_LABEL_SAFE, errors="surrogateescape" if _from_bytes(text) else "backslashreplace")
    return (safe if len(safe) <= _LABEL_CHARS else f"...{safe[3 - _LABEL_CHARS :]}") or "-"


def _from_bytes(text: str) -> bool:
    """Whether surrogates in the text are bytes of a file name (PEP 383)."""
    return not any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in text)


class Meters:
    """Prometheus metrics of one run; `run` is their label. Its methods may raise: who calls them goes on without."""

    def __init__(self, run: str) -> None:
        tags = ("run",)
        self._images = Counter("aistudio_images", "Finished rows by status.", tag_keys=("run", "status"))
        self._bytes = Counter("aistudio_downloaded_bytes", "Bytes of images that came in.", tag_keys=tags)
        self._seconds = Counter(
            "aistudio_stage_seconds", "Time of actors and threads by stage.", tag_keys=("run", "stage")
        )
        self._shards = Gauge("aistudio_shards_in_work", "Shards begun and not finished.", tag_keys=tags)
        self._shard_s = Histogram("aistudio_shard_seconds", "Shard from begin to commit.", _SHARD_S, tag_keys=tags)
        self._model_ms = Histogram(
            "aistudio_model_ms_per_image", "Model time per good image, mean of a shard.", _MODEL_MS, tag_keys=tags
        )
        for metric in (self._images, self._bytes, self._seconds, self._shards, self._shard_s, self._model_ms):
            metric.set_default_tags({"run": label(run)})
        self._began: dict[str, float] = {}

    def begin(self, shard: str) -> None:
        """Note that work on a shard begins, perhaps again."""
        self._began.setdefault(shard, time.monotonic())
        self._shards.set(len(self._began))

    def done(self, shard: str, counts: Mapping[str, float]) -> None:
        """A shard's file is stored; `counts`: rows by status, `bytes`, seconds by stage."""
        for name, value in counts.items():
            if value <= 0:
                continue  # Ray refuses to count nothing
            if name in _STATUSES:
                self._images.inc(value, {"status": name})
            elif name == "bytes":
                self._bytes.inc(value)
            elif name in STAGES:
                self._seconds.inc(value, {"stage": STAGES[name]})
        good = counts.get(Status.OK.value, 0)
        if good and counts.get("model_s", 0) > 0:
            self._model_ms.observe(1e3 * counts["model_s"] / good)
        if shard in self._began:
            self._shard_s.observe(max(time.monotonic() - self._began.pop(shard), 1e-3))
        self._shards.set(len(self._began))


def log_event(event: str, **fields: Any) -> None:
    """One JSON object on a line of standard error: `time`, `event` and the fields; silent unless AISTUDIO_LOG=json."""
    if os.environ.get(LOG_VARIABLE) != "json" or sys.stderr is None:
        return
    line = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "event": event, **fields}
    with suppress(Exception):  # a closed, full or ASCII standard error is no reason to stop
        text = json.dumps(storable_json(line), ensure_ascii=not _takes_unicode(sys.stderr), default=error_text)
        print(text, file=sys.stderr, flush=True)


def _takes_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "").lower().replace("-", "") in ("utf8", "utf16", "utf32")
