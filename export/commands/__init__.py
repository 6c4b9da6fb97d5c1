"""The commands of `python -m export`, by what they make."""
