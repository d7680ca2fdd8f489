"""Benchmarks: what is measured, against what."""
