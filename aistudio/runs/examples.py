"""Shows one failed row for each status, so that a ledger says more than numbers."""

import pyarrow.compute as pc

from aistudio.errors import StoreError
from aistudio.runs import layout
from aistudio.runs.ledger import Ledger
from aistudio.schema import Status
from aistudio.store import Store


def examples(store: Store, ledger: Ledger) -> dict[str, str]:
    """Return an error and its address for each failed status, from the first files that have it."""
    wanted = {s for s in ledger.counts if s != Status.OK}
    found: dict[str, str] = {}
    for entry in store.list(layout.SCORES):
        if not wanted - found.keys():
            break
        try:
            table = store.read_table(entry.key, ["status", "error", "image_url"])
        except StoreError:
            continue  # the ledger names it
        for row in table.filter(pc.not_equal(table["status"], Status.OK)).to_pylist():
            found.setdefault(row["status"], f"{row.get('error') or ''} ({row.get('image_url', 'no address')})".strip())
    return found
