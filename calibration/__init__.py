"""Calibration and quantisation: records what a bundle computes, and rewrites its graphs in FP16 and INT8."""
