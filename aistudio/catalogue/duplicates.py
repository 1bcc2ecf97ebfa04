"""Which row ids occur more than once, in memory that a bucket bounds.

Numbered rows cannot clash; this is for ids that come from a manifest column.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def find_duplicates(row_ids: pa.ChunkedArray | Iterable[pa.Array], bucket: int, num_buckets: int) -> list[str]:
    """Ids that occur more than once among those whose hash falls into `bucket`, sorted.

    Every id falls into exactly one of `num_buckets` buckets, by a hash that is the same in every process, so
    the union over all buckets is every duplicate. Only the bucket's own ids are held in memory.

    Args:
        row_ids: string arrays, for example one per stored shard; may be a generator. Nulls are left out.
        bucket: 0 .. num_buckets - 1.
        num_buckets: into how many parts the ids are split.
    """
    from pandas.util import hash_array  # of the few who name a column for row ids

    assert 0 <= bucket < num_buckets
    chunks = row_ids.chunks if isinstance(row_ids, pa.ChunkedArray) else row_ids
    kept = []
    for chunk in chunks:
        ids = chunk.drop_null()
        if len(ids):
            hashes = hash_array(ids.to_numpy(zero_copy_only=False).astype(object), categorize=False)
            kept.append(ids.filter(pa.array(hashes % np.uint64(num_buckets) == bucket)))
    if not kept:
        return []
    counted = pa.chunked_array(kept).value_counts()
    return sorted(counted.field("values").filter(pc.greater(counted.field("counts"), 1)).to_pylist())
