"""Average precision as the literature defines it: six formulas that share a name, each under a name of its own.

With a query's ranking of the gallery, rel(j) in {0, 1}, R relevant items in the gallery and P(j) the precision of the
first j places, all of them sum P(j) rel(j) over some places and divide by some count. Per-query functions return (Q,)
float64; a query without relevant items gets 0.0.
"""

import numpy as np

from aistudio.metrics.relevant import Floats, Relevant, positive


def average_precision(items: Relevant, k: int | None = None) -> Floats:
    """Average the precision at the rank of each relevant item: (1/R) sum of P(j) rel(j); beyond K items count 0.

    `map` of trec_eval, scikit-learn (without ties) and re-identification code; with K that of ranx.

    >>> from aistudio.metrics.relevant import relevant
    >>> average_precision(relevant([0, 0], [1, 4], 1)).tolist()
    [0.75]
    >>> average_precision(relevant([0, 0], [1, 4], 1), k=3).tolist()
    [0.5]

    Args:
        k: None: no limit.
    """
    value_P = items.place_P / items.rank_P
    return items.mean(value_P if k is None else np.where(items.rank_P <= positive(k), value_P, 0.0))


def average_precision_capped(items: Relevant, k: int) -> Floats:
    """Divide the sum over the first K places by min(R, K), so that 1.0 can be reached with more than K relevant items.

    Google Landmarks, Kaggle.

    >>> from aistudio.metrics.relevant import relevant
    >>> average_precision_capped(relevant([0, 0, 0], [1, 3, 9], 1), k=2).tolist()
    [0.5]
    """
    return _sum_at(items, k) / np.maximum(np.minimum(items.num_Q, k), 1)


def average_precision_found(items: Relevant, k: int) -> Floats:
    """Divide the sum over the first K places by the number of relevant items found there; 0 where there are none.

    `map@k` of open-metric-learning, `average_precision(top_k)` of torchmetrics. Generous: one hit at place 1 and
    nothing after it gives 1.0, however many relevant items there are.

    >>> from aistudio.metrics.relevant import relevant
    >>> average_precision_found(relevant([0, 0], [1, 9], 1), k=5).tolist()
    [1.0]
    """
    return _sum_at(items, k) / np.maximum(items.sum(items.rank_P <= k), 1)


def average_precision_at_r(items: Relevant) -> Floats:
    """Average the precisions within the first R places: (1/R) sum over j <= R of P(j) rel(j).

    MAP@R of Musgrave, Belongie and Lim (2020), https://arxiv.org/abs/2003.08505, as in pytorch-metric-learning.

    >>> from aistudio.metrics.relevant import relevant
    >>> average_precision_at_r(relevant([0, 0], [1, 3], 1)).tolist()
    [0.5]
    """
    return items.mean(np.where(items.rank_P <= items.num_Q[items.query_P], items.place_P / items.rank_P, 0.0))


def average_precision_trapezoid(items: Relevant) -> Floats:
    """Average the mean of the precisions just before and just at each relevant item (the area under a trapezoid).

    (Revisited) Oxford and Paris, Holidays, and the original MATLAB code of Market-1501. The precision before the
    first place is 1.

    >>> from aistudio.metrics.relevant import relevant
    >>> average_precision_trapezoid(relevant([0], [2], 1)).tolist()
    [0.25]
    """
    before = items.rank_P - 1
    left = np.where(before == 0, 1.0, (items.place_P - 1) / np.maximum(before, 1))
    return items.mean((left + items.place_P / items.rank_P) / 2)


def _sum_at(items: Relevant, k: int) -> Floats:
    return items.sum(np.where(items.rank_P <= positive(k), items.place_P / items.rank_P, 0.0))
