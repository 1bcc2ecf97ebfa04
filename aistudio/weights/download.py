"""The bytes of one address into one file, resuming what is there (_answers.py does the asking).

Whether they are the right bytes is not judged here. Beside an unfinished file lies the server's version of it (its
ETag, else its date), so that a file that was replaced on the server is never continued from the middle.
"""

import contextlib
import http.client
import random
import time
from collections.abc import Callable
from pathlib import Path

from aistudio.config import StoreSettings
from aistudio.errors import WeightsError
from aistudio.secrets import shown_address
from aistudio.weights.remote import Answer, Stale, Whole, ask

CHUNK = 1 << 20
TIMEOUT_S = 30.0  # longest silence of a server
TRIES = 4  # a cut connection is resumed this often in one call
PATIENT_TRIES = 7  # a minute in all; of nodes that start together and ask one server
PAUSE_S = 1.0  # before the second try of a patient call; doubled each time, with jitter

Progress = Callable[[int, int | None], None]


class UnreachableError(WeightsError):
    """The address could not be read to its end; what came is kept."""


def download(
    url: str,
    part: Path,
    store: StoreSettings | None = None,
    *,
    progress: Progress | None = None,
    timeout_s: float = TIMEOUT_S,
    patient: bool = False,
    known_version: str | None = None,
) -> str | None:
    """Have all bytes of `url` in `part`, beginning where `part` ends; returns the server's version if it names one.

    Args:
        store: S3 endpoint, region, retries; credentials come from boto3's ordinary chain.
        progress: called with bytes so far and bytes in all (None when the server does not say).
        patient: try again after no answer, too (many nodes may ask one server at once).
        known_version: raise UnchangedError instead when the server still has this version.

    Raises:
        UnreachableError: cut off for good or never reached.
        WeightsError: the server refuses, or the disk does.
    """
    tries = PATIENT_TRIES if patient else TRIES
    for attempt in range(tries):
        before = size_of(part)
        try:
            answer = ask(url, before, version_of(part), known_version, timeout_s, store or StoreSettings())
            _write(answer, part, progress)
            return answer.version
        except Whole:
            return version_of(part)
        except Stale:
            discard(part)
        except (OSError, http.client.HTTPException) as e:
            progressed = size_of(part) > before
            if attempt + 1 == tries or not (progressed or patient):  # another try would fail alike
                raise UnreachableError(_unreachable(url, part, e)) from None
            if not progressed:
                time.sleep(PAUSE_S * 2**attempt * random.uniform(0.5, 1.5))
    raise UnreachableError(f"{shown_address(url)}: the server's file changed while it was fetched; try again")


def discard(part: Path) -> None:
    """Remove an unfinished file and what is known of it."""
    part.unlink(missing_ok=True)
    _version_path(part).unlink(missing_ok=True)


def publish(part: Path, path: Path) -> None:
    """Give a finished file its name."""
    part.replace(path)
    _version_path(part).unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes; 0 when it is not there."""
    return path.stat().st_size if path.exists() else 0


def version_of(part: Path) -> str | None:
    """The server's version of which an unfinished file is the beginning; None: not known."""
    path = _version_path(part)
    return path.read_text(encoding="utf-8") if path.is_file() else None


def _version_path(part: Path) -> Path:
    return part.with_name(part.name + ".version")


def _write(answer: Answer, part: Path, progress: Progress | None) -> None:
    """Append the answer to `part` (or begin anew). Raises OSError when it was cut, WeightsError when the disk fails."""
    have = answer.start
    try:
        try:
            if have == 0:
                discard(part)
                if answer.version and not answer.version.startswith("W/"):  # weak ones do not promise equal bytes
                    _version_path(part).write_text(answer.version, encoding="utf-8")
            file = part.open("ab")
        except OSError as e:
            raise _disk_error(part, e) from None
        with file:
            while chunk := answer.body.read(CHUNK):
                try:
                    file.write(chunk)
                    file.flush()
                except OSError as e:
                    raise _disk_error(part, e) from None
                have += len(chunk)
                if progress:
                    progress(have, answer.total)
    finally:
        answer.body.close()
    if answer.total is not None and have != answer.total:
        raise OSError(f"the connection was cut after {have:,} of {answer.total:,} bytes")


def _disk_error(part: Path, error: OSError) -> WeightsError:
    with contextlib.suppress(OSError):
        discard(part)  # a node whose disk is full must not stay so for our sake
    return WeightsError(f"{part}: cannot be written: {error.strerror or error}")


def _unreachable(url: str, part: Path, error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    have = size_of(part)
    kept = f"; {have:,} bytes are kept in {part}, the same command goes on from there" if have else ""
    return f"{shown_address(url)}: cannot be fetched ({reason}){kept}"
