"""The report: one page made of result files, for the person who decides."""
