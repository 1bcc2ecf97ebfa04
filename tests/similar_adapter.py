"""Similar items behind the functions that the shared check calls.

PYTHONPATH=tests python ../shared/similar/check.py similar_adapter --strict
"""

import numpy as np

from aistudio.metrics.protocols import evaluate, hits_curve, image_level
from aistudio.metrics.protocols import item_level as rank_items


def retrieval(query, gallery, query_labels, gallery_labels, drop, k):
    """Means over the queries that have something relevant, and the rankings."""
    items, ranked = image_level(query, gallery, query_labels, gallery_labels, drop)
    return {**evaluate(items, k), "ranked": ranked}


def retrieval_macro(query, gallery, query_labels, gallery_labels, drop, k):
    """Means of class means."""
    items, _ = image_level(query, gallery, query_labels, gallery_labels, drop)
    return evaluate(items, k, query_labels)


def item_level(embeddings, items, category_of_item, query_image_of_item, k):
    """Items ranked by their nearest image, the query's own item left out."""
    found, ranked = rank_items(embeddings, items, category_of_item, query_image_of_item, "euclidean")
    return {**evaluate(found, [1, k]), "seed_recall": hits_curve(found, k), "ranked_items": np.stack(ranked)}
