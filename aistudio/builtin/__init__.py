"""Confs and weights that come with AI Studio, found by one function in a checkout and in an installed wheel alike.

    conf/           jobs of the demo and of the paper, by name: `demo`
    conf/models/    a model's settings each, by name: `demo_recall`, `siglip`
    conf/train/     trainings
    weights/demo/   small models of our own

A checkout holds them at its top; the wheel takes them in below this package (setup.py).
"""

import difflib
import re
from pathlib import Path

from aistudio.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
JOBS, MODELS, TRAININGS = "conf", "conf/models", "conf/train"


def root() -> Path:
    """Return the folder that holds `conf` and `weights/demo`: this package's, else the checkout's."""
    return _PACKAGE if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1]


def names(kind: str = MODELS) -> list[str]:
    """Names of the confs of a kind: JOBS, MODELS or TRAININGS; sorted."""
    return sorted(path.stem for path in (root() / kind).glob("*.yaml"))


def is_name(text: str) -> bool:
    """Whether a setting that names a conf is a bare name rather than a path; a file of that name goes first."""
    return _NAME.fullmatch(text) is not None and not Path(text).is_file()


def conf_path(text: str | Path, kind: str = MODELS) -> Path:
    """Return the file that a setting means: a path as it is, a bare name as the built-in conf of that name.

    The path of a built-in conf, such as conf/models/siglip.yaml, means it where there is no such file here.

    >>> conf_path("conf/mine.yaml").as_posix()
    'conf/mine.yaml'

    Raises:
        ConfigError: no conf of that name; lists those that there are.
    """
    if not is_name(str(text)):
        return Path(instead(str(text)))
    known = names(kind)
    if str(text) not in known:
        near = difflib.get_close_matches(str(text).lower(), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(
            f"{text}: neither a file nor a built-in name; {hint}Built in: {', '.join(known)}; a file is named with "
            f"its ending, such as {text}.yaml"
        )
    return root() / kind / f"{text}.yaml"


def is_inside(path: Path) -> bool:
    """Whether a conf file is a built-in one."""
    return path.resolve().is_relative_to(root() / "conf")


def instead(text: str) -> str:
    """Return a path, or the built-in file that it means, such as conf/models/siglip.yaml, where nothing is there."""
    here = Path(text)
    if here.is_absolute() or not text.startswith(("conf/", "weights/demo")) or ".." in here.parts or here.exists():
        return text
    found = root() / here
    return str(found) if found.exists() else text
