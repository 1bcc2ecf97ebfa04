"""Computes metrics from stored rows, and compares runs by them. No engine, no models."""
