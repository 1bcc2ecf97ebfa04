"""Minutes of malformed requests against the search server: no 5xx, the process lives, its memory stays flat.

    python benchmarks/serve_fuzz.py --minutes 10                  # the demo's run where it is there, else a small one
    python benchmarks/serve_fuzz.py --minutes 10 --run R --seed 7

Four kinds in turn, all drawn from the seed: cases that schemathesis makes from the OpenAPI page, right and wrong ones;
questions with odd values; damaged pictures; and bytes over a socket that are hardly HTTP: flipped, cut, repeated, with
lengths that lie. The server is a process of its own (`serve`), which fetches no addresses here. Memory is that of all
its processes, from a third of the time on. Prints one table; exits 1 on a 5xx, a death, or growth beyond the limit.
"""

import argparse
import json
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import schemathesis
from fuzz_images import mutate, seeds
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
DEMO = ROOT / "reports/demo/sights"
AT_ONCE = 40  # requests of one kind, before the next one's turn
ODD = [
    None, True, -1, 0, 2**31, 2**63, 10**400, 0.1, 1e308, "", " ", "\x00", "\ud800", "ß" * 3_000, "../../run.json", "0",
    "=1+1", "<script>", [], {}, [[]], {"min": 1}, {"min": "x"}, ["a", 1], [0.0] * 16, [1e39] * 16, {"": {}},
]  # fmt: skip
FIELDS: dict[str, type | tuple[type, ...]] = {
    "index": str, "text": str, "row_id": str, "item_id": str, "photo": str, "image_url": str, "vector": list,
    "text_weight": float, "picture_weight": float, "where": dict, "per": str, "leave_out": list, "diversify": dict,
    "top_n": int, "offset": int, "columns": list, "surprise": str,
}  # fmt: skip


class Campaign:
    """Sends requests and counts their answers by kind; `broken` has what was answered with a 5xx."""

    def __init__(self, base: str, number: int) -> None:
        self.base, self.rng = base, random.Random(number)
        self.client = httpx.Client(base_url=base, timeout=60)
        self.counts: Counter[tuple[str, str]] = Counter()
        self.broken: list[str] = []
        self.pictures = seeds()
        schema = schemathesis.openapi.from_url(f"{base}/openapi.json")
        self.operations = [result.ok() for result in schema.get_all_operations()]

    def note(self, kind: str, status: int | None, what: object) -> None:
        self.counts[kind, "no answer" if status is None else f"{status // 100}xx"] += 1
        if status is not None and status >= 500:
            self.broken.append(f"{kind}: {status}: {what!r:.500}")

    def from_the_openapi_page(self) -> None:
        operation = self.rng.choice(self.operations)
        modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
        cases = st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in modes))

        @seed(self.rng.randrange(2**32))
        @settings(
            max_examples=AT_ONCE, deadline=None, database=None, suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )  # fmt: skip
        @given(case=cases)
        def ask(case):
            try:
                status = case.call(timeout=60).status_code
            except OSError:  # requests' errors are such
                status = None
            self.note("openapi", status, (case.method, case.path, case.query, case.body))

        with suppress(Unsatisfiable):  # of some operations no wrong request can be made
            ask()

    def odd_questions(self) -> None:
        for _ in range(AT_ONCE):
            question = {"text": "tower"} if self.rng.random() < 0.5 else {"row_id": "1"}
            for _ in range(self.rng.randint(1, 3)):
                field = self.rng.choice(list(FIELDS))
                right_type = [one for one in ODD if isinstance(one, FIELDS[field])]
                question[field] = self.rng.choice(right_type if self.rng.random() < 0.7 else ODD)
            if self.rng.random() < 0.2:
                question["where"] = {self.rng.choice(["category", "price", "nope", ""]): self.rng.choice(ODD)}
            self.ask("odd question", "/v1/search", json.dumps(question).encode(), "application/json")

    def damaged_pictures(self) -> None:
        for _ in range(AT_ONCE // 4):
            kind, body = mutate(self.rng, self.pictures)
            self.ask(f"damaged {kind}", "/v1/photos", body, "application/octet-stream")

    def ask(self, kind: str, path: str, body: bytes, content: str) -> None:
        status = None
        with suppress(httpx.HTTPError):
            status = self.client.post(path, content=body, headers={"content-type": content}).status_code
        self.note(kind.split()[0], status, (path, body))

    def hardly_http(self) -> None:
        for _ in range(AT_ONCE):
            sent = spoilt(self.rng)
            self.note("socket", raw(self.base, sent), sent)

    def run(self, minutes: float, look) -> None:
        end, kinds = time.monotonic() + 60 * minutes, 0
        turns = [self.from_the_openapi_page, self.odd_questions, self.damaged_pictures, self.hardly_http]
        while time.monotonic() < end:
            turns[kinds % len(turns)]()
            kinds += 1
            look(1 - (end - time.monotonic()) / (60 * minutes))


def spoilt(rng: random.Random) -> bytes:
    """A request's bytes, damaged."""
    body = b'{"text": "tower", "top_n": 3}'
    length = rng.choice([len(body)] * 3 + [0, 5, 10**12, -1])
    path = rng.choice(
        ["/v1/search", "/", "/?text=a", "/v1/photos", "/%00", "/" + "a" * 9_000, "*", "http://x/", "//", "/\xff"]
    )
    verb = rng.choice(["POST", "GET", "PUT", "TRACE", "CONNECT", "\x00", "POST" * 500])
    lines = [
        f"{verb} {path} HTTP/{rng.choice(['1.1', '1.0', '9.9', '2'])}",
        "Host: 127.0.0.1",
        f"Content-Length: {length}",
    ]
    if rng.random() < 0.3:
        lines.append(
            rng.choice(
                ["Transfer-Encoding: chunked", "Expect: 100-continue", "Upgrade: websocket", "Cookie: " + "=;" * 900]
            )
        )
    if rng.random() < 0.2:
        lines += [f"X-{n}: {'v' * rng.randrange(300)}" for n in range(rng.choice([1, 50, 300]))]
    sent = bytearray("\r\n".join([*lines, "Content-Type: application/json", "", ""]).encode("latin-1") + body)
    for _ in range(rng.choice([0, 0, 1, 3, 30])):
        sent[rng.randrange(len(sent))] = rng.randrange(256)
    if rng.random() < 0.2:
        sent = sent[: rng.randrange(len(sent))]
    return bytes(sent * rng.choice([1, 1, 1, 2, 20]))


def raw(base: str, sent: bytes) -> int | None:
    """Send bytes, say that no more come, and return the first answer's status, None where there is none."""
    host, _, port = base.removeprefix("http://").partition(":")
    with suppress(OSError), socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        found = re.match(rb"HTTP/1\.\d (\d{3})", connection.recv(200))
        return int(found[1]) if found else None
    return None


def small_run(folder: Path) -> str:
    """A run of a few pictures with hostile texts, on the demo's recall model."""
    from aistudio.config import parse_config
    from tests.serving.served import make_run

    def make(manifest, format, ranking=None, columns=None, output="", models=None):
        data = {
            "manifest": {"path": str(manifest), "format": format, "columns": columns}, "output": output,
            "models": {"recall": "conf/models/demo_recall.yaml"},
        }  # fmt: skip
        return parse_config(data, "serve_fuzz")

    return make_run(folder, {"recall": None}, make).root


def memory_mb(process: psutil.Process) -> float:
    """Resident memory of a process and its children."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            total += one.memory_info().rss
    return total / 2**20


def started(run: str) -> tuple[subprocess.Popen, str]:
    argv = [sys.executable, "-m", "jobs.serve", "--run", run, "--port", "0"]
    for one in ("serve.fetch_addresses=false", "serve.photos_kept=20", "serve.body_timeout_s=5"):
        argv += ["--set", one]
    job = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    watch = threading.Timer(600, job.kill)
    watch.start()
    told = []
    for line in job.stdout:
        told.append(line)
        if found := re.search(r"search page: (http://127\.0\.0\.1:\d+)/", line):
            watch.cancel()
            return job, found[1]
    watch.cancel()
    raise SystemExit("the server did not start:\n" + "".join(told))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--run", help="a stored run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--max-growth-mb", type=float, default=64.0, help="of memory, from a third of the time on")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = args.run or (str(DEMO) if (DEMO / "run.json").is_file() else small_run(Path(folder)))
        job, base = started(run)
        complaints: list[str] = []
        reader = threading.Thread(
            target=lambda: complaints.extend(line for line in job.stdout if not line.startswith("{")), daemon=True
        )
        reader.start()
        try:
            return campaign(args, job, base, complaints)
        finally:
            job.kill()
            job.wait(30)


def campaign(args: argparse.Namespace, job: subprocess.Popen, base: str, complaints: list[str]) -> int:
    process, seen = psutil.Process(job.pid), []

    def look(share: float) -> None:
        if job.poll() is not None:
            raise SystemExit(f"the server died with {job.returncode}:\n{''.join(complaints[-20:])}")
        seen.append((share, memory_mb(process)))

    work = Campaign(base, args.seed)
    work.run(args.minutes, look)
    lives = httpx.get(f"{base}/live", timeout=60).status_code == 200
    asked = httpx.post(f"{base}/v1/search", json={"top_n": 1, "vector": None, "text": "tower"}, timeout=60).status_code
    job.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):  # then `ended with None`
        job.wait(120)
    ended = job.returncode
    columns = sorted({status for _, status in work.counts})
    print(f"| kind | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for kind in sorted({kind for kind, _ in work.counts}):
        print(f"| {kind} | {' | '.join(str(work.counts[kind, status]) for status in columns)} |")
    settled = [mb for share, mb in seen if share >= 1 / 3] or [0.0]
    growth = max(settled) - settled[0]
    print(
        f"\n{sum(work.counts.values()):,} requests in {args.minutes:g} min; memory {seen[0][1]:,.0f} MB at first, "
        f"{settled[0]:,.0f} after a third, at most {max(settled):,.0f} later; /live "
        f"{'answers' if lives else 'is silent'}, a search {asked}, ended with {ended}; {len(work.broken)} answers "
        "were 5xx"
    )
    for line in [*dict.fromkeys(work.broken)][:20] + [one.rstrip() for one in [*dict.fromkeys(complaints)][:10]]:
        print(line)
    return 0 if lives and asked < 500 and ended == 0 and not work.broken and growth <= args.max_growth_mb else 1


if __name__ == "__main__":
    sys.exit(main())
