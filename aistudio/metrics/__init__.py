"""Metrics as pure functions on arrays: no engine, no store, no file.

retrieval.py (from exact ranks), composed.py (from ranked lists, by the papers' protocols),
pairs.py (two images of one item), classification.py (labels and probabilities),
significance.py (bootstrap, randomisation test, Holm), slices.py (by group).
"""
