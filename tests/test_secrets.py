"""What is a secret is decided in one place: what a submitted job refuses, a run record hides."""

import doctest

import pytest

import aistudio.secrets
from aistudio.config import parse_config
from aistudio.errors import ConfigError
from aistudio.runs.record import without_secrets
from aistudio.secrets import HIDDEN, is_secret_name, redact, refuse_secrets, shown_address

SECRET = ["X-Credential", "X-Passwd", "Authorization", "Proxy-Authorization", "Cookie", "x-api-key", "X-Auth-Token",
          "X-Amz-Signature", "session_id", "X-Passphrase"]  # fmt: skip
PLAIN = ["Accept", "User-Agent", "Referer", "Accept-Language", "tokenizer"]


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
