"""Exact search over the vectors that a run has stored. No engine, no models."""
