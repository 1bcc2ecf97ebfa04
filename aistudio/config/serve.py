"""Settings of the section `serve`."""

from pydantic import Field

from aistudio.config.base import Settings


class ServeSettings(Settings):
    """The search page and its API. No part of a run's shape."""

    host: str = "127.0.0.1"  # any other address is open to others, so it needs a token
    port: int = Field(8080, ge=0, le=65_535)  # 0: a free one
    token: str | None = Field(None, min_length=16)  # null: $AISTUDIO_SERVE_TOKEN; visitors must give it where it is set
    hosts: list[str] = []
    """Further names by which visitors reach it, behind a proxy for instance; `*`: any. Example:
    `[search.shop.example]`
    """
    presign: bool = False  # originals on S3 are offered by an address that is signed for an hour
    fetch_addresses: bool = True  # visitors may ask with the address of a picture; private addresses never
    cache: str | None = None  # folder of local copies; null: $AISTUDIO_CACHE/search, ~/.cache/aistudio/search
    picture_cache_bytes: int = Field(20_000_000_000, ge=0)
    """Most that the local copies of stored pictures take, those of all runs together; the least used go first."""
    memory_mib: int | None = Field(None, ge=1)  # the most that all indexes may hold; null: what the machine has left
    columns: list[str] | None = None
    """Stored columns that are kept and shown; null: all but vectors and pictures. Example: `[title, brand]`"""
    max_upload_bytes: int = Field(20_000_000, ge=1)  # of an uploaded picture
    max_upload_pixels: int = Field(50_000_000, ge=1)  # width x height of it
    decode_timeout_s: float = Field(10.0, gt=0)  # of one uploaded picture; then its process is replaced
    max_text_chars: int = Field(2_000, ge=1)
    """Longest text, in characters, that a visitor may ask with."""
    max_results: int = Field(200, ge=1)
    """Most results on one page."""
    max_depth: int = Field(1_000, ge=1)
    """Most results on all pages of a list together."""
    photos_kept: int = Field(500, ge=1)  # uploaded pictures that an address may still name
    workers: int = Field(16, ge=1)  # requests worked on at once; searches among them share passes over the index
    queue: int = Field(64, ge=0)  # requests that wait for a worker; more get 429
    requests_per_minute: int | None = Field(None, ge=1)  # searches of one client; null: 600, at 127.0.0.1 no limit
    body_timeout_s: float = Field(30.0, gt=0)  # for a request's body to arrive
    shutdown_s: int = Field(5, ge=0)  # for requests under way when it is stopped

    # on a cluster (--on-cluster)
    shard_cpus: float = Field(1.0, gt=0)  # that each shard and the front reserve
    answer_timeout_s: float = Field(10.0, gt=0)  # for all shards; then 503
    reload_s: float = Field(30.0, gt=0)  # how often the runs are looked at; replaced ones are loaded and served

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in ("127.0.0.1", "::1", "localhost")
