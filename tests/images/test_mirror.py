"""Downloading and decoding against the stand-in CDN with every fault at once: outcomes equal the prediction."""

import asyncio
import importlib.util
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from aistudio.config import DownloadSettings, ImageSpec, ImagesSettings, StoreSettings
from aistudio.images.decode import decode
from aistudio.images.download import Downloader
from aistudio.schema import Status

EXPECTED = {
    "ok": "ok", "404": "http_error", "403": "http_error", "410": "http_error", "500": "http_error", "503": "http_error",
    "429": "ok", "flaky": "ok", "timeout": "timeout", "stall": "timeout", "slow": "timeout",
    "truncate": "connection_error", "reset": "connection_error", "empty": "empty", "html": "not_an_image",
    "garbage": "not_an_image", "cut_jpeg": "truncated_image", "huge": "too_large", "redirect": "ok",
    "redirect_loop": "too_many_redirects", "gzip_bomb": "too_large", "bad_header": "connection_error",
}  # fmt: skip
SHARES = ",".join(
    f"{fault}={0.02 if fault in ('timeout', 'stall', 'slow') else 0.04}" for fault in EXPECTED if fault != "ok"
)
NUM_URLS = 400
NUM_HOSTS = 20  # side by side: one host of so many faults is asked ever more slowly, and answers time-outs one by one


@pytest.fixture
def mirror(shared_dir: Path) -> Iterator:
    path = shared_dir / "tools/mirror_server.py"
    photos = sorted((shared_dir / "data/clothing/validation").rglob("*.jpg"))[:50]
    if not path.is_file() or not photos:
        pytest.skip(f"{path} or its photographs are not there")
    spec = importlib.util.spec_from_file_location("mirror_server", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    faults = module.parse_faults(SHARES)
    server = module.Mirror([p.read_bytes() for p in photos], faults, 0.0)
    loop, hosts, stop = asyncio.new_event_loop(), [], asyncio.Event()
    ready = threading.Event()

    async def serve() -> None:
        names = [f"127.0.0.{i + 1}" for i in range(NUM_HOSTS)]
        async with await asyncio.start_server(server.handle, names, 0, limit=2**16, backlog=1024) as listening:
            hosts.extend("{}:{}".format(*s.getsockname()) for s in listening.sockets)
            ready.set()
            await stop.wait()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), daemon=True)
    thread.start()
    assert ready.wait(20)
    yield lambda path: module.fault_of(path, faults), hosts
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


def test_outcomes_equal_the_prediction(mirror) -> None:
    fault_of, hosts = mirror
    paths = [f"img.example/imgextra/i{i % 4}/{i}!!0-alitrip.jpg" for i in range(NUM_URLS)]
    urls = [f"https://{i % NUM_HOSTS}.{path}" for i, path in enumerate(paths)]
    settings = DownloadSettings(
        allow_private_addresses=True, timeout_s=3, read_timeout_s=1, retries=2, backoff_s=0.05, max_bytes=5_000_000,
        url_map={f"https://{i}.img.example/": f"http://{host}/img.example/" for i, host in enumerate(hosts)},
    )  # fmt: skip
    got: Counter[tuple[str, str]] = Counter()
    with Downloader(settings, StoreSettings()) as downloader:
        for index, fetched in downloader.stream([(u, None) for u in urls]):
            status, error = fetched.status, fetched.error
            if status is Status.OK:
                decoded = decode(fetched.body or b"", [ImageSpec()], ImagesSettings(thumbnail_px=0))
                status, error = decoded.status, decoded.error
            assert (error is None) == (status is Status.OK)
            got[fault_of(f"/{paths[index]}"), status.value] += 1
    assert set(got) == set(EXPECTED.items())
    assert sum(got.values()) == NUM_URLS
