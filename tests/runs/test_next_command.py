"""Printed commands work when they are typed: quoted, whole, and with what opens a run on S3."""

import shlex

import pytest

from aistudio.config import StoreSettings
from aistudio.runs.next_command import next_command
from aistudio.runs.second_thoughts import next_for_failures

MINIO = StoreSettings(endpoint_url="http://127.0.0.1:9000", region="eu-west-1")
OPENING = ["--set", "store.endpoint_url=http://127.0.0.1:9000", "--set", "store.region=eu-west-1"]


@pytest.mark.parametrize(("run", "store", "extra"), [
    ("s3://b/my run", MINIO, OPENING),
    ("s3://b/r", StoreSettings(), []),
    ("/data/my run", MINIO, []),  # a local run opens without
    ("s3://b/r", None, []),
])  # fmt: skip
def test_the_command_opens_the_run(run, store, extra):
    words = shlex.split(next_command("report", run, store, "--into", "out"))
    assert words == ["python", "-m", "aistudio", "report", "--run", run, "--into", "out", *extra]


def test_the_advice_on_failures_opens_the_run():
    for status in ("timeout", "http_error"):
        command = next_for_failures({"ok": 1, status: 9}, "s3://b/r", MINIO)
        assert command is not None and command.endswith(shlex.join(OPENING))


def test_a_password_in_an_endpoint_is_not_printed():
    assert "secret" not in next_command("report", "s3://b/r", StoreSettings(endpoint_url="http://u:secret@h"))
