"""What fetching one image ends with: `Fetched`, and `FetchFailed` on the way there. No I/O."""

from dataclasses import dataclass

from aistudio.images.urls import MAX_LOCATION_CHARS
from aistudio.images.validators import entity_tag, http_date
from aistudio.schema import Status
from aistudio.secrets import redact
from aistudio.storable import storable_int, storable_text


@dataclass(frozen=True, slots=True)
class Fetched:
    """Outcome of one image; `body` is there exactly when `status` is ok and the server did not say `not_modified`.

    `final_url` is set only when the image came from elsewhere than the row's URL (redirect, fallback); a rewrite by
    `url_map` does not count. No text here holds a URL's password, and text and numbers of servers and libraries are
    made storable here.
    """

    status: Status
    error: str | None = None
    http_status: int | None = None
    num_bytes: int | None = None  # of the body, decompressed
    final_url: str | None = None
    body: bytes | None = None
    instead_of: "Fetched | None" = None  # how image_url failed, when the body is the fallback's
    etag: str | None = None  # that the server gave, where it is one (validators.py)
    last_modified: str | None = None  # likewise, as HTTP writes it
    not_modified: bool = False  # the picture is still the one that the request's validators name
    cache: str | None = None  # what the byte cache did: hit, same (its server said so), miss, failed; None: not asked

    def __post_init__(self) -> None:
        if self.error is not None:
            object.__setattr__(self, "error", storable_text(self.error))
        if self.final_url is not None:
            object.__setattr__(self, "final_url", storable_text(self.final_url, MAX_LOCATION_CHARS))
        object.__setattr__(self, "http_status", storable_int(self.http_status, 32))
        object.__setattr__(self, "num_bytes", storable_int(self.num_bytes, 64))
        object.__setattr__(self, "etag", entity_tag(self.etag))
        object.__setattr__(self, "last_modified", http_date(self.last_modified))


class FetchFailed(Exception):
    """One try failed. `retry`: another try may help; `retry_after_s`: the server asked for this wait."""

    def __init__(
        self,
        status: Status,
        error: str,
        *,
        http_status: int | None = None,
        retry: bool = False,
        retry_after_s: float | None = None,
        final_url: str | None = None,
    ) -> None:
        super().__init__(error)
        self.status = status
        self.error = redact(error)
        self.http_status = http_status
        self.retry = retry
        self.retry_after_s = retry_after_s
        self.final_url = final_url

    def outcome(self, num_tries: int = 1) -> Fetched:
        """The row's outcome when no further try follows."""
        tries = f" ({num_tries} tries)" if num_tries > 1 else ""
        return Fetched(self.status, self.error + tries, self.http_status, final_url=self.final_url)
