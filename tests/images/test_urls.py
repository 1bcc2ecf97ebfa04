"""urls.py: what is a usable address, what goes over the wire, and what is never shown."""

import random

import pytest

from aistudio.images.urls import BadURL, _parse_any_http_url, map_url, parse_http_url, parse_target
from aistudio.secrets import redact

MAP = {
    "https://img.example/": "http://127.0.0.1:8009/img.example/",
    "https://img.example/local/": "file:///data/mirror/",
    "https://img.example/bucket/": "s3://bucket/prefix/",
}


@pytest.mark.parametrize(
    "path",
    [
        "/imgextra/i3/60/TB2ThcjdOMnBKNjSZFoXXbOSFXa_!!0-alitrip.jpg",
        "/a%2Fb%20c%21.jpg",
        "/a/../b/./c",
        "/x?sign=A%2BB+C/=&&u=http://other/",
        "/it's(1);v=2@x:y,*~[0]|{a}",
        "//double//slash",
        "/%zz-not-an-escape",
    ],
)
def test_valid_paths_go_out_byte_for_byte(path: str) -> None:
    assert parse_http_url("http://h.example" + path).raw_path_qs == path


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("http://h.example", "http://h.example/"),
        ("HTTP://H.Example:8080/X#frag", "http://h.example:8080/X"),
        ("http://h.example/北京.jpg?q=北", "http://h.example/%E5%8C%97%E4%BA%AC.jpg?q=%E5%8C%97"),
        ("http://例え.example/x", "http://xn--r8jz45g.example/x"),
        ("http://[2001:db8::1]:81/x", "http://[2001:db8::1]:81/x"),
        ("http://my_host.example/x", "http://my_host.example/x"),
    ],
)
def test_encoding_is_quiet(text: str, want: str) -> None:
    assert str(parse_http_url(text)) == want


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("http://h.example/a b.jpg", "%20"),
        ("http://h.example/a\x00b", "control character"),
        ("http://h.example/a\r\nHost: evil", "control character"),
        ("javascript:alert(1)", "javascript:"),
        ("data:image/png;base64,AAAA", "data:"),
        ("ftp://h.example/x", "ftp:"),
        ("gopher://h.example/x", "gopher:"),
        ("http:///x.jpg", "no host"),
        ("http://", "no host"),
        ("https:x.jpg", "no host"),
        ("http://h.example:99999/x", "not a valid URL"),
        ("http://h.example:abc/x", "not a valid URL"),
        ("http://[::1/x", "not a valid URL"),
        ("http://a..b/x", "not a valid host name"),
        ("http://ex ample/x", "%20"),
        ("http://h.example/" + "a" * 8200, "longer than"),
        ("file://server/share/x.jpg", "no host"),
        ("s3://bucket", "s3://bucket/key"),
        ("s3:///key", "s3://bucket/key"),
        ("/tmp/a\0b", "NUL"),
        ("https://img.example/local/../../etc/passwd", "climbs out"),
        ("https://img.example/local/%2e%2e/%2e%2e/etc/passwd", "climbs out"),
    ],
)
def test_bad_urls(text: str, reason: str) -> None:
    with pytest.raises(BadURL, match=reason.replace("(", r"\(")):
        parse_target(text, MAP)


def test_longest_prefix_wins() -> None:
    assert map_url("https://img.example/a.jpg", MAP) == "http://127.0.0.1:8009/img.example/a.jpg"
    assert parse_target("https://img.example/local/a%20b.jpg?x=1", MAP).path == "/data/mirror/a b.jpg"
    assert parse_target("https://img.example/bucket/a%20b.jpg", MAP).object == ("bucket", "prefix/a%20b.jpg")
    assert map_url("https://other.example/a.jpg", MAP) == "https://other.example/a.jpg"
    assert map_url("x", {"": "y"}) == "x"


@pytest.mark.parametrize(
    ("text", "path"),
    [("/data/a b.jpg", "/data/a b.jpg"), ("rel/100%25.jpg", "rel/100%25.jpg"), ("file:///a%20b.jpg", "/a b.jpg")],
)
def test_local_paths(text: str, path: str) -> None:
    assert parse_target(text).path == path


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("http://user:pa55@h/x", "http://***@h/x"),
        ("failed: https://u:p%40@h:1/x?y=a@b and ftp://a:b@c", "failed: https://***@h:1/x?y=a@b and ftp://***@c"),
        ("http://u:p@ss@h/x", "http://***@h/x"),
        ("http://h/x@y", "http://h/x@y"),
        ("mail a@b.example", "mail a@b.example"),
        ("", ""),
    ],
)
def test_redact(text: str, want: str) -> None:
    assert redact(text) == want


def test_credentials_are_kept_for_the_request() -> None:
    url = parse_http_url("http://us%40er:p:w@h.example/x")
    assert (url.user, url.password, url.host) == ("us@er", "p:w", "h.example")


PIECES = {
    "scheme": ["http", "https", "http", "HTTP", "ftp"],
    "host": ["h.example", "H.Example", "10.0.0.1", "a_b", "a..b", "-", ".", "u:p@h", "[::1]", "", "x" * 300, "例え"],
    "port": ["", "", "", ":1", ":8080", ":65535", ":65536", ":99999", ":080", ":0", ":", ":x", ":123456"],
    "path": ["", "/", "/a", "//b", "/%41", "/%zz", "/ü", "/ ", "/..", "/;p", "/[x]", "/a:b@c", "/\\", "?q", "/~'", "*"],
    "query": ["", "", "?", "?a=b&c", "?a?b", "?%20", "?é", "#f", "?q#f", "? ", "?[", "\n", "??"],
}


@pytest.mark.parametrize("seed", range(4))
def test_plain_addresses_come_out_as_all_others_do(seed: int) -> None:
    rng = random.Random(seed)

    def outcome(parse, text):
        try:
            url = parse(text, quote_spaces=False)
        except BadURL as e:
            return str(e)
        return str(url), url.scheme, url.raw_host, url.port, url.raw_path_qs, url.raw_user, url.raw_fragment

    for _ in range(500):
        drawn = {name: rng.choice(pieces) for name, pieces in PIECES.items()}
        text = "{scheme}://{host}{port}{path}{query}".format(**drawn)
        assert outcome(parse_http_url, text) == outcome(_parse_any_http_url, text), text
