"""Where an export goes: a local folder that is there whole and checked, or not at all."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from aistudio.errors import ConfigError, StoreError
from aistudio.places import in_bucket

ABOUT = "export.json"


def target_of(place: str, out: str, run: str, *, overwrite: bool) -> Path:
    """Return the folder that is meant by a local place, and refuse one that must not be written.

    Raises:
        ConfigError: a place within the run, or around it; something is there already.
    """
    target = Path(os.path.abspath(place))  # noqa: PTH100 - `..` is taken out, links stay
    if not in_bucket(run):
        own = Path(run).resolve()
        if target.resolve() == own or own in target.resolve().parents or target.resolve() in own.parents:
            raise ConfigError(f"--out {out}: lies in the run {run}, or around it; name a folder elsewhere")
    if not os.path.lexists(target) or (target.is_dir() and not any(target.iterdir())):
        return target
    if not overwrite:
        raise ConfigError(f"--out {out}: there already; name another folder, or say --overwrite")
    if target.is_symlink() or not (target / ABOUT).is_file():
        raise ConfigError(f"--out {out}: --overwrite replaces an export alone, and this is none (it has no {ABOUT})")
    return target


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside the target that takes its name at the end; after any error it is removed.

    An export that is there is replaced then, not before.

    Raises:
        StoreError: it cannot be made, or the target came to be in the meantime.
    """
    building = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        building.mkdir(parents=True)
        try:
            yield building
            _sync(building)
            _publish(building, target)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    except OSError as e:
        raise StoreError(f"{target}: {e.strerror or e}; what was there before is as it was") from None


def _publish(building: Path, target: Path) -> None:
    if not (target / ABOUT).is_file():
        building.rename(target)  # over nothing or an empty folder; anything else is an error
        return
    old = target.with_name(f".{target.name}.{uuid.uuid4().hex}.replaced")
    target.rename(old)
    try:
        building.rename(target)
    except OSError:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _sync(folder: Path) -> None:
    for place, _, names in os.walk(folder):
        for name in names:
            with Path(place, name).open("rb") as f:
                os.fsync(f.fileno())
