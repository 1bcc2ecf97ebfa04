"""Tells which rows a query would have got without the filters: the reasons `filtered:<column>` of left_out.parquet.

It searches the gallery a second time, without filters, and lists only the rows that rank above the query's last result.
"""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aistudio.config import SearchSettings
from aistudio.runs.mapper import Mapper
from aistudio.search.keyed import SEPARATOR
from aistudio.search.listing import Asking, Lists, Rules, best_lists
from aistudio.search.lookup import rows_at
from aistudio.search.searched import Searchable, texts_of, where_of

Left = tuple[int, int, str]  # query, id, reason


def rows_filtered_out(
    gallery: Searchable, asking: Asking, found: Lists, rules: Rules, settings: SearchSettings, mapper: Mapper
) -> list[Left]:
    """Find at most `settings.explain` rows of each query that only a filter kept from its list.

    Args:
        gallery: without `where`.
        found: the lists with the filters.
    """
    loose = replace(asking, filter=None, code_Q=None, wanted=())
    plain = Rules(max(settings.explain, 1), "row_id", (), rules.ceiling, 0, rules.block_rows)
    last = _last_results(found, rules.top_n, asking.num_queries)
    wanted = [] if asking.filter is None else [str(v).split(SEPARATOR) for v in asking.filter.values.to_pylist()]
    out: list[Left] = []
    for part in best_lists(gallery, loose, plain, mapper):
        ids = np.unique(part.id_R)
        columns = list(dict.fromkeys([*settings.where, *(ours for _, ours in settings.filter_columns)]))
        table = rows_at(gallery.store, gallery.files, ids, columns, mapper)
        texts = {c: pa.concat_arrays([texts_of(chunk) for chunk in table[c].chunks] or [pa.array([], pa.string())])
                 for c in columns}  # fmt: skip
        allowed = {c: pc.is_in(texts[c], value_set=v).to_pylist() for c, v in where_of(settings.where)}
        values = {c: texts[c].to_pylist() for c in columns}
        rows = zip(part.query_R.tolist(), part.id_R.tolist(), part.score_R.tolist(), strict=True)
        for (q, row_id, score), place in zip(rows, np.searchsorted(ids, part.id_R).tolist(), strict=True):
            if (-score, row_id) >= last[q]:
                continue
            failing = [c for c, good in allowed.items() if not good[place]]
            if asking.filter is not None and asking.code_Q is not None:
                own = wanted[int(asking.code_Q[q])]
                for (_, ours), value in zip(settings.filter_columns, own, strict=True):
                    if not _has(values[ours][place], value, settings.filter_separator):
                        failing.append(ours)
            if failing:
                out.append((q, row_id, f"filtered:{failing[0]}"))
    return out


def _has(text: str | None, value: str, separator: str | None) -> bool:
    if text is None:
        return False
    return value == text if separator is None else value in (part.strip() for part in text.split(separator))


def _last_results(found: Lists, top_n: int, num: int) -> list[tuple[float, int]]:
    """Place of each query's last result as (-score, id); behind everything where the list is not full."""
    last = [(np.inf, 0)] * num
    for q, rank, row_id, score in zip(found.query_R, found.rank_R, found.id_R, found.score_R, strict=True):
        if rank == top_n:
            last[int(q)] = (-float(score), int(row_id))
    return last


def joined(parts: list[Lists]) -> Lists:
    """Put the lists of consecutive queries together."""
    empty, none = np.empty(0, np.int64), np.empty(0)
    arrays = {
        name: np.concatenate([empty if name != "score_R" else none, *(getattr(p, name) for p in parts)])
        for name in ("query_R", "rank_R", "id_R", "score_R", "vector_R")
    }
    relevant = tuple(np.concatenate([empty, *(p.relevant[i] for p in parts)]) for i in (0, 1))
    left_out = [one for p in parts for one in p.left_out]
    return Lists(
        **arrays, left_out=left_out, relevant=(relevant[0], relevant[1]), rows=max([p.rows for p in parts], default=0)
    )
