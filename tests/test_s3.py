"""s3.py: splitting of URLs and the settings of the client. Calls against a server are in the tests of its users."""

import pytest

from aistudio.config import StoreSettings
from aistudio.s3 import s3_client, split_s3_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://b/k/x.jpg", ("b", "k/x.jpg")),
        ("s3://b", ("b", "")),
        ("s3://b/", ("b", "")),
        ("S3://b/a%20b/!!0.jpg", ("b", "a%20b/!!0.jpg")),
        ("s3://b//double", ("b", "/double")),
    ],
)
def test_split(url: str, expected: tuple[str, str]) -> None:
    assert split_s3_url(url) == expected


@pytest.mark.parametrize("url", ["", "b/k", "s3:/b/k", "s3://", "s3:///k", "https://b/k"])
def test_split_refuses(url: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/key"):
        split_s3_url(url)


def test_client_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    client = s3_client(StoreSettings(endpoint_url="http://127.0.0.1:1", retries=2, timeout_s=3))
    config = client.meta.config
    assert client.meta.endpoint_url == "http://127.0.0.1:1"
    assert client.meta.region_name == "us-east-1"
    assert config.retries["total_max_attempts"] == 3
    assert (config.connect_timeout, config.read_timeout) == (3, 3)
    assert config.s3["addressing_style"] == "path"


def test_region_without_endpoint() -> None:
    client = s3_client(StoreSettings(region="eu-west-1"))
    assert client.meta.region_name == "eu-west-1"
    assert client.meta.config.s3["addressing_style"] == "auto"
