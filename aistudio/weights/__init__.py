"""Finds, fetches, checks and caches weight files on a node. Knows no model."""
