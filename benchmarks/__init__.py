"""Benchmarks against bare baselines and against other libraries: ``python -m benchmarks``."""
