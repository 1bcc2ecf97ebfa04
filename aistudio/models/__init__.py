"""Recall and ranking models. A family is one file here; files that begin with `_` support them."""
