"""What each status means, what a person can do about it, and how failures are counted and sampled.

The tally is fed one score file at a time and keeps counts and a few samples, never the rows.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from aistudio.schema import Status

# status -> (what happened, what to do). Settings are named as in the conf file.
ADVICE: dict[str, tuple[str, str]] = {
    Status.OK: ("Scored.", ""),
    Status.HTTP_ERROR: (
        "The server answered with an error.",
        "404 and 410: the image is gone, mend the catalogue. 401 and 403: the server wants a login or refuses robots "
        "(`download.headers`, `download.user_agent`). 429 and 5xx: run `retry` later, with a smaller "
        "`download.per_host_concurrency`.",
    ),
    Status.TIMEOUT: (
        "No whole answer within the time limit.",
        "Run `retry`; when one host is slow throughout, lower `download.per_host_concurrency` or raise "
        "`download.timeout_s`.",
    ),
    Status.CONNECTION_ERROR: (
        "Refused, reset or closed early.",
        "Run `retry`; when one host stands out, it is down, blocks this network or wants a proxy.",
    ),
    Status.DNS_ERROR: (
        "The host name does not resolve.",
        "Check the host's spelling in the manifest and the name servers of the machines that ran the job.",
    ),
    Status.TLS_ERROR: (
        "No trusted encrypted connection.",
        "The host's certificate is expired, self-signed or of another name: ask its owner, or map the prefix with "
        "`download.url_map`.",
    ),
    Status.TOO_MANY_REDIRECTS: (
        "The server keeps redirecting.",
        "Usually a login page or a loop: open the URL in a browser and mend the manifest.",
    ),
    Status.TOO_LARGE: ("More bytes than `download.max_bytes`.", "Raise `download.max_bytes` if the file is meant."),
    Status.EMPTY: ("A good answer without a body.", "The stored object is empty: upload the image again."),
    Status.BLOCKED_ADDRESS: (
        "The URL leads to a private or local address.",
        "Set `download.allow_private_addresses` when the image server is inside your own network.",
    ),
    Status.BAD_URL: ("Not a URL, or a scheme that is not allowed.", "Mend the manifest's URL column."),
    Status.NOT_FOUND: ("No such file or object.", "Check the path, the bucket and the manifest's prefix."),
    Status.ACCESS_DENIED: ("The file or object may not be read.", "Give the job's user or role read access."),
    Status.NOT_AN_IMAGE: (
        "The bytes are something else (often an HTML error page).",
        "Open the URL: many servers answer 200 with a page that says the image is gone.",
    ),
    Status.TRUNCATED_IMAGE: ("The image ends early.", "Run `retry`; when it stays, the stored file is damaged."),
    Status.UNSUPPORTED_IMAGE: (
        "An image format that cannot be decoded here.",
        "Convert it (JPEG, PNG and WebP are safe choices).",
    ),
    Status.IMAGE_TOO_LARGE: (
        "More pixels than `images.max_pixels`.",
        "Raise `images.max_pixels` if the size is meant; a decoder bomb looks the same.",
    ),
    Status.MODEL_ERROR: (
        "The model failed on this image.",
        "Read the error below; `retry` runs these rows again.",
    ),
}


def host_of(url: str) -> str:
    """The host a URL names, lower case; "(no host)" for paths and for what is no URL."""
    try:
        return urlsplit(url).hostname or "(no host)"
    except ValueError:
        return "(no host)"


@dataclass
class StatusTally:
    """Failures of one status."""

    rows: int = 0
    hosts: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    samples: list[dict[str, Any]] = field(default_factory=list)


class FailureTally:
    """Counts by status and host with a few samples of each.

    Args:
        samples: rows kept per status; at most a third of them from one host while others come.
        hosts: distinct hosts counted per status; rows of later ones count as "(other hosts)".
    """

    def __init__(self, samples: int = 20, hosts: int = 10_000) -> None:
        self.statuses: dict[str, StatusTally] = {}
        self._samples = samples
        self._hosts = hosts

    def add(self, rows: list[dict[str, Any]]) -> None:
        """Rows (status, image_url, error, http_status, row_id, item_id) whose status is not ok."""
        for row in rows:
            tally = self.statuses.setdefault(row["status"], StatusTally())
            host = host_of(row["image_url"])
            if host not in tally.hosts and len(tally.hosts) >= self._hosts:
                host = "(other hosts)"
            tally.rows += 1
            tally.hosts[host] += 1
            if row.get("http_status"):
                tally.codes[row["http_status"]] += 1
            crowded = tally.hosts[host] > max(1, self._samples // 3) and len(tally.hosts) > 1
            if len(tally.samples) < self._samples and not crowded:
                tally.samples.append(row)

    def groups(self, top_hosts: int = 8) -> list[dict[str, Any]]:
        """One dict per status, most rows first, as the failures page shows it."""
        return [
            {
                "status": status,
                "rows": t.rows,
                "meaning": ADVICE.get(status, ("Unknown status.", ""))[0],
                "advice": ADVICE.get(status, ("", ""))[1],
                "hosts": t.hosts.most_common(top_hosts),
                "other_hosts": len(t.hosts) - min(top_hosts, len(t.hosts)),
                "other_rows": t.rows - sum(n for _, n in t.hosts.most_common(top_hosts)),
                "codes": t.codes.most_common(6),
                "samples": t.samples,
            }
            for status, t in sorted(self.statuses.items(), key=lambda kv: (-kv[1].rows, kv[0]))
        ]
