"""Where a run's images came from, and whether one host alone kept it waiting: what advice on its speed must know."""

from collections import Counter
from collections.abc import Mapping

import numpy as np

from aistudio.config import DownloadSettings
from aistudio.images.urls import BadURL, Target, parse_target
from aistudio.run_record import SilentHost, Sources
from aistudio.runs import layout
from aistudio.schema import Status
from aistudio.store import Store

_FILES = 20  # score files looked into, all over the run
_SILENT = (Status.TIMEOUT.value, Status.CONNECTION_ERROR.value)  # waited for in vain
_ONE_HOST = 0.8  # of these rows: then the others do not matter
_NOTICEABLE = 0.05  # of all rows: fewer cost little beside the good ones


def sources(store: Store, settings: DownloadSettings) -> Sources:
    """Look where images came from in score files all over the run, and for one host that did not answer."""
    keys = layout.score_keys(store)
    kinds: Counter[str] = Counter()
    silent: Counter[str] = Counter()
    for i in np.unique(np.linspace(0, len(keys) - 1, min(_FILES, len(keys))).astype(int)) if keys else ():
        table = store.read_table(keys[i], ["image_url", "status"])
        for url, status in zip(table["image_url"].to_pylist(), table["status"].to_pylist(), strict=True):
            kind, host = _where(url, settings.url_map)
            kinds[kind] += 1
            if status in _SILENT and host:
                silent[host] += 1
    total = kinds.total()
    return Sources(looked_at=total, kinds=dict(kinds), silent_host=_silent_host(silent, total))


def _where(url: str, url_map: Mapping[str, str]) -> tuple[str, str | None]:
    try:
        target: Target = parse_target(url, url_map)
    except BadURL:
        return "other", None
    return target.scheme, target.url.host if target.url is not None else None


def _silent_host(silent: Counter[str], looked_at: int) -> SilentHost | None:
    if not silent or silent.total() < _NOTICEABLE * looked_at:
        return None
    host, rows = silent.most_common(1)[0]
    return SilentHost(host=host, rows=rows) if rows >= _ONE_HOST * silent.total() else None
