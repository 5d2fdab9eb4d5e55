"""Measurements: ``python -m benchmarks``. Every figure is the median of several runs, its spread beside it."""
