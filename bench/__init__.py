"""Benchmarks: `bench/run` measures, the pages beside it hold the figures."""
