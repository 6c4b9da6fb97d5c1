"""The lint's rules on QuantizeLinear and DequantizeLinear: what TensorRT reads, and where they belong.

Sources: NvInfer.h v10.3.0, IQuantizeLayer and IDequantizeLayer, for what is read; issues 2592 (Pad) and 4401
(Concat) of NVIDIA/TensorRT for placement; the ONNX operator specification for element types.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, TensorProto

from calibration.wiring import PASS_THROUGH, WEIGHTED, Problem, Wiring, label, quantised_sides, type_name

__all__ = [
    "ACTIVATIONS",
    "activation_per_channel",
    "activation_qdq",
    "cast_after_dq",
    "concat_scales",
    "double_q",
    "half_scale_opset",
    "one_sided",
    "pad_qdq",
    "pair_scale",
    "quantised_bias",
    "scale",
    "shared_q",
    "small_scale",
    "unsigned",
    "weight_axis",
    "weight_storage",
    "zero_point",
]

ACTIVATIONS = frozenset(
    {"Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "HardSwish", "HardSigmoid", "Elu"}
)
WEIGHT_AXIS = {"Conv": 0, "ConvTranspose": 1}
QDQ = ("QuantizeLinear", "DequantizeLinear")
HALF_SCALE_OPSET = 19  # QuantizeLinear-13 knows float32 alone; ONNX Runtime refuses FP16 there
SMALLEST_NORMAL_HALF = float(np.finfo(np.float16).tiny)


def quantised_bias(wiring: Wiring) -> Iterator[Problem]:
    """No bias in INT32: TensorRT's parser rejects its DequantizeLinear."""
    for node in wiring.all_of("DequantizeLinear"):
        if TensorProto.INT32 in (wiring.types.get(name, 0) for name in (node.input[0], *node.input[2:])):
            yield label(node), f"{node.input[0]} is int32: leave the bias in float (QuantizeBias=False)"


def zero_point(wiring: Wiring) -> Iterator[Problem]:
    """Zero-points are constant and zero."""
    for node in wiring.all_of(*QDQ):
        if len(node.input) < 3 or not node.input[2]:
            continue
        value = wiring.constant(node.input[2])
        if value is None:
            yield label(node), f"zero-point {node.input[2]} is not constant"
        elif value.size and np.any(value):
            yield label(node), f"zero-point {value.flat[int(np.argmax(value != 0))]}, wanted 0"


def unsigned(wiring: Wiring) -> Iterator[Problem]:
    """Quantised tensors are int8; a QuantizeLinear without a zero-point makes uint8."""
    for node in wiring.all_of(*QDQ):
        quantised = node.output[0] if node.op_type == "QuantizeLinear" else node.input[0]
        if wiring.types.get(quantised, 0) == TensorProto.UINT8:
            why = "" if len(node.input) > 2 else ", as is the rule without a zero-point"
            yield label(node), f"{quantised} is uint8{why}; TensorRT reads int8 alone"


def scale(wiring: Wiring) -> Iterator[Problem]:
    """Scales are constant, positive, and FP32 or FP16."""
    for node in wiring.all_of(*QDQ):
        name = node.input[1]
        value, kind = wiring.constant(name), wiring.types.get(name, 0)
        if value is None:
            yield label(node), f"scale {name} is not constant"
        elif kind not in (TensorProto.FLOAT, TensorProto.FLOAT16):
            yield label(node), f"scale {name} is {type_name(kind)}, wanted float or float16"
        elif not (value.size and np.all(np.isfinite(value)) and np.all(value > 0)):
            least = value.min() if value.size else "nothing"
            yield label(node), f"scale {name} holds {least}, wanted above 0"


def small_scale(wiring: Wiring) -> Iterator[Problem]:
    """FP16 scales are normal numbers; smaller ones lose digits, and may be flushed to zero."""
    for node in wiring.all_of(*QDQ):
        value = wiring.constant(node.input[1])
        if value is None or wiring.types.get(node.input[1]) != TensorProto.FLOAT16 or not value.size:
            continue
        if 0 < (least := float(value.min())) < SMALLEST_NORMAL_HALF:
            yield (
                label(node),
                f"FP16 scale {least:.3g}, wanted a normal number: {SMALLEST_NORMAL_HALF:.3g} or more",
            )


def half_scale_opset(wiring: Wiring) -> Iterator[Problem]:
    """FP16 in Q/DQ wants opset 19."""
    for node in wiring.all_of(*QDQ) if wiring.opset < HALF_SCALE_OPSET else ():
        if wiring.types.get(node.input[1]) == TensorProto.FLOAT16:
            yield label(node), f"an FP16 scale at opset {wiring.opset}: ONNX Runtime wants {HALF_SCALE_OPSET}"


def pair_scale(wiring: Wiring) -> Iterator[Problem]:
    """What is quantised with one scale is not dequantised with another."""
    for node in wiring.all_of("DequantizeLinear"):
        source = wiring.maker(node.input[0], "QuantizeLinear")
        if source is not None and not _same_scale(wiring, source, node):
            yield label(node), f"another scale than that of {label(source)}, which quantised its input"


def activation_per_channel(wiring: Wiring) -> Iterator[Problem]:
    """Activations have one scale; only weights may have one a channel."""
    for node in wiring.all_of(*QDQ):
        value = wiring.constant(node.input[1])
        if value is not None and value.size > 1 and not wiring.is_constant(node.input[0]):
            yield label(node), f"{value.size} scales for {node.input[0]}, which is no weight; wanted one"


def weight_axis(wiring: Wiring) -> Iterator[Problem]:
    """Scales of weights go along the output channels: axis 0 of Conv, 1 of ConvTranspose."""
    for node in wiring.all_of(*WEIGHT_AXIS):
        dequantise = wiring.maker(wiring.origin(node.input[1], PASS_THROUGH), "DequantizeLinear")
        if dequantise is None:
            continue
        value, wanted = wiring.constant(dequantise.input[1]), WEIGHT_AXIS[node.op_type]
        axis = next((a.i for a in dequantise.attribute if a.name == "axis"), 1)  # ONNX's default
        if value is not None and value.size > 1 and axis != wanted:
            yield label(dequantise), f"scales along axis {axis} of {label(node)}'s weights, wanted {wanted}"


def weight_storage(wiring: Wiring) -> Iterator[Problem]:
    """Quantised weights are stored as int8: half the size, and one DequantizeLinear for TensorRT to fold."""
    for node in wiring.all_of("QuantizeLinear"):
        if wiring.is_constant(node.input[0]):
            yield label(node), f"{node.input[0]} is constant: store it as int8, with DequantizeLinear alone"


def pad_qdq(wiring: Wiring) -> Iterator[Problem]:
    """Nothing between Pad and Conv, or they do not fuse (TensorRT #2592)."""
    for quantise, _, readers in _pairs(wiring):
        pad = wiring.maker(quantise.input[0], "Pad")
        conv = next((reader for reader in readers if reader.op_type in WEIGHT_AXIS), None)
        if pad is not None and conv is not None:
            yield label(quantise), f"Q/DQ between {label(pad)} and {label(conv)}: quantise before the Pad"


def activation_qdq(wiring: Wiring) -> Iterator[Problem]:
    """Nothing between a convolution and its activation, or they do not fuse."""
    for quantise, _, readers in _pairs(wiring):
        conv = wiring.maker(quantise.input[0], *WEIGHT_AXIS)
        after = next((reader for reader in readers if reader.op_type in ACTIVATIONS), None)
        if conv is not None and after is not None:
            yield label(quantise), f"Q/DQ between {label(conv)} and its {label(after)}: quantise after it"


def concat_scales(wiring: Wiring) -> Iterator[Problem]:
    """All inputs of a Concat have one scale, or none has any; else it is not fused (TensorRT #4401)."""
    for node in wiring.all_of("Concat"):
        pairs = [wiring.maker(wiring.origin(name, PASS_THROUGH), "DequantizeLinear") for name in node.input]
        present = [pair for pair in pairs if pair is not None]
        if present and len(present) < len(pairs):
            yield label(node), f"only {len(present)} of its {len(pairs)} inputs are quantised"
        elif any(not _same_scale(wiring, present[0], other) for other in present[1:]):
            values = (wiring.constant(pair.input[1]) for pair in present)
            scales = ", ".join(sorted({f"{value.max():.4g}" for value in values if value is not None}))
            yield label(node), f"its inputs have scales {scales}: use one, or split the convolution after it"


def one_sided(wiring: Wiring) -> Iterator[Problem]:
    """A convolution is quantised on both inputs or on none."""
    for node in wiring.all_of(*WEIGHTED):
        data, weights = quantised_sides(wiring, node)
        if data != weights:
            yield label(node), f"only its {'data' if data else 'weights'} are quantised: no INT8 for it"


def cast_after_dq(wiring: Wiring) -> Iterator[Problem]:
    """What DequantizeLinear writes goes straight to the convolution, in the scale's type."""
    for node in wiring.all_of("DequantizeLinear"):
        for cast in wiring.read_by(node.output[0], ("Cast",)):
            yield label(node), f"{label(cast)} stands behind it: store the scale in the type that is wanted"


def double_q(wiring: Wiring) -> Iterator[Problem]:
    """Nothing is quantised twice in a row."""
    for node in wiring.all_of("QuantizeLinear"):
        if (before := wiring.maker(node.input[0], *QDQ)) is not None:
            yield label(node), f"quantises again what comes from {label(before)}"


def shared_q(wiring: Wiring) -> Iterator[Problem]:
    """One QuantizeLinear a tensor, shared by all that read it."""
    for name in wiring.readers:
        several = [node for node in wiring.read_by(name, ("QuantizeLinear",)) if node.input[0] == name]
        if len(several) > 1:
            yield label(several[0]), f"{name} is quantised {len(several)} times: share one"


def _pairs(wiring: Wiring) -> Iterator[tuple[NodeProto, NodeProto, list[NodeProto]]]:
    """Each Q and DQ that follow one another, and what reads the result."""
    for dequantise in wiring.all_of("DequantizeLinear"):
        quantise = wiring.maker(dequantise.input[0], "QuantizeLinear")
        if quantise is not None:
            yield quantise, dequantise, wiring.readers.get(dequantise.output[0], [])


def _same_scale(wiring: Wiring, one: NodeProto, other: NodeProto) -> bool:
    first, second = (wiring.constant(node.input[1]) for node in (one, other))
    return first is None or second is None or np.array_equal(first, second, equal_nan=True)
