"""Lance data sets by the library of the extra `lance`: opened at one version, on a disk or in a bucket.

A data set is a folder of files whose versions never change: what is appended, deleted or rewritten makes a new version.
A version is known by its number and a checksum of the files that it consists of, so that another data set which took
the place of the first is not mistaken for it. Credentials are looked up when a data set is opened and stored nowhere.
"""

import re
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import pyarrow as pa

from aistudio.config import StoreSettings
from aistudio.errors import StoreError
from aistudio.places import in_bucket
from aistudio.s3 import s3_keys
from aistudio.secrets import redact
from aistudio.storable import error_text

if TYPE_CHECKING:
    from lance import LanceDataset

EXTRA = "pip install 'aistudio-catalogue[lance]'"
VERSIONS = "_versions"  # the folder that makes a folder a Lance data set
# What a column of large pictures (`lance-encoding:blob`, Lance's blob type) looks like to readers of schemas here.
PICTURE = pa.struct([("bytes", pa.large_binary()), ("path", pa.string())])

_MISSING = re.compile(r"not found|no such file|does not exist|NoSuchKey|NoSuchBucket|NotFound", re.IGNORECASE)
_DENIED = re.compile(r"\b40[13]\b|AccessDenied|Forbidden|Unauthorized|permission denied|credential", re.IGNORECASE)
_SOURCE = re.compile(r",? (/\S*|\S*/)src/\S*\.rs:\d+:\d+")  # where in the library it happened
_LOST = re.compile(r"Generic (S3|GCS|MicrosoftAzure) error|error sending request|timed? ?out|connection", re.IGNORECASE)


class LanceError(StoreError):
    """A data set could not be read; `kind` says whether it is not there, not allowed, out of reach or damaged."""

    def __init__(self, text: str, kind: Literal["missing", "denied", "lost", "damaged"]) -> None:
        super().__init__(text)
        self.kind = kind


class Version(NamedTuple):
    """One version of a data set."""

    data: "LanceDataset"
    number: int
    checksum: str  # of the names of its files, eight hexadecimal digits
    num_bytes: int  # of its data files, as far as they say it

    @property
    def mark(self) -> str:
        """How addresses of its rows name it."""
        return f"{self.number}-{self.checksum}"


def open_lance(address: str, settings: StoreSettings, number: int | None = None) -> Version:
    """Open a data set at a version; None: the newest.

    Args:
        address: a local folder, s3://, gs:// or az://.

    Raises:
        LanceError: it is not there, denied, out of reach, damaged.
        StoreError: the library is not installed.
    """
    # It warns of every fork. Ray and subprocess replace the child by another program at once, which is harmless.
    warnings.filterwarnings("ignore", "lance is not fork-safe", UserWarning)
    try:
        import lance
    except ImportError as e:
        what = (e.name or "lance").partition(".")[0]
        raise StoreError(f"{address}: Lance needs a package ({what} is not installed): {EXTRA}") from None
    with lance_errors(address):
        data = lance.dataset(address, version=number, storage_options=_options(address, settings))
        files: list[str] = []
        num_bytes = 0
        for fragment in data.get_fragments():
            about = fragment.metadata
            files += [str(file.path) for file in about.files]
            files.append(repr(about.deletion_file))
            num_bytes += sum(file.file_size_bytes or 0 for file in about.files)
        return Version(data, int(data.version), f"{zlib.crc32(chr(10).join(files).encode()):08x}", num_bytes)


def schema_of(data: "LanceDataset") -> pa.Schema:
    """Return the columns of a data set; those of large pictures, which are read one by one, as PICTURE."""
    return pa.schema([pa.field(f.name, PICTURE) if is_blob(f) else f for f in data.schema])


def is_blob(field: pa.Field) -> bool:
    """Whether a column is stored so that its values are opened like files (Lance's blobs)."""
    about = field.metadata or {}
    named = about.get(b"ARROW:extension:name") or getattr(field.type, "extension_name", "")
    return about.get(b"lance-encoding:blob") == b"true" or str(named).find("lance.blob") >= 0


@contextmanager
def lance_errors(address: str) -> Iterator[None]:
    """Turn whatever the library raises within the block into a LanceError.

    Its Rust side panics for some damaged files; that is an exception beside all others.
    """
    try:
        yield
    except (StoreError, GeneratorExit, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as e:
        if not isinstance(e, Exception) and type(e).__name__ != "PanicException":
            raise
        raise _error(address, e) from None


def _error(address: str, e: BaseException) -> LanceError:
    whole = str(e)
    text = error_text(redact(_SOURCE.sub("", whole.partition("\n")[0])), 400)
    if _DENIED.search(whole):
        kind: Any = "denied"
    elif _LOST.search(whole) and in_bucket(address) and not _MISSING.search(whole):
        kind = "lost"
    else:
        kind = "missing" if _MISSING.search(whole) else "damaged"
    return LanceError(f"{address}: {text or type(e).__name__}", kind)


def _options(address: str, settings: StoreSettings) -> dict[str, str] | None:
    """Settings for Lance's own bucket client: addresses, time-outs, and for S3 the credentials that boto3 finds."""
    if not in_bucket(address):
        return None
    scheme, _, rest = address.partition("://")
    bucket = rest.partition("/")[0]
    options = {
        "timeout": f"{settings.timeout_s:g}s", "connect_timeout": f"{settings.timeout_s:g}s",
        "client_max_retries": str(settings.retries),
    }  # fmt: skip
    endpoint = {"s3": settings.endpoint_url, "gs": settings.gs_endpoint_url, "az": settings.az_endpoint_url}[scheme]
    public = f"{scheme}://{bucket}" in settings.public_buckets
    if endpoint:
        options |= {"allow_http": "true"} if endpoint.startswith("http://") else {}
        options[{"s3": "aws_endpoint", "gs": "google_base_url", "az": "azure_storage_endpoint"}[scheme]] = endpoint
    if public:
        options[{"s3": "aws_skip_signature", "gs": "google_skip_signature", "az": "azure_skip_signature"}[scheme]] = (
            "true"
        )
    if scheme == "az" and settings.az_account:
        options["azure_storage_account_name"] = settings.az_account
    return options | s3_keys(settings, signed=not public) if scheme == "s3" else options
