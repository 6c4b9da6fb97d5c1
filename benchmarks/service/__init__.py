"""`python -m benchmarks service`: the service under load, in batches of several sizes."""
