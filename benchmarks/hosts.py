"""How close a run comes to what an image host allows, and how often the host has to refuse.

A host on 127.0.0.1 answers `--rate` requests a second and `--at-once` at a time with a picture, and 429 beyond; with
`--dead`, ten hosts of which one never answers. `--workers` downloaders ask it, each with its own connections, once with
limits that they agree on (as actors do through the run's coordinator) and once with the fixed limit per worker alone.
"""

import argparse
import asyncio
import threading
import time
from collections import Counter, deque

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images.download import Downloader
from aistudio.images.host_limits import Allotment, HostLimits
from aistudio.schema import Status

BODY = bytes(8_000)


class LimitedHost:
    """Answers so many requests a second and at once; the rest get 429. In a thread of its own."""

    def __init__(self, rate: float, at_once: int, latency_s: float, address: str = "127.0.0.1") -> None:
        self.address, self.rate, self.at_once, self.latency_s = address, rate, at_once, latency_s
        self.answered: deque[float] = deque()
        self.refused = self.busy = self.total = 0
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        threading.Thread(target=self._run, args=(ready,), daemon=True).start()
        ready.wait(10)

    def _run(self, ready: threading.Event) -> None:
        async def main() -> None:
            server = await asyncio.start_server(self._serve, self.address, 0)
            self.port = server.sockets[0].getsockname()[1]
            ready.set()
            await server.serve_forever()

        self._loop.run_until_complete(main())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await self._answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> None:
        now = time.monotonic()
        while self.answered and self.answered[0] <= now - 1:
            self.answered.popleft()
        if len(self.answered) >= self.rate or self.busy >= self.at_once:
            self.refused += 1
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n")
            return
        self.answered.append(now)
        self.busy, self.total = self.busy + 1, self.total + 1
        await asyncio.sleep(self.latency_s)
        self.busy -= 1
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(BODY)}\r\n\r\n".encode() + BODY)


def silent_port() -> int:
    """Return a port that takes connections and never answers."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    _KEPT.append(listener)
    return int(listener.getsockname()[1])


_KEPT: list[object] = []


def fetch_all(urls: list[str], workers: int, agreed: bool) -> tuple[float, Counter[str]]:
    """Seconds and outcomes of all addresses, dealt to the workers."""
    settings = DownloadSettings(allow_private_addresses=True, read_timeout_s=3, timeout_s=5, retries=5)
    limits, lock = HostLimits({}, settings.per_host_concurrency), threading.Lock()
    counts: Counter[str] = Counter()

    def work(number: int) -> None:
        def together(reports):
            with lock:
                return limits.exchange(str(number), reports, time.monotonic())

        def fixed(reports):
            return dict.fromkeys(reports, Allotment(settings.per_host_concurrency))

        with Downloader(settings, StoreSettings(), exchange=together if agreed else fixed) as downloader:
            for _, found in downloader.stream([(url, None) for url in urls[number::workers]]):
                with lock:
                    counts["ok" if found.status is Status.OK else f"{found.status} {found.http_status or ''}"] += 1

    started = time.monotonic()
    threads = [threading.Thread(target=work, args=(n,)) for n in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.monotonic() - started, counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--at-once", type=int, default=40)
    parser.add_argument("--latency-s", type=float, default=0.05)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seconds", type=int, default=60, help="of work at the host's rate")
    parser.add_argument(
        "--dead", action="store_true", help="ten hosts instead, with one that never answers, and without"
    )
    args = parser.parse_args()
    print("| limits | seconds | requests/s | of the allowed | 429 | outcomes |\n|---|---|---|---|---|---|")
    if args.dead:
        for dead in (0, 1):
            hosts = [LimitedHost(args.rate, args.at_once, args.latency_s, f"127.0.0.{i + 2}") for i in range(9)]
            places = [f"{h.address}:{h.port}" for h in hosts] + ([f"127.0.0.1:{silent_port()}"] if dead else [])
            urls = [f"http://{place}/{n}" for n in range(int(args.rate * args.seconds)) for place in places]
            seconds, counts = fetch_all(urls, args.workers, True)
            total, refused = sum(h.total for h in hosts), sum(h.refused for h in hosts)
            print(
                f"| agreed, nine hosts{', one more dead' * dead} | {seconds:.1f} | {total / seconds:.0f} | "
                f"{total / seconds / args.rate / 9:.1%} | {refused / (total + refused):.2%} | {dict(counts)} |"
            )
        return
    for name, agreed in (("agreed", True), ("fixed", False)):
        host = LimitedHost(args.rate, args.at_once, args.latency_s)
        rows = int(args.rate * args.seconds)
        seconds, counts = fetch_all([f"http://127.0.0.1:{host.port}/{n}" for n in range(rows)], args.workers, agreed)
        rate, share = host.total / seconds, host.refused / (host.total + host.refused)
        print(f"| {name} | {seconds:.1f} | {rate:.0f} | {rate / args.rate:.1%} | {share:.2%} | {dict(counts)} |")


if __name__ == "__main__":
    main()
