"""The lint's rules: each a function from a graph to what is wrong with it, listed in `RULES`.

Sources: operators and their restrictions from onnx-tensorrt's docs/operators.md at its 10.1 GA (commit
96e7811; opsets 9 to 20), so nothing newer than TensorRT 10.3 is let through; that Resize reads cubic, which
the page leaves out, from onnxOpImporters.cpp there (kCUBIC, with cubic_coeff_a, on the last two axes); IR
version from ONNX Runtime 1.23.
The rules of Q/DQ are in `calibration.qdq_rules`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from onnx import TensorProto, helper

from calibration import qdq_rules as qdq
from calibration.wiring import FLOATS, UPDATE_INPUTS, Problem, Wiring, label, type_name
from edge_sr.spec import LOOP_OUTPUTS

__all__ = ["MAX_IR", "OPERATORS", "OPSETS", "RULES"]

OPSETS = range(18, 21)
"""18 is what the export writes; 19 is the first with FP16 scales; 20 the last that TensorRT 10.3 reads."""

MAX_IR = 10  # ONNX Runtime 1.23

_OPERATORS = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization Cast
CastLike Ceil Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DepthToSpace
DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor Gather
GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
GreaterOrEqual GridSample GroupNormalization GRU HardSigmoid HardSwish Hardmax Identity If
InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop
LRN LSTM LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul
Neg NonMaxSuppression NonZero Not OneHot Or Pad Pow PRelu QuantizeLinear RandomNormal
RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape
Resize ReverseSequence RNN RoiAlign Round Scan ScatterElements ScatterND Selu Shape Shrink Sigmoid
Sign Sin Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh
ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Where Xor
"""
OPERATORS = frozenset(_OPERATORS.split())
"""What the parser of TensorRT 10.1 reads; 10.3's list can only be longer."""

RESIZE = {
    "mode": ("nearest", "linear", "cubic"),
    "coordinate_transformation_mode": (
        "half_pixel",
        "pytorch_half_pixel",
        "tf_half_pixel_for_nn",
        "asymmetric",
        "align_corners",
    ),
    "keep_aspect_ratio_policy": ("stretch",),
    "antialias": (0,),
}

WIDE = frozenset({TensorProto.INT64, TensorProto.UINT64, TensorProto.UINT32, TensorProto.DOUBLE})

Rule = Callable[[Wiring], Iterator[Problem]]


def opset(wiring: Wiring) -> Iterator[Problem]:
    """ONNX's own operators alone, at a version that the export writes and TensorRT 10.3 reads."""
    if wiring.opset not in OPSETS:
        yield "graph", f"opset {wiring.opset}, wanted {OPSETS[0]} to {OPSETS[-1]}"
    if other := sorted({o.domain for o in wiring.model.opset_import} - {"", "ai.onnx"}):
        yield "graph", f"operators of {', '.join(other)}, which TensorRT does not know"


def ir_version(wiring: Wiring) -> Iterator[Problem]:
    """An IR version that ONNX Runtime 1.23 reads."""
    if wiring.model.ir_version > MAX_IR:
        yield "graph", f"IR version {wiring.model.ir_version}, wanted at most {MAX_IR}"


def operator(wiring: Wiring) -> Iterator[Problem]:
    """Operators and modes that TensorRT 10.3's parser reads."""
    for node in wiring.nodes:
        if node.op_type not in OPERATORS:
            yield label(node), f"{node.op_type} is not among what TensorRT 10.3's parser is known to read"
        for attribute in node.attribute if node.op_type == "Resize" else ():
            value = helper.get_attribute_value(attribute)
            value = value.decode() if isinstance(value, bytes) else value
            if attribute.name in RESIZE and value not in RESIZE[attribute.name]:
                known = ", ".join(map(str, RESIZE[attribute.name]))
                yield label(node), f"Resize with {attribute.name} {value}: TensorRT 10.3 reads {known}"


def wide_type(wiring: Wiring) -> Iterator[Problem]:
    """No double anywhere, and no 64-bit integers but for shapes, indices known beforehand, and choices.

    ONNX gives what ArgMin writes 64 bits. TensorRT's is of 32, so it must go nowhere but to a Gather.
    """
    for name in wiring.inputs:
        if wiring.types.get(name, 0) in WIDE:
            yield f"input {name}", f"{name} is {type_name(wiring.types[name])}"
    computed = wiring.dependants(wiring.inputs)
    for name, kind in wiring.types.items():
        if kind in WIDE and name in computed and not _is_choice(wiring, name):
            yield label(computed[name]), f"{name} is computed in {type_name(kind)}"
        elif kind == TensorProto.DOUBLE and name not in wiring.inputs:
            yield name, f"{name} is double, which TensorRT rounds to float"


def _is_choice(wiring: Wiring, name: str) -> bool:
    """Whether a tensor says which rows of a table to take, and nothing else."""
    if wiring.maker(name, "ArgMin", "ArgMax") is None or name in wiring.outputs:
        return False
    return all(
        node.op_type == "Gather" and name not in node.input[:1] for node in wiring.readers.get(name, ())
    )


def step_update(wiring: Wiring) -> Iterator[Problem]:
    """The sampler's update is computed in FP32 at every precision."""
    if not LOOP_OUTPUTS.issubset(wiring.outputs):
        return
    update = wiring.dependants(name for name in UPDATE_INPUTS if name in wiring.inputs)
    for name in sorted(LOOP_OUTPUTS - update.keys()):
        yield f"output {name}", f"{name} does not depend on {', '.join(UPDATE_INPUTS)}"
    for node in {id(node): node for node in update.values()}.values():
        kinds = {wiring.types.get(name, 0) for name in (*node.input, *node.output) if name}
        if wrong := sorted(type_name(kind) for kind in kinds & (FLOATS | {0}) - {TensorProto.FLOAT}):
            yield label(node), f"{node.op_type} of the step update in {', '.join(wrong)}, wanted float"


def subgraph(wiring: Wiring) -> Iterator[Problem]:
    """What the lint does not look into."""
    for node in wiring.all_of("If", "Loop", "Scan"):
        yield label(node), f"the graph inside this {node.op_type} is not checked"


RULES: dict[str, tuple[str, Rule]] = {
    "opset": ("error", opset),
    "ir-version": ("error", ir_version),
    "operator": ("error", operator),
    "wide-type": ("error", wide_type),
    "quantised-bias": ("error", qdq.quantised_bias),
    "zero-point": ("error", qdq.zero_point),
    "unsigned": ("error", qdq.unsigned),
    "scale": ("error", qdq.scale),
    "small-scale": ("warning", qdq.small_scale),
    "half-scale-opset": ("error", qdq.half_scale_opset),
    "pair-scale": ("error", qdq.pair_scale),
    "activation-per-channel": ("error", qdq.activation_per_channel),
    "weight-axis": ("error", qdq.weight_axis),
    "weight-storage": ("warning", qdq.weight_storage),
    "pad-qdq": ("error", qdq.pad_qdq),
    "activation-qdq": ("error", qdq.activation_qdq),
    "concat-scales": ("error", qdq.concat_scales),
    "one-sided": ("error", qdq.one_sided),
    "cast-after-dq": ("error", qdq.cast_after_dq),
    "double-q": ("error", qdq.double_q),
    "shared-q": ("warning", qdq.shared_q),
    "step-update": ("error", step_update),
    "subgraph": ("warning", subgraph),
}
"""Severity and check by name."""
