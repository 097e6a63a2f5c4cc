"""Benchmarks: `bench/run` measures, bench/README.md holds the figures."""
