"""Calibration and quantisation: records what flows through a bundle's graphs, and rewrites them in FP16 and INT8."""
