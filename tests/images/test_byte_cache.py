"""download.cache: requests that it saves, damage, limits, full disks, and several processes at once."""

import hashlib
import json
import os
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images import _cache_folder, byte_cache
from aistudio.images._cache_bucket import BucketPlace
from aistudio.images._cache_folder import FolderPlace
from aistudio.images.byte_cache import ByteCache, Kept, name_of
from aistudio.images.download import Downloader
from aistudio.images.urls import parse_target
from aistudio.schema import Status
from tests.image_server import ImageServer, draw_jpeg
from tests.s3_server import S3Server

STORE = StoreSettings(retries=0, timeout_s=2)
DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def settings(place, **changes) -> DownloadSettings:
    base = {"cache": str(place), "cache_max_age_s": None, "allow_private_addresses": True, "retries": 0, "timeout_s": 5}
    return DownloadSettings.model_validate(base | changes)


def fetch(place, *urls, anew=False, store=STORE, known=None, **changes):
    """Fetch with a downloader of its own, as a process of its own would; outcomes in the order of `urls`."""
    with Downloader(settings(place, **changes), store, anew=anew) as downloader:
        found = dict(downloader.stream([u if isinstance(u, tuple) else (u, None) for u in urls], known))
        fetch.problem = downloader.cache_problem
    return [found[i] for i in range(len(urls))]


def files(place, folder=""):
    return sorted(p for p in (Path(place) / folder).rglob("*") if p.is_file() and p.parent != Path(place))


def test_the_second_time_nothing_is_asked_and_the_outcome_is_the_same(image_server, tmp_path):
    image_server.add("a.jpg", draw_jpeg(1), headers=f'ETag: "v1"\r\nLast-Modified: {DATE}\r\n')
    url = image_server.url
    urls = [url("a.jpg"), url("redirect/b.jpg"), (url("404/c.jpg"), url("d.jpg"))]
    first = fetch(tmp_path, *urls)
    hits = sum(image_server.hits.values())
    second = fetch(tmp_path, *urls)
    assert [f.cache for f in first] == ["miss"] * 3 and [f.cache for f in second] == ["hit"] * 3
    for a, b in zip(first, second, strict=True):
        assert (a.body, a.http_status, a.final_url, a.num_bytes) == (b.body, b.http_status, b.final_url, b.num_bytes)
        assert (a.etag, a.last_modified) == (b.etag, b.last_modified)
    assert sum(image_server.hits.values()) == hits + 1  # the 404, which is not kept
    assert first[0].etag == '"v1"' and second[2].instead_of.status == Status.HTTP_ERROR
    assert [f.cache for f in fetch(tmp_path, urls[0], anew=True)] == ["miss"]


class News(ImageServer):
    """Answers 304 to whoever knows the present version."""

    version = 1

    async def _answer(self, path, head, writer):
        if f'If-None-Match: "v{self.version}"' in head:
            writer.write(f'HTTP/1.1 304 Not Modified\r\nETag: "v{self.version}"\r\n\r\n'.encode())
        else:
            self._send(writer, draw_jpeg(self.version), headers=f'ETag: "v{self.version}"\r\n' * ("plain" not in path))
        return True


def test_what_is_older_is_asked_for_news_alone(tmp_path):
    with News() as server:
        url, plain = server.url("a.jpg"), server.url("plain.jpg")
        found = [fetch(tmp_path, url, plain, cache_max_age_s=0) for _ in range(2)]
        assert [f.cache for f in found[0]] == ["miss", "miss"] and [f.cache for f in found[1]] == ["same", "miss"]
        assert found[1][0].body == draw_jpeg(1) and found[1][0].http_status == 200
        server.version = 2
        again = fetch(tmp_path, url, cache_max_age_s=0)[0]
        assert again.cache == "miss" and again.body == draw_jpeg(2) and again.etag == '"v2"'
        assert fetch(tmp_path, url, cache_max_age_s=3600)[0].cache == "hit"
        note = next(p.read_bytes() for p in files(tmp_path, "addresses") if b"v2" in p.read_bytes())
        note = json.loads(note.partition(b"\n")[2])
        assert abs(note["fetched_at"] - time.time()) < 60


def test_a_question_of_the_callers_own_goes_to_the_server(tmp_path):
    from aistudio.images.validators import Validators

    with News() as server:
        url = server.url("a.jpg")
        fetch(tmp_path, url)
        found = fetch(tmp_path, url, known={0: Validators('"v1"')})[0]
        assert found.not_modified and found.body is None and server.hits["/a.jpg"] == 2
        server.version = 2
        assert fetch(tmp_path, url, known={0: Validators('"v1"')})[0].cache == "miss"
        assert fetch(tmp_path, url)[0].body == draw_jpeg(2)  # it was kept


def test_names_hold_no_address_and_no_secret(image_server, tmp_path):
    url = image_server.url("ok/secret-name.jpg?X-Amz-Signature=abcdef0123&token=hush")
    redirected = image_server.add_raw(
        "r.jpg", f"HTTP/1.1 302 x\r\nLocation: {url}\r\nContent-Length: 0\r\n\r\n".encode()
    )
    assert [f.cache for f in fetch(tmp_path, url, redirected)] == ["miss", "miss"]
    assert len(files(tmp_path, "pictures")) == 1 and len(files(tmp_path, "addresses")) == 2  # equal bytes once
    for path in files(tmp_path):
        text = str(path.relative_to(tmp_path)).encode() + (path.read_bytes() if path.suffix == ".json" else b"")
        assert b"hush" not in text and b"abcdef0123" not in text
    assert all(b"secret-name" not in str(p).encode() for p in files(tmp_path))


def test_what_an_address_gives_depends_on_fields_and_on_what_may_be_asked(tmp_path):
    target = parse_target("http://img.example/a.jpg")
    names = {
        name_of(target, settings(tmp_path)),
        name_of(target, settings(tmp_path, allow_private_addresses=False)),
        name_of(target, settings(tmp_path, headers={"Accept": "image/webp"})),
        name_of(target, settings(tmp_path, user_agent="other")),
        name_of(parse_target("s3://b/a.jpg"), settings(tmp_path)),
    }
    assert len(names) == 5 and name_of(parse_target("/tmp/a.jpg"), settings(tmp_path)) is None
    assert name_of(target, settings(tmp_path, timeout_s=9, cache_max_bytes=2_000_000)) in names


def test_a_run_that_refuses_private_addresses_gets_nothing_that_came_from_one(image_server, tmp_path):
    url = image_server.url("a.jpg")
    fetch(tmp_path, url)
    refused = fetch(tmp_path, url, allow_private_addresses=False)[0]
    assert refused.status == Status.BLOCKED_ADDRESS and refused.body is None


def test_a_smaller_limit_of_bytes_holds_for_what_is_kept_too(image_server, tmp_path):
    url = image_server.url("a.jpg")
    size = fetch(tmp_path, url)[0].num_bytes
    assert fetch(tmp_path, url, max_bytes=size)[0].cache == "hit"
    assert fetch(tmp_path, url, max_bytes=size - 1)[0].status == Status.TOO_LARGE


@pytest.mark.parametrize("kind", ["html", "empty", "garbage"])
def test_what_is_no_picture_is_not_kept(kind, image_server, tmp_path):
    fetch(tmp_path, image_server.url(f"{kind}/a.jpg"))
    assert not files(tmp_path)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-5])


def _flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)


@pytest.mark.parametrize("folder", ["pictures", "addresses"])
@pytest.mark.parametrize(
    "damage",
    [
        _cut, _flip, lambda p: p.write_bytes(b""), lambda p: p.unlink(), lambda p: p.write_bytes(b"[" * 100_000),
        lambda p: p.write_bytes(json.dumps({"version": 1, "sha256": "../../x", "size": 1, "fetched_at": 0}).encode()),
    ],
)  # fmt: skip
def test_damage_is_a_miss_and_is_mended(folder, damage, image_server, tmp_path):
    url = image_server.url("a.jpg")
    want = fetch(tmp_path, url)[0].body
    [path] = files(tmp_path, folder)
    damage(path)
    found = fetch(tmp_path, url)[0]
    assert found.cache == "miss" and found.body == want and found.http_status == 200
    again = fetch(tmp_path, url)[0]
    assert again.cache == "hit" and again.body == want and fetch.problem is None


def picture(seed, size=3000):
    body = draw_jpeg(seed)
    return Kept(body + bytes(max(0, size - len(body))), 200, None, None, None, time.time())


def on_disk(place):
    return sum(_cache_folder._on_disk(p.stat().st_size) for p in files(place))


def test_the_limit_holds_and_what_was_asked_for_last_stays(tmp_path):
    limit = 1_000_000
    cache = ByteCache(settings(tmp_path, cache_max_bytes=limit), STORE)
    favourite, most = name_of(parse_target("http://x/0"), settings(tmp_path)), 0
    for i in range(300):
        cache.keep(name_of(parse_target(f"http://x/{i}"), settings(tmp_path)), picture(i, 20_000))
        if i % 10 == 0:
            time.sleep(0.002)  # file times are not finer than that everywhere
            assert cache.find(favourite, 10**9) is not None
            most = max(most, on_disk(tmp_path))
    assert limit / 2 < most <= limit and cache.problem is None
    last = name_of(parse_target("http://x/299"), settings(tmp_path))
    assert cache.find(last, 10**9) is not None
    assert cache.find(name_of(parse_target("http://x/1"), settings(tmp_path)), 10**9) is None
    assert cache.keep("ab" * 32, picture(1, limit // 16 + 1)) and cache.find("ab" * 32, 10**9) is None  # too large


def test_files_of_processes_that_died_go_and_the_sum_is_counted_anew(tmp_path):
    place = FolderPlace(str(tmp_path), 1_000_000)
    place.write("pictures/ab/one", b"x")
    left = tmp_path / "pictures/ab/.one.tmp"
    left.write_bytes(bytes(50_000))
    os.utime(left, (1, 1))
    (tmp_path / "usage").write_text("nonsense")
    place.write("pictures/ab/two", bytes(5000))
    assert not left.exists() and int((tmp_path / "usage").read_text()) == on_disk(tmp_path) == 3 * 4096


def test_two_processes_at_once_with_a_cache_that_is_too_small(image_server, tmp_path):
    bodies = {f"/p/{i}.jpg": draw_jpeg(i) + bytes(20_000) for i in range(60)}
    for path, body in bodies.items():
        image_server.add(path, body)
    command = [sys.executable, "-m", "tests.images.cache_worker", str(tmp_path), str(image_server.port)]
    workers = [subprocess.Popen([*command, seed], stdout=subprocess.PIPE, text=True) for seed in ("0", "4")]
    found = [json.loads(worker.communicate(timeout=90)[0]) for worker in workers]
    all_of = {image_server.url(path): hashlib.sha256(body).hexdigest() for path, body in bodies.items()}
    for number, sums, how, problem in found:
        assert number == 240 and sums.items() <= all_of.items() and problem is None
        assert set(how) <= {"hit", "miss"} and how.count("hit") > 0
    assert on_disk(tmp_path) <= 1_000_000 and not [p for p in files(tmp_path) if p.name.startswith(".")]
    assert sum(image_server.hits.values()) == sum(how.count("miss") for _, _, how, _ in found) < 480
    for path in files(tmp_path, "pictures"):
        assert hashlib.sha256(path.read_bytes()).hexdigest() == path.name


def test_a_folder_that_cannot_be_written_costs_a_warning_alone(image_server, tmp_path):
    place = tmp_path / "file"
    place.write_text("in the way")
    found = fetch(place, *(image_server.url(f"{i}.jpg") for i in range(5)))
    assert [f.status for f in found] == [Status.OK] * 5 and [f.cache for f in found] == ["failed"] * 5
    assert "Not a directory" in fetch.problem


def test_a_full_disk_costs_a_warning_alone_and_leaves_no_half_file(image_server, tmp_path, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    found = fetch(tmp_path, image_server.url("a.jpg"))[0]
    assert found.status == Status.OK and found.cache == "failed" and "No space left" in fetch.problem
    assert not files(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_may_only_be_read_is_read(image_server, tmp_path):
    url = image_server.url("a.jpg")
    fetch(tmp_path, url)
    for path in [tmp_path, *tmp_path.rglob("*")]:
        path.chmod(path.stat().st_mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    try:
        others = [image_server.url(f"{i}.jpg") for i in range(9)]
        assert {f.cache for f in fetch(tmp_path, *others)} == {"failed"}
        assert fetch(tmp_path, url)[0].cache == "hit"
    finally:
        for path in [tmp_path, *tmp_path.rglob("*")]:
            path.chmod(0o700)


def test_after_failures_in_a_row_writing_rests_and_reading_goes_on(tmp_path, monkeypatch):
    cache = ByteCache(settings(tmp_path), STORE)
    assert cache.keep("ab" * 32, picture(1))
    calls = []

    def fail(key, data):
        calls.append(key)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(cache._place, "write", fail)
    assert not any(cache.keep(f"{i:064x}", picture(i)) for i in range(2, 9))
    assert len(calls) == byte_cache._FAILURES and cache.find("ab" * 32, 10**9) is not None
    later = time.monotonic() + 100
    monkeypatch.setattr(byte_cache.time, "monotonic", lambda: later)
    assert not cache.keep("cd" * 32, picture(9)) and len(calls) == byte_cache._FAILURES + 1


def test_many_threads_share_one_cache(tmp_path):
    cache = ByteCache(settings(tmp_path, cache_max_bytes=1_000_000), STORE)
    wrong = []

    def work(seed):
        for i in range(60):
            name = f"{(i * (seed + 3)) % 40:064x}"
            found = cache.find(name, 10**9)
            if found is None:
                cache.keep(name, picture(int(name, 16), 30_000))
            elif found.body[:600] != picture(int(name, 16)).body[:600]:
                wrong.append(name)

    threads = [threading.Thread(target=work, args=(s,)) for s in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not wrong and cache.problem is None and on_disk(tmp_path) <= 1_000_000


@pytest.fixture
def bucket(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with S3Server() as server:
        yield server, StoreSettings(endpoint_url=server.url, retries=0, timeout_s=2)


def test_a_cache_in_a_bucket(bucket, image_server):
    server, store = bucket
    url = image_server.url("a.jpg")
    assert [fetch("s3://bucket/cache", url, store=store)[0].cache for _ in range(2)] == ["miss", "hit"]
    assert image_server.hits["/a.jpg"] == 1 and fetch.problem is None
    server.close()
    found = fetch("s3://bucket/cache", url, store=store)[0]
    assert found.status == Status.OK and found.cache == "failed" and fetch.problem


def test_a_bucket_is_kept_within_its_limit(bucket):
    _, store = bucket
    place = BucketPlace("s3://bucket/cache", store, 1_000_000)
    for i in range(120):
        place.write(f"pictures/{i % 100:02d}/{hashlib.sha256(str(i).encode()).hexdigest()}", bytes(10_000))
    place.make_room()
    entries = place._store.list("")
    assert 500_000 < sum(e.size for e in entries) <= 1_000_000
    assert place.has(entries[0].key, 10_000) and not place.has("pictures/no", 1) and place.read("pictures/no") is None


@pytest.mark.parametrize("place", ["cache", "./x", "ftp://x/y", ""])
def test_a_place_that_another_process_would_not_find_is_refused(place):
    with pytest.raises(ValueError, match="cache"):
        DownloadSettings(cache=place)


def test_off_by_default_and_no_part_of_a_run():
    assert DownloadSettings().cache is None
    assert DownloadSettings(cache="~/pictures").cache == "~/pictures"
    assert DownloadSettings(cache="s3://b/c").cache == "s3://b/c"
