"""Do tiles show? Images of several tiles, blended at the end and, for comparison, at every step."""
