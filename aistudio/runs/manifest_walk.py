"""Which files below a folder or prefix a manifest path means: links, hidden names, `*` and `**`, folders of runs.

The same rules hold on disk and on S3. Names that begin with a dot are passed over, and so is whatever lies in folders
that do. `*` stops at `/`, `**` does not: alone it stands for any number of folders, in `x**.csv` for any signs. A
folder that holds a run (ours) is passed over.
"""

import fnmatch
import glob
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from aistudio.errors import ManifestError
from aistudio.runs import layout

MAX_BRACES = 100_000  # files that a pattern with braces may stand for
_BRACES = re.compile(r"\{(?:(?P<first>[0-9]{1,12})\.\.(?P<last>[0-9]{1,12})|(?P<words>[^{}]*,[^{}]*))\}")
_MAX_LINKS = 8  # links to folders within one path; more are a tangle that would list files for ever
_RUN_PARTS = frozenset(key.rstrip("/").partition("/")[0] for key in (*layout.EMPTIED, layout.ATTEMPTS))


def walk(root: Path) -> list[Path]:
    """List the files below a folder, links to folders followed, a loop of links once.

    A link that leads nowhere is listed like a file, so that it is not lost without a word. Of a root that is a run
    folder itself, the run's own parts are passed over.

    Raises:
        ManifestError: a folder cannot be read, or more than _MAX_LINKS links lie within each other.
    """
    found: list[Path] = []
    waiting: list[tuple[Path, frozenset[tuple[int, int]], int]] = [(root, frozenset(), 0)]
    while waiting:
        folder, above, num_links = waiting.pop()
        try:
            info = folder.stat()
            entries = [e for e in os.scandir(folder) if not e.name.startswith(".")]
            here = (info.st_dev, info.st_ino)
            if here in above:
                continue
            if num_links > _MAX_LINKS:
                raise ManifestError(f"manifest.path: {folder}: more than {_MAX_LINKS} links to folders in one path")
            if _is_run(folder, {e.name for e in entries}):
                if folder != root:
                    continue
                entries = [e for e in entries if e.name not in _RUN_PARTS]
            for entry in entries:
                if entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and Path(entry.path).is_dir()):
                    waiting.append((Path(entry.path), above | {here}, num_links + entry.is_symlink()))
                else:
                    found.append(Path(entry.path))
        except OSError as e:
            raise ManifestError(f"manifest.path: {folder}: cannot be read: {e.strerror or e}") from None
    return found


def local_glob(pattern: str) -> list[Path]:
    """List the files that a local pattern means, sorted."""
    parts = Path(pattern).parts
    first = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    root = Path(*parts[:first])
    if any("**" in part for part in parts):
        start = len(root.parts)
        paths = [p for p in walk(root) if matches(p.parts[start:], parts[first:])] if root.is_dir() else []
    else:
        paths = [Path(p) for p in glob.glob(pattern)]  # noqa: PTH207 (absolute patterns)
    return sorted(p for p in paths if not p.is_dir() and not _in_run(p, root))


def expand_braces(pattern: str) -> list[str]:
    """Return the patterns that braces stand for, as WebDataset writes them: `{000..127}`, `{a,b}`.

    A local file that is called so is meant itself.

    >>> expand_braces("s3://shop/{08..10}.tar")
    ['s3://shop/08.tar', 's3://shop/09.tar', 's3://shop/10.tar']

    Raises:
        ManifestError: more than MAX_BRACES of them.
    """
    match = _BRACES.search(pattern)
    if (
        match is None
        or pattern.startswith(("http://", "https://"))
        or ("://" not in pattern and os.path.lexists(pattern))
    ):
        return [pattern]
    if match["first"] is not None:
        first, last = int(match["first"]), int(match["last"])
        if last < first:
            return [pattern]
        if last - first >= MAX_BRACES:
            raise ManifestError(f"manifest.path: {pattern}: stands for more than {MAX_BRACES:,} files")
        values = [str(n).zfill(len(match["first"])) for n in range(first, last + 1)]
    else:
        values = match["words"].split(",")
    head, tail = pattern[: match.start()], pattern[match.end() :]
    found: list[str] = []
    for value in values:
        found += expand_braces(head + value + tail)
        if len(found) > MAX_BRACES:
            raise ManifestError(f"manifest.path: {pattern}: stands for more than {MAX_BRACES:,} files")
    return found


def matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path's parts fit a pattern's parts. Names with a dot in front fit only patterns with one."""
    if not pattern:
        return not parts
    if pattern[0] == "**":
        rest = matches(parts, pattern[1:])
        return rest or bool(parts and not parts[0].startswith(".") and matches(parts[1:], pattern))
    if not parts or (parts[0].startswith(".") and not pattern[0].startswith(".")):
        return False
    if "**" in pattern[0]:
        spans = re.compile(_regex(pattern[0]))
        visible = next((i for i, part in enumerate(parts) if i and part.startswith(".")), len(parts))
        ends = [i for i in range(1, visible + 1) if spans.fullmatch("/".join(parts[:i]))]
        return any(matches(parts[i:], pattern[1:]) for i in ends)
    return fnmatch.fnmatchcase(parts[0], pattern[0]) and matches(parts[1:], pattern[1:])


def _regex(pattern: str) -> str:
    """A pattern with `**` beside other signs as a regular expression; only `**` takes a `/`."""
    signs = re.findall(r"\*{2,}|\[!?\]?[^\]]*\]|.", pattern, re.DOTALL)
    one = {"*": "[^/]*", "?": "[^/]"}
    return "".join(".*" if s.startswith("**") else one.get(s, fnmatch.translate(s)[:-2]) for s in signs)


def visible_keys(keys: Iterable[str], root: str) -> Iterator[str]:
    """Yield the S3 keys below `root` ("" or ending in "/") that are neither hidden nor of a run."""
    below = [key for key in keys if key.startswith(root)]
    runs = _run_prefixes(below)
    for key in below:
        parts = key[len(root) :].split("/")
        above = {key[: len(root)] + "".join(f"{p}/" for p in parts[:i]) for i in range(1, len(parts))}
        own = root in runs and parts[0] in _RUN_PARTS
        if not (own or any(part.startswith(".") for part in parts) or above & runs):
            yield key


def _run_prefixes(keys: Iterable[str]) -> set[str]:
    """Prefixes ("" or ending in "/") below which a run lies."""
    records: set[str] = set()
    indexes: set[str] = set()
    runs: set[str] = set()
    for key in keys:
        head, slash, name = key.rpartition("/")
        folder = head + slash
        if folder.endswith(layout.ATTEMPTS) and layout.attempt_number(layout.ATTEMPTS + name):
            runs.add(folder.removesuffix(layout.ATTEMPTS))
        elif name == layout.RUN:
            records.add(folder)
        elif key.endswith(layout.MANIFEST_INDEX):
            indexes.add(key.removesuffix(layout.MANIFEST_INDEX))
    return {prefix for prefix in runs | (records & indexes) if not prefix or prefix.endswith("/")}


def _is_run(folder: Path, names: Iterable[str]) -> bool:
    """Whether a run announces itself: an attempt's file (the first thing a run writes), or run.json and a snapshot."""
    attempts = layout.ATTEMPTS.rstrip("/")
    if attempts in names and (folder / attempts).is_dir():
        found = os.listdir(folder / attempts)  # noqa: PTH208
        if any(layout.attempt_number(layout.ATTEMPTS + name) for name in found):
            return True
    return layout.RUN in names and (folder / layout.MANIFEST_INDEX).is_file()


def _in_run(path: Path, root: Path) -> bool:
    """Whether a folder between `root` (left out) and the file is a run."""
    return any(
        _is_run(folder, os.listdir(folder))  # noqa: PTH208
        for folder in path.parents
        if folder != root and folder.is_relative_to(root)
    )
