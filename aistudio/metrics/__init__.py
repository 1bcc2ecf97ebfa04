"""Metrics as pure functions on arrays: no engine, no store, no file.

relevant.py (ranks of the relevant rows), retrieval.py and average_precision.py (from these), ranking.py and
protocols.py (similar items, on vectors in memory), composed.py (from ranked lists, by the papers' protocols),
chance.py (a random order), pairs.py (two images of one item), classification.py (labels and probabilities), survey.py
(what people prefer: preference.py, clusters.py, rank_answers.py, strengths.py), significance.py (bootstrap,
randomisation test, Holm), slices.py (by group).
"""
