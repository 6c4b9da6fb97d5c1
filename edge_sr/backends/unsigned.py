"""The unsigned form of an INT8 graph, which x86 CPUs with VNNI want: activations as UINT8, the same scales.

VNNI multiplies unsigned by signed bytes, and ONNX Runtime's kernels for it want activations in that form:
with signed ones most convolutions run in FP32. A bundle ships the signed form alone, since TensorRT takes no
other. All activations of such a graph share two initialisers for their zero-points, so that the other form is
the same file but for three bytes:

    activation_zero_point   INT8 0 -> UINT8 128     q + 128: the same numbers
    rectified_zero_point    INT8 0 -> UINT8 0       what follows a Relu, never negative: the Relu becomes part
                                                    of the convolution, and clips at 255 steps, not at 127
"""

from __future__ import annotations

from edge_sr.device import describe

__all__ = ["ACTIVATION", "RECTIFIED", "VNNI", "has_vnni", "to_unsigned"]

ACTIVATION, RECTIFIED = "activation_zero_point", "rectified_zero_point"
"""Names of the initialisers that `python -m calibration` writes."""

VNNI = frozenset({"avx512_vnni", "avx_vnni"})
"""Flags of CPUs that multiply unsigned by signed bytes without overflow."""

_INT8, _UINT8 = 3, 2  # TensorProto.DataType
_ZERO_POINTS = {ACTIVATION: 128, RECTIFIED: 0}


def has_vnni() -> bool:
    """Whether this machine's CPU is one of those."""
    return not VNNI.isdisjoint(describe().cpu.flags)


def to_unsigned(model: bytes) -> bytes:
    """An ONNX file with those initialisers made unsigned; a file without them as it is.

    Args:
        model: The file. The initialisers are scalars, as protobuf writes them: fields in the order of their
            numbers.
    """
    for name, value in _ZERO_POINTS.items():
        model = model.replace(_scalar(name, _INT8, 0), _scalar(name, _UINT8, value))
    return model


def _scalar(name: str, data_type: int, value: int) -> bytes:
    """A TensorProto's fields data_type (2), name (8) and raw_data (9), for one byte of data."""
    return bytes([2 << 3, data_type, 8 << 3 | 2, len(name)]) + name.encode() + bytes([9 << 3 | 2, 1, value])
