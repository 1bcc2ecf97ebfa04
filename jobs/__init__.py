"""Thin names for `python -m jobs.<verb>`; the code is in aistudio/jobs/."""
