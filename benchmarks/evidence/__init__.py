"""Is the evidence that comes with a result worth anything? Measured where the truth is known."""
