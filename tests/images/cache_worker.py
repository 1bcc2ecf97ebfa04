"""A process of its own that fetches pictures by a byte cache: python -m tests.images.cache_worker PLACE PORT SEED."""

import hashlib
import json
import random
import sys

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images.download import Downloader

NUM = 60  # pictures, asked for four times as often, in an order of the process's own


def main(place: str, port: str, seed: str) -> None:
    order = random.Random(int(seed)).choices(range(NUM), k=4 * NUM)
    urls = [f"http://127.0.0.1:{port}/p/{i}.jpg" for i in order]
    settings = DownloadSettings(
        cache=place, cache_max_bytes=1_000_000, cache_max_age_s=None, allow_private_addresses=True, concurrency=8
    )
    with Downloader(settings, StoreSettings()) as downloader:
        found = dict(downloader.stream([(url, None) for url in urls]))
        sums = {url: hashlib.sha256(found[i].body or b"").hexdigest() for i, url in enumerate(urls)}
        print(json.dumps([len(found), sums, [f.cache for f in found.values()], downloader.cache_problem]))


if __name__ == "__main__":
    main(*sys.argv[1:])
