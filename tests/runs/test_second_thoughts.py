"""A changed setting says which failed rows it changes; the best next command is whole and can be typed."""

import shlex

import pytest

from aistudio.config import DownloadSettings, parse_config
from aistudio.run_record import RunRecord
from aistudio.runs.record import without_secrets
from aistudio.runs.second_thoughts import CHANGES, change_lines, changes, next_for_failures
from aistudio.schema import Status

DATA = {"manifest": {"path": "m.csv", "format": "csv"}, "output": "/r", "models": {"recall": "r.yaml"}}
COUNTS = {"ok": 166, "blocked_address": 174, "timeout": 3}


def config(**download):
    return parse_config(DATA | {"download": download}, "test")


def found(old, new, counts=None):
    return changes(RunRecord(config=without_secrets(old)), new, COUNTS if counts is None else counts)


def test_the_rows_that_a_changed_setting_changes():
    [change] = found(config(), config(allow_private_addresses=True))
    lines = list(change_lines([change], "/my runs/x"))
    assert lines[0] == "174 rows failed with blocked_address, which download.allow_private_addresses changes"
    command = lines[1].removeprefix("next: ")
    assert shlex.split(command)[2:] == [
        "aistudio", "retry", "--run", "/my runs/x", "--status", "blocked_address",
        "--set", "download.allow_private_addresses=true",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("new", "statuses"),
    [
        ({"timeout_s": 60}, {"timeout": 3}),
        ({"url_map": {"http://a/": "/b/"}}, {"timeout": 3, "blocked_address": 174}),
        ({"max_bytes": 5}, None),
        ({}, None),
    ],
)
def test_only_what_failed_and_may_change_is_said(new, statuses):
    assert [c.statuses for c in found(config(), config(**new))] == ([statuses] if statuses else [])


def test_several_settings_make_one_command_and_secrets_stay_out():
    old, new = (
        config(headers={"Authorization": "one"}),
        config(headers={"Authorization": "s3cret", "X": "y"}, retries=9),
    )
    lines = list(change_lines(found(old, new, {"http_error": 2, "timeout": 1}), "r"))
    assert "s3cret" not in "".join(lines) and lines[-1].count("--set") == 3 and lines[-1].count("--status") == 2


def test_every_download_setting_is_thought_of():
    """A new one must say which failures it may change."""
    assert {f"download.{name}" for name in DownloadSettings.model_fields} <= CHANGES.keys()


@pytest.mark.parametrize("status", [s for s in Status if s != Status.OK])
def test_every_status_has_a_next_command(status):
    text = next_for_failures({"ok": 1, status.value: 5}, "/r")
    assert text is not None and text.startswith(f"5 rows failed with {status}; ") and " --run /r" in text


def test_what_a_retry_may_mend_goes_first_unless_it_is_little():
    assert "--status timeout" in next_for_failures({"http_error": 100, "timeout": 40}, "/r")
    assert "aistudio report" in next_for_failures({"http_error": 100, "timeout": 4}, "/r")
    assert next_for_failures({"ok": 3}, "/r") is None
