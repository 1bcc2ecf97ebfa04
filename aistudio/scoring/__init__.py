"""Scores one shard: rows and the stream of their images go in, one score table comes out. No engine."""
