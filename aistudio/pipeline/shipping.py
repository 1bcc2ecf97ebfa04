"""What goes along with a submitted job: which files, and which requirements.

Leaves out the talking to the cluster (submission.py).
"""

import importlib.metadata
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from aistudio import version
from aistudio.errors import ConfigError

# Left out at the top of the working directory, and everywhere below it.
_NOT_AT_TOP = {"data", "reports", "weights", "outputs", "tests", "benchmarks", "build", "dist", "venv"}
_NEVER = re.compile(r"^\.|^__pycache__$|\.egg-info$|\.(pem|key|p12|pfx)$|^credentials", re.IGNORECASE)
_DEMO_WEIGHTS = Path("weights/demo")
_MAX_BYTES = 200_000_000  # Ray's own limit is 500 MB; more than code and a model was not meant to travel


def is_elsewhere(path: str) -> bool:
    """A URL or an absolute path: not part of the working directory."""
    return "://" in path or Path(path).is_absolute()


def ships(path: Path, ship: Sequence[Path] = ()) -> bool:
    """Is this file or folder of the working directory among what `stage` copies?"""
    inside = Path(os.path.normpath(path))
    chosen = (_DEMO_WEIGHTS, *ship)
    if any(inside == c or c in inside.parents for c in chosen):
        return True
    return inside.parts[0] not in (*_NOT_AT_TOP, "..") and not any(_NEVER.search(p) for p in inside.parts)


def leaves(value: object, key: str = "") -> Iterable[str]:
    """Every string of nested settings as `section.key=value`, for `refuse_secrets`."""
    if isinstance(value, dict):
        for k, v in value.items():
            yield from leaves(v, f"{key}.{k}" if key else str(k))
    elif isinstance(value, list):
        for v in value:
            yield from leaves(v, key)
    elif isinstance(value, str):
        yield f"{key}={value}"


def copy_shipped(source: Path, target: Path, ship: Sequence[Path] = ()) -> int:
    """Copy what is shipped from the working directory into an empty folder; returns its bytes.

    Raises:
        ConfigError: something to ship is not there, or it is too much.
    """
    source = source.resolve()

    def left_out(folder: str, names: list[str]) -> set[str]:
        top = Path(folder) == source
        return {n for n in names if _NEVER.search(n) or (top and n in _NOT_AT_TOP)}

    shutil.copytree(source, target, ignore=left_out, dirs_exist_ok=True, ignore_dangling_symlinks=True)
    chosen = [*([_DEMO_WEIGHTS] if (source / _DEMO_WEIGHTS).is_dir() else []), *ship]
    for path in chosen:
        place = (source / path).resolve()
        if not place.exists() or not place.is_relative_to(source):
            raise ConfigError(f"--ship {path}: no such file or folder in {source}")
        goal = target / place.relative_to(source)
        goal.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir():
            shutil.copytree(place, goal, ignore=left_out, dirs_exist_ok=True)
        else:
            shutil.copy2(place, goal)
    size = _size(target)
    if size > _MAX_BYTES:
        largest = sorted(((_size(p), p.name) for p in target.iterdir()), reverse=True)[:3]
        named = ", ".join(f"{name} {n / 1e6:.0f} MB" for n, name in largest)
        raise ConfigError(
            f"{source}: {size / 1e6:.0f} MB would be shipped, at most {_MAX_BYTES / 1e6:.0f}: {named}; "
            "put large files on S3 or into the nodes' image"
        )
    return size


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())


def requirements() -> list[str]:
    """The project's direct requirements in the versions installed here; without Ray, which the cluster runs already."""
    names = (re.split(r"[\s\[<>=!~;]", r, maxsplit=1)[0] for r in version.requirements())
    wanted = sorted({n for n in names if n.lower() != "ray"})
    return [f"{n}=={importlib.metadata.version(n).split('+')[0]}" for n in wanted]
