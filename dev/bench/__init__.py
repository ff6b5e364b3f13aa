"""Benchmarks of the operator beside two peers; `python -m dev.bench` writes docs/benchmarks.md."""
