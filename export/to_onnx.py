"""From a torch module to a checked ONNX file: one opset, one IR version, fixed names, a free batch axis.

Weights are rounded to FP16 once, before anything is exported, and stored in FP16 inside the FP32 graph behind
a Cast that every runtime folds when it loads: every precision of a bundle is one model, at half the size.
"""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from edge_sr.manifest import TensorEntry
from export.errors import ExportError
from export.graphs import GraphModule

OPSET = 18  # what TensorRT 10.3 and ONNX Runtime 1.23 both read; GroupNormalization is native from 21 on
IR_VERSION = 10  # ONNX Runtime 1.23, the last for Python 3.10, refuses newer ones
SMALL = 256  # initialisers of fewer values stay in FP32: biases, scales, constants of the update
DTYPES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.INT32: "int32"}


def round_weights(model: nn.Module) -> None:
    """Rounds every weight of more than `SMALL` values to FP16, in place.

    Raises:
        ExportError: A weight is not finite, or too large for FP16.
    """
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            rounded = parameter.half().float() if parameter.numel() > SMALL else parameter
            if not torch.isfinite(rounded).all():
                raise ExportError(f"{name} has values that FP16 cannot hold")
            parameter.copy_(rounded)


def export_graph(
    module: GraphModule, inputs: dict[str, torch.Tensor], path: Path
) -> tuple[list[TensorEntry], list[TensorEntry]]:
    """Exports one graph.

    Args:
        module: Names its own inputs and outputs.
        inputs: Example inputs by name; those of `module.inputs` are used. Their batch size is above 1.
        path: Where the file goes.

    Returns:
        The manifest's entries for the inputs and for the outputs.

    Raises:
        ExportError: torch could not export it, or ONNX's checker refuses the result.
    """
    arguments = tuple(inputs[name] for name in module.inputs)
    try:
        with warnings.catch_warnings(), _quiet_exporter(), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's and onnxscript's own deprecations, inside the exporter
            program = torch.onnx.export(
                module,
                arguments,
                input_names=list(module.inputs),
                output_names=list(module.outputs),
                opset_version=OPSET,
                dynamic_shapes=_free_batch(module, len(arguments)),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ExportError(f"{path.name}: torch cannot export it: {_reason(error)}") from error
    assert program is not None
    model = finish(program.model_proto)
    onnx.save(model, path)
    return tensor_entries(model)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keeps the exporter from telling that torchvision, which nothing here needs, is not installed."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _free_batch(module: GraphModule, count: int) -> tuple[Any, ...]:
    """The first axis of every argument as one symbol, in the shape of `forward`'s signature."""
    free = [{0: torch.export.Dim("N", min=1, max=64)}] * count
    parameters = inspect.signature(module.forward).parameters.values()
    named = sum(parameter.kind is not parameter.VAR_POSITIONAL for parameter in parameters)
    return (*free[:named], tuple(free[named:])) if count > named else tuple(free)


def _reason(error: BaseException) -> str:
    """The first line of what an error came from: torch's own says no more than that it failed."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().split("\n", 1)[0]


def finish(model: onnx.ModelProto) -> onnx.ModelProto:
    """Sets the IR version, stores weights in FP16, drops what tells of this machine, and checks the graph.

    Raises:
        ExportError: Another opset than asked for, or ONNX's checker refuses the graph.
    """
    opsets = {o.domain: o.version for o in model.opset_import if o.domain in ("", "ai.onnx")}
    if set(opsets.values()) != {OPSET}:
        raise ExportError(f"wanted opset {OPSET}, torch wrote {opsets}")
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", OPSET))
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version, model.doc_string = "edge-sr", "", ""
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    del model.graph.value_info[:]
    _drop_index_casts(model)
    store_weights_in_half(model)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # its exceptions share no public base class
        raise ExportError(f"ONNX's checker refuses the graph: {error}") from error
    return model


def _drop_index_casts(model: onnx.ModelProto) -> None:
    """Has Gather read its int32 rows as they are, which torch widens to int64 for it alone."""
    nodes = model.graph.node
    for cast in [node for node in nodes if node.op_type == "Cast"]:
        readers = [node for node in nodes if cast.output[0] in node.input]
        if readers and all(node.op_type == "Gather" and node.input[1] == cast.output[0] for node in readers):
            for gather in readers:
                gather.input[1] = cast.input[0]
            nodes.remove(cast)


def store_weights_in_half(model: onnx.ModelProto) -> None:
    """Replaces each large FP32 initialiser that FP16 holds exactly by an FP16 one and a Cast."""
    graph, casts = model.graph, []
    for index, tensor in enumerate(graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) <= SMALL:
            continue
        values = numpy_helper.to_array(tensor)
        half = values.astype(np.float16)
        if np.array_equal(half.astype(np.float32), values):
            stored = f"{tensor.name}.half"
            casts.append(
                helper.make_node(
                    "Cast", [stored], [tensor.name], name=f"cast.{tensor.name}", to=TensorProto.FLOAT
                )
            )
            graph.initializer[index].CopyFrom(numpy_helper.from_array(half, stored))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def tensor_entries(model: onnx.ModelProto) -> tuple[list[TensorEntry], list[TensorEntry]]:
    """The manifest's entries for the inputs and outputs of a graph."""
    sides = []
    for values in (model.graph.input, model.graph.output):
        side = []
        for value in values:
            tensor = value.type.tensor_type
            shape = tuple(d.dim_param or d.dim_value for d in tensor.shape.dim)
            fields = {"name": value.name, "dtype": DTYPES[tensor.elem_type], "shape": shape}
            side.append(TensorEntry.model_validate(fields))
        sides.append(side)
    return sides[0], sides[1]
