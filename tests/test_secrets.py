"""What is a secret is decided in one place: what a submitted job refuses, a run record hides."""

import doctest

import pytest

import aistudio.secrets
from aistudio.config import parse_config
from aistudio.errors import ConfigError
from aistudio.runs.record import without_secrets
from aistudio.secrets import HIDDEN, is_secret_name, redact, redact_credentials, refuse_secrets, shown_address

SECRET = ["X-Credential", "X-Passwd", "Authorization", "Proxy-Authorization", "Cookie", "x-api-key", "X-Auth-Token",
          "X-Amz-Signature", "session_id", "X-Passphrase"]  # fmt: skip
PLAIN = ["Accept", "User-Agent", "Referer", "Accept-Language", "tokenizer", "author", "Keywords"]


def test_examples_in_docstrings_hold():
    assert doctest.testmod(aistudio.secrets).failed == 0


@pytest.mark.parametrize("name", SECRET)
def test_a_header_that_a_job_refuses_is_hidden_in_run_json(name):
    assert is_secret_name(name)
    with pytest.raises(ConfigError, match="looks like a secret") as e:
        refuse_secrets([f"download.headers.{name}=hunter2"])
    assert "hunter2" not in str(e.value)
    config = parse_config(
        {
            "manifest": {"path": "m.csv", "format": "csv"}, "output": "out", "models": {"recall": "r.yaml"},
            "download": {"headers": {name: "hunter2", "Accept": "image/*"}},
        },
        "test",
    )  # fmt: skip
    assert without_secrets(config)["download"]["headers"] == {name: HIDDEN, "Accept": "image/*"}


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_no_secret_is_kept(name):
    assert not is_secret_name(name)


def test_a_secret_value_under_a_plain_name_is_hidden_too():
    assert aistudio.secrets.hidden_headers({"X-Forwarded": "Bearer abc"}) == {"X-Forwarded": HIDDEN}


def test_addresses_are_shown_without_what_may_be_a_key():
    assert redact("s3://a:b@c/d and http://u@h/") == "s3://***@c/d and http://***@h/"
    assert shown_address("https://u:p@h/x.bin?X-Amz-Signature=abc") == "https://h/x.bin?…"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        (
            "https://b.s3.amazonaws.com/m.csv?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIA%2F1&X-Amz-Date=2026"
            "&X-Amz-Expires=60&X-Amz-Security-Token=IQo&X-Amz-SignedHeaders=host&X-Amz-Signature=0a1b",
            "https://b.s3.amazonaws.com/m.csv?X-Amz-Algorithm=***&X-Amz-Credential=***&X-Amz-Date=***"
            "&X-Amz-Expires=***&X-Amz-Security-Token=***&X-Amz-SignedHeaders=***&X-Amz-Signature=***",
        ),
        ("http://h/m?AWSAccessKeyId=AK&Expires=1&Signature=0%2B", "http://h/m?AWSAccessKeyId=***&Expires=***&Signature=***"),
        ("http://h/m.csv?sv=2024&se=2026-12&sr=b&sig=0a%3D", "http://h/m.csv?sv=2024&se=***&sr=b&sig=***"),
        ("http://h/m?GoogleAccessId=x&Expires=1&Signature=0", "http://h/m?GoogleAccessId=***&Expires=***&Signature=***"),
        ("http://u:p@h/m.csv?table=3;TOKEN=0a#access_token=0b", "http://***@h/m.csv?table=3;TOKEN=***#access_token=***"),
        ("http://h/m?api%5Fkey=0a&author=7&keyword=hat&n=", "http://h/m?api%5Fkey=***&author=7&keyword=hat&n="),
        ("http://h/m.csv?se=1&expires=2&page=3", "http://h/m.csv?se=1&expires=2&page=3"),
        ("moved to '/x?token=0a', see http://h/?sig=0b now", "moved to '/x?token=***', see http://h/?sig=*** now"),
        ("what? a = b, or c==d?", "what? a = b, or c==d?"),
    ],
)  # fmt: skip
def test_signatures_tokens_and_keys_in_queries_are_not_shown(address, shown):
    assert redact(address) == shown == redact(shown)
    assert redact_credentials(address) == address.replace("u:p@", "***@")
