"""Judging: quality, speed and peers, each result written with its raw values to `benchmarks/results`."""
