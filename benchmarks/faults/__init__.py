"""`python -m benchmarks faults`: what a service survives, each shown on one that runs."""
