"""Owns the names in a run folder: every key of every file is made here and nowhere else.

run.json                    what the run is and how its last attempt ended (record.py)
attempts/000001.json        one for each attempt; the newest one alone may write (attempts.py)
manifest/_index.json        the snapshot: shards and identity of the manifest (snapshot.py); written last
manifest/<shard>.parquet    candidate rows of a shard
manifest_pictures/<group>-<token>-<n>.parquet  pictures of a manifest that workers cannot reach (picture_files.py)
manifest_pictures/<group>-<token>-<n>.<tar | zip | parquet>  an archive that lies at a web address, as it is
rejected/<group>-<n>.parquet  manifest lines that could not be parsed
texts/<shard>.parquet       the shard's distinct texts and their vectors
scores/<shard>.parquet      one row for each candidate row; its presence means that the shard is done
delta/_index.json           what of the base run is this run's (delta_join.py); written last, removed at the end
delta/<step>/<n>[-<m>].parquet  the join that says it: base, new, joined while it is made, matches for the workers
gone_rows/<part>.parquet    rows of the base run that are not in this run's manifest
by_address/<step>/<n>[-<m>].parquet  the rows of one address put together, in steps (address_order.py)
by_address/frequent/<shard>[-<attempt>].parquet  what came of frequent addresses, until the run is complete
metrics/[<name>/]<file>     what an aggregation computed; without a name: the run's first one
selection/<bucket>.parquet  chosen images
selection_csv/<bucket>.csv  the same as CSV, if asked for
selection.json              what the selection went by
selection_changes/<run>/    what an earlier run had selected otherwise: a page, its files, changes/ and changes_csv/
searches/<name>/<file>      queries and results of a search
report/<path>               the HTML report
"""

import re

from aistudio.store import Store

RUN = "run.json"
ATTEMPTS = "attempts/"
MANIFEST = "manifest/"
MANIFEST_PICTURES = "manifest_pictures/"
REJECTED = "rejected/"
TEXTS = "texts/"
SCORES = "scores/"
DELTA = "delta/"
GONE = "gone_rows/"
ADDRESSES = "by_address/"
METRICS = "metrics/"
SELECTION = "selection/"
SELECTION_CSV = "selection_csv/"
SELECTION_ABOUT = "selection.json"
SELECTION_CHANGES = "selection_changes/"
SEARCHES = "searches/"
REPORT = "report/"

MANIFEST_INDEX = f"{MANIFEST}_index.json"
DELTA_INDEX = f"{DELTA}_index.json"
REPORT_INDEX = f"{REPORT}index.html"
COMPARISONS = f"{METRICS}compare_"  # of several runs with this one; a prefix
FREQUENT = 99_999  # number of the range that has the first rows of frequent addresses (address_order.py)

# Emptied when a run starts over, in this order: run.json goes last and the snapshot's index before its shards, so that
# a crash in between leaves a folder that is still refused or resumed for what it is. ATTEMPTS stays: an older attempt
# that is alive must see itself fenced off.
_SELECTED = (SELECTION, SELECTION_CSV, SELECTION_ABOUT, SELECTION_CHANGES)
_READ = (MANIFEST_INDEX, MANIFEST, MANIFEST_PICTURES)
_JOINED = (DELTA, GONE, ADDRESSES)
EMPTIED = (SCORES, TEXTS, *_JOINED, REJECTED, METRICS, SEARCHES, REPORT, *_SELECTED, *_READ, RUN)
FROM_MANIFEST = (MANIFEST, MANIFEST_PICTURES, REJECTED)  # what a snapshot consists of
WRITTEN_BY_WORKERS = (
    MANIFEST,
    MANIFEST_PICTURES,
    SCORES,
    TEXTS,
    REJECTED,
    DELTA,
    GONE,
    ADDRESSES,
)  # where a killed process may leave half-written files

_ATTEMPT = re.compile(re.escape(ATTEMPTS) + r"(\d{6,})\.json")
_PARQUET = ".parquet"
_FREQUENT_SHARDS = "frequent"


def attempt_key(number: int) -> str:
    """Return the key of an attempt's file."""
    return f"{ATTEMPTS}{number:06d}.json"


def attempt_number(key: str) -> int | None:
    """Return the number in an attempt's key, None for any other file."""
    match = _ATTEMPT.fullmatch(key)
    return int(match[1]) if match else None


def manifest_key(shard: str) -> str:
    """Return the key of a shard's candidate rows."""
    return f"{MANIFEST}{shard}{_PARQUET}"


def picture_prefix(group: str) -> str:
    """Return what the keys of the files of pictures of a group of manifest files begin with."""
    return f"{MANIFEST_PICTURES}{group}-"


def picture_key(group: str, token: str, number: int, kind: str = "parquet") -> str:
    """Return the key of the `number`-th file of pictures, or archive, of a group of manifest files.

    The token is another one each time that a manifest is read, so that no address means two pictures.
    """
    return f"{picture_prefix(group)}{token}-{number:06d}.{kind}"


def shard_prefix(number: int) -> str:
    """Return what the names of a range's shards begin with, before a dash and their numbers."""
    return _FREQUENT_SHARDS if number == FREQUENT else f"{number:05d}"


def is_frequent(shard: str) -> bool:
    """Whether a shard holds first rows of frequent addresses."""
    return shard.startswith(f"{_FREQUENT_SHARDS}-")


def rejected_key(group: str, number: int) -> str:
    """Return the key of the `number`-th file of rejected lines of a group of manifest files."""
    return f"{REJECTED}{group}-{number:06d}{_PARQUET}"


def texts_key(shard: str) -> str:
    """Return the key of a shard's text vectors."""
    return f"{TEXTS}{shard}{_PARQUET}"


def scores_key(shard: str) -> str:
    """Return the key of a shard's score file."""
    return f"{SCORES}{shard}{_PARQUET}"


def delta_key(step: str, *numbers: int) -> str:
    """Return the key of a file of the join with the base run: `step` is base, new, joined or matches."""
    return f"{DELTA}{step}/{'-'.join(f'{n:05d}' for n in numbers)}{_PARQUET}"


def delta_prefix(step: str, number: int | None = None) -> str:
    """Return what the keys of a step of the join begin with, those of its files whose first number is `number`."""
    return f"{DELTA}{step}/" if number is None else f"{DELTA}{step}/{number:05d}-"


def draft_key(shard: str) -> str:
    """Return the key of a file of the snapshot's draft."""
    return f"{ADDRESSES}draft/{shard}{_PARQUET}"


def address_key(step: str, *numbers: int) -> str:
    """Return the key of a file of the order by address: `step` is noted, firsts or rows."""
    return f"{ADDRESSES}{step}/{'-'.join(f'{n:05d}' for n in numbers)}{_PARQUET}"


def address_prefix(step: str, number: int) -> str:
    """Return what the keys of a step of the order by address begin with whose first number is `number`."""
    return f"{ADDRESSES}{step}/{number:05d}-"


def frequent_key(shard: str, attempt: int | None = None) -> str:
    """Return the key of what came of a frequent shard's pictures, in the attempt of a retry or when it was scored."""
    return f"{ADDRESSES}frequent/{shard}{'' if attempt is None else f'-{attempt:06d}'}{_PARQUET}"


def gone_key(part: int) -> str:
    """Return the key of a part of the list of rows that are gone."""
    return f"{GONE}{part:05d}{_PARQUET}"


def metrics_key(file: str, name: str | None = None) -> str:
    """Return the key of a file of an aggregation, e.g. `metrics.json`; without a name of the run's first one."""
    return f"{METRICS}{name}/{file}" if name else f"{METRICS}{file}"


def comparison_key(other: str, name: str | None = None) -> str:
    """Return the key of the comparison with a run called `other`, of the aggregations `name`."""
    return metrics_key(f"compare_{other}.json", name)


def selection_key(bucket: int, suffix: str) -> str:
    """Return the key of a bucket of chosen images; `suffix` is `parquet` or `csv`, each in a folder of its own."""
    return f"{SELECTION if suffix == 'parquet' else SELECTION_CSV}{bucket:05d}.{suffix}"


def selection_changes_folder(other: str) -> str:
    """Return the folder, with a slash at its end, of what changed in the selection since a run called `other`."""
    return f"{SELECTION_CHANGES}{other}/"


def search_key(name: str, file: str) -> str:
    """Return the key of a file of the search `name`, e.g. `results.parquet`."""
    return f"{SEARCHES}{name}/{file}"


def report_key(path: str) -> str:
    """Return the key of a file of the report."""
    return f"{REPORT}{path}"


def score_keys(store: Store) -> list[str]:
    """List the score files that are there, in the manifest's order."""
    return [e.key for e in store.list(SCORES) if e.key.endswith(_PARQUET)]


def done_shards(store: Store) -> set[str]:
    """List the shards whose score file is there."""
    return set(_shards(store, SCORES))


def text_shards(store: Store) -> set[str]:
    """List the shards whose text file is there."""
    return set(_shards(store, TEXTS))


def manifest_shards(store: Store) -> list[str]:
    """List the shards whose candidate rows are there, in the manifest's order."""
    return _shards(store, MANIFEST)


def _shards(store: Store, folder: str) -> list[str]:
    keys = [e.key for e in store.list(folder) if e.key != MANIFEST_INDEX]
    return [key.removeprefix(folder).removesuffix(_PARQUET) for key in keys]
