"""What calibration raises on purpose."""

from __future__ import annotations

from edge_sr.errors import EdgeSRError

__all__ = ["CalibrationError"]


class CalibrationError(EdgeSRError):
    """Images, a recording or a graph that INT8 or FP16 graphs cannot be made from."""
