"""What a place means that a user names in a setting or on the command line: a local path, a bucket or http(s)://.

One function reads them all, so that a place that cannot be meant is refused by name instead of becoming a folder called
`gs:`. Nothing is created or opened here.

- `~` and `~name` are the home folder; `file:///x` is /x, percent-decoded.
- Schemes may be written in any case; those of buckets (`s3://`, `gs://`, `az://`), `http://` and `https://` count where
  they make sense.
- Refused: any other scheme, `C:\\x` and `\\\\server\\x` (this runs on Linux), `$NAME/x`, an empty text.
"""

import difflib
import glob
import re
from collections.abc import Collection
from pathlib import Path
from urllib.parse import unquote, urlsplit

from aistudio.errors import ConfigError

# Two letters at least, so that a drive letter is no scheme. One slash is enough: `dbfs:/x`, `s3:/x`.
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
# Addresses even without the slashes: `s3:shop/x` is a mistyped address, not a folder called `s3:shop`.
_WELL_KNOWN = re.compile(
    r"(s3[an]?|gc?s|az|abfss?|wasbs?|adl|oss|cos|obs|arn|hdfs|webhdfs|dbfs|hf|file|https?|ftps?|sftp|memory):", re.I
)
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")
_VARIABLE = re.compile(r"\$(\w+|\{\w+\})")
BUCKETS = ("s3", "gs", "az")  # schemes of object storage: `scheme://bucket/key`
_ADDRESSES = {
    "s3": "s3://bucket/prefix", "gs": "gs://bucket/prefix", "az": "az://container/prefix",
    "hf": "hf://datasets/owner/name", "http": "http://…", "https": "https://…",
    "postgresql": "postgresql://user@host/name", "postgres": "postgres://user@host/name",
}  # fmt: skip
_DATABASES = ("postgresql", "postgres")  # may name no host: a socket of this machine
_OTHER_NAMES = {  # Hadoop's and others'
    "s3a": "s3", "s3n": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "azure": "az", "wasb": "az", "wasbs": "az",
    "adl": "az",
}  # fmt: skip


class BadPlaceError(ValueError):
    """The text names no place that can be used; the message says why, and what is possible."""


def resolve_place(text: str, remote: Collection[str] = BUCKETS) -> str:
    """Return the place in its plain form: a local path, or an address whose scheme is lower case.

    Resolving twice changes nothing. A relative path stays relative.

    Args:
        remote: schemes that are possible beside local paths, of BUCKETS, `http`, `https`.

    Raises:
        BadPlaceError: no such place is possible.
    """
    text = text.strip()
    if not text:
        raise BadPlaceError(f"is empty; {_possible(remote)}")
    if "\0" in text:
        raise BadPlaceError(f"{text!r} holds a NUL character; {_possible(remote)}")
    if match := _scheme(text):
        return _with_scheme(text, match[1], remote)
    if _WINDOWS.match(text):
        raise BadPlaceError(f"{text} is a path of Windows, which means nothing here; {_possible(remote)}")
    if _VARIABLE.match(text):
        raise BadPlaceError(f"{text}: variables of the environment are not filled in here; write the path itself")
    return _home(text) if text.startswith("~") else text


def require_place(name: str, text: str, remote: Collection[str] = BUCKETS) -> str:
    """Return `resolve_place(text)`. Raises ConfigError that begins with `name`, a setting or a flag."""
    try:
        return resolve_place(text, remote)
    except BadPlaceError as e:
        raise ConfigError(f"{name}: {e}") from None


def beside(text: str, folder: Path) -> str:
    """Return the path, or one that is there where a relative one leads to nothing in the working directory.

    Looked for below `folder`, the place of the file that names the path, and, where that lies in a folder called `conf`
    (`conf/models/x.yaml` says `weights/x`), below the folder that holds `conf`.
    """
    if not is_relative(text) or _is_there(Path(text)):
        return text
    near = [folder, *[p.parent for p in (folder, *folder.parents) if p.name == "conf"][:1]]
    return next((str(place / text) for place in near if _is_there(place / text)), text)


def split_place(place: str) -> tuple[str, str]:
    """Return the folder (or prefix) that a file lies in, and its name."""
    folder, slash, name = place.rpartition("/")
    return folder or slash or ".", name


def near_file(path: Path) -> str:
    """Return what to add to "no such file": the file that was perhaps meant, "" where none is near."""
    try:
        if not path.parent.is_dir():
            return f" (nor is there a folder {path.parent})"
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=1)
    except OSError:  # a folder that may not be listed
        return ""
    return f"; did you mean {path.parent / near[0]}?" if near else ""


def in_bucket(place: str) -> bool:
    """Whether a place, as `resolve_place` gave it, is in object storage."""
    return place.startswith(tuple(f"{scheme}://" for scheme in BUCKETS))


def is_relative(place: str) -> bool:
    """Whether a place is a path that depends on the working directory."""
    return is_local(place) and bool(place.strip()) and not place.startswith(("/", "~", "$"))


def is_local(place: str) -> bool:
    """Whether a place has no scheme."""
    return _scheme(place) is None


def _scheme(text: str) -> re.Match[str] | None:
    return _SCHEME.match(text) or _WELL_KNOWN.match(text)


def _is_there(path: Path) -> bool:
    try:
        found = path.exists()
    except (OSError, ValueError):
        return False
    return found or (glob.has_magic(str(path)) and next(glob.iglob(str(path), recursive=True), None) is not None)  # noqa: PTH207


def _with_scheme(text: str, scheme: str, remote: Collection[str]) -> str:
    scheme, rest = scheme.lower(), text[len(scheme) + 1 :]
    if scheme == "file":
        return _file_path(text)
    if scheme not in remote:
        near = _near(scheme, remote)
        raise BadPlaceError(f"{text}: the scheme {scheme}: cannot be used here; {_possible(remote)}{near}")
    if not rest.startswith("//"):
        raise BadPlaceError(f"{text}: slashes are missing; write {scheme}://{rest.lstrip('/')}")
    if not re.match(r"//[^/\s]", rest) and scheme not in _DATABASES:
        host = f"host; write {scheme}://host/path"
        what = f"bucket; write {_ADDRESSES[scheme]}" if scheme in BUCKETS else host
        raise BadPlaceError(f"{text}: names no {what}")
    return f"{scheme}:{rest}"


def _near(scheme: str, remote: Collection[str]) -> str:
    if _OTHER_NAMES.get(scheme) in remote:
        return f"; did you mean {_ADDRESSES[_OTHER_NAMES[scheme]]} ?"
    close = difflib.get_close_matches(scheme, [*remote, "file"], n=1, cutoff=0.75)
    return f"; did you mean {close[0]}:// ?" if close else ""


def _file_path(text: str) -> str:
    """The path of file:///x, also written file:/x or file://localhost/x."""
    try:
        parts = urlsplit(text)
    except ValueError:
        raise BadPlaceError(f"{text}: not a file address; write file:///path") from None
    if parts.netloc.lower() not in ("", "localhost"):
        raise BadPlaceError(f"{text}: a file address has no host; write file:///{parts.netloc}{parts.path}")
    if parts.query or parts.fragment:
        raise BadPlaceError(f"{text}: in a file address ? is written %3F and # is written %23; or write the path alone")
    path = unquote(parts.path)
    if not text[len("file:") :].startswith("/"):
        raise BadPlaceError(f"{text}: a file address holds a whole path; write file:///path, or the path alone")
    if not path.strip("/") or "\0" in path:
        raise BadPlaceError(f"{text}: names no path; write file:///path")
    return "/" + path.lstrip("/")


def _home(text: str) -> str:
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        who = text.partition("/")[0]
        raise BadPlaceError(f"{text}: the home folder {who} is not known; write an absolute path") from None
    return str(path)


def _possible(remote: Collection[str]) -> str:
    return "possible: " + ", ".join(["a local path", *(_ADDRESSES[name] for name in remote)])
