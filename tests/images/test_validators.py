"""What a server calls a version of a picture, stored and asked again: never anything that could forge a request."""

import random
from datetime import UTC, datetime

import pytest

from aistudio.config import DownloadSettings, StoreSettings
from aistudio.images import validators
from aistudio.images.download import Downloader
from aistudio.images.validators import Validators, entity_tag, http_date
from aistudio.schema import Status

DATE = "Sun, 06 Nov 1994 08:49:37 GMT"
HOSTILE = [
    '"a"\r\nX-Forged: 1', '"a"\nHost: evil', '"a\x00"', '"a"b"', '"a", "b"', "*", "unquoted", '"', "", "W/", '"ü"',
    '"\ud800"', '"' + "x" * 2_000 + '"', 'w/"a"', '"a b"', '"a\t"', " " + '"a"', 7, None, b'"a"',
]  # fmt: skip


@pytest.mark.parametrize("value", ['"33a6"', 'W/"33a6"', '""', '"a,b;c=d/{}~"', '"it\'s"'])
def test_entity_tags_stay_as_they_are(value):
    assert entity_tag(value) == value


@pytest.mark.parametrize("value", HOSTILE)
def test_whatever_is_no_entity_tag_is_none(value):
    assert entity_tag(value) is None
    assert Validators(value, value).questions() == {}


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (DATE, DATE),
        ("Sunday, 06-Nov-94 08:49:37 GMT", DATE),
        ("Sun, 06 Nov 1994 10:49:37 +0200", DATE),
        (datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC), DATE),
        (f"{DATE}\r\nX-Forged: 1", None),
        ("yesterday", None),
        ("", None),
        ("0", None),
        ("Sun, 06 Nov 99999999 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 08:49:37 GMT" + " " * 200, None),
        (7, None),
        (None, None),
    ],
)
def test_dates_are_stored_in_one_form_or_not_at_all(value, stored):
    found = http_date(value)
    assert found == stored or (stored is None and found is not None and "\n" not in found and "\r" not in found)


def test_fields_that_the_user_has_set_are_left_alone():
    known = Validators('"a"', DATE)
    assert known.questions() == {"If-None-Match": '"a"', "If-Modified-Since": DATE}
    assert known.questions({"accept"}) == known.questions()
    assert known.questions({"if-none-match"}) == {} == known.questions({"if-modified-since"})


def fetch(requests, known=None, **changes):
    settings = {"allow_private_addresses": True, "backoff_s": 0.01, "timeout_s": 5, "retries": 0} | changes
    with Downloader(DownloadSettings(**settings), StoreSettings()) as downloader:
        got = dict(downloader.stream(requests, known))
    return [got[i] for i in range(len(requests))]


def test_a_conditional_request_says_that_nothing_changed(image_server):
    url = image_server.add("a.jpg", image_server.image, etag='"v1"', last_modified=DATE)
    [first] = fetch([(url, None)])
    assert (first.etag, first.last_modified, first.not_modified) == ('"v1"', DATE, False)
    [again] = fetch([(url, None)], {0: Validators(first.etag, first.last_modified)})
    assert again.not_modified and again.status is Status.OK and again.body is None
    assert (again.etag, again.last_modified) == ('"v1"', DATE)
    [by_date] = fetch([(url, None)], {0: Validators(None, DATE)})
    assert by_date.not_modified and "If-None-Match" not in image_server.heads["/a.jpg"]


def test_a_changed_picture_comes_with_the_same_answer(image_server):
    url = image_server.add("a.jpg", image_server.image, etag='"v2"')
    [found] = fetch([(url, None)], {0: Validators('"v1"')})
    assert not found.not_modified and found.body == image_server.image and found.etag == '"v2"'
    assert image_server.hits["/a.jpg"] == 1


@pytest.mark.parametrize("etag", [h for h in HOSTILE if isinstance(h, str)])
def test_a_hostile_entity_tag_is_neither_stored_nor_sent(image_server, etag):
    sent = etag.encode("utf-8", "surrogatepass").replace(b"\r\n", b"").replace(b"\n", b"").replace(b"\x00", b"")
    head = b"HTTP/1.1 200 OK\r\nETag: " + sent + b"\r\nContent-Length: %d\r\n\r\n" % len(image_server.image)
    url = image_server.add_raw("odd.jpg", head + image_server.image)
    [found] = fetch([(url, None)])
    assert found.status is not Status.OK or found.etag is None or entity_tag(found.etag) == found.etag
    [found] = fetch([(image_server.url("ok/x.jpg"), None)], {0: Validators(etag, etag)})
    assert found.status is Status.OK and not found.not_modified
    head = image_server.heads["/ok/x.jpg"].lower()
    assert "if-none-match" not in head and "x-forged" not in head and "evil" not in head


def test_only_the_address_that_gave_a_tag_is_asked_about_it(image_server):
    target = image_server.add("there.jpg", image_server.image, etag='"v1"')
    moved = image_server.add("here.jpg", b"", status=302, headers="Location: /there.jpg\r\n", etag='"v1"')
    [found] = fetch([(moved, None)], {0: Validators('"v1"', None, target)})
    assert found.not_modified and found.final_url == target
    assert "If-None-Match" not in image_server.heads["/here.jpg"]
    [found] = fetch([(moved, None)], {0: Validators('"v1"', None, "http://elsewhere.example/x.jpg")})
    assert not found.not_modified and found.body == image_server.image
    # The picture was at the first address then; where it leads to now has a tag of its own.
    image_server.add("here.jpg", b"", status=302, headers="Location: /there.jpg\r\n")
    [found] = fetch([(moved, None)], {0: Validators('"v1"')})
    assert not found.not_modified and found.body == image_server.image


def test_a_fallback_is_asked_about_its_own_tag_alone(image_server):
    gone, good = image_server.url("404/x.jpg"), image_server.add("good.jpg", image_server.image, etag='"v1"')
    [found] = fetch([(gone, good)], {0: Validators('"v1"', None, good)})
    assert found.not_modified and found.final_url == good and found.instead_of is not None
    [found] = fetch([(gone, good)], {0: Validators('"v1"')})  # the tag was image_url's
    assert not found.not_modified and found.body == image_server.image


def test_not_modified_as_an_answer_to_an_ordinary_request_is_an_error(image_server):
    url = image_server.add("odd.jpg", b"", status=304)
    [found] = fetch([(url, None)])
    assert (found.status, found.http_status, found.not_modified) == (Status.HTTP_ERROR, 304, False)


def test_a_date_in_the_form_that_is_sent_comes_out_as_any_other(monkeypatch):
    rng = random.Random(0)
    days, months = ("Mon", "Tue", "Sun", "sun"), ("Jan", "Feb", "Dec", "Xxx")
    years = ("2026", "1994", "0094", "94")
    texts = [
        f"{rng.choice(days)}, {rng.randrange(33):02d} {rng.choice(months)} {rng.choice(years)} "
        f"{rng.randrange(26):02d}:{rng.choice([0, 59, 60]):02d}:{rng.choice([0, 30, 59, 60, 61]):02d} {zone}"
        for zone in rng.choices(["GMT", "GMT", "GMT", "UTC", "+0100", ""], k=2_000)
    ]
    texts += [
        DATE,
        DATE + " ",
        DATE.replace("1", "\u0661"),
        "Sun, 29 Feb 2026 00:00:00 GMT",
        "Thu, 29 Feb 2024 00:00:00 GMT",
    ]
    found = [http_date(text) for text in texts]
    assert any(a == b for a, b in zip(found, texts, strict=True)) and any(found) and None in found
    monkeypatch.setattr(validators, "_is_as_sent", lambda text: False)
    assert found == [http_date(text) for text in texts]
