"""What TensorRT's own command would be told to do the same: build the engines, and time them."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from edge_sr.bundle import Bundle
from edge_sr.device import describe
from edge_sr.doctor import trtexec_line
from edge_sr.manifest import GraphFile
from edge_sr.spec import BATCH, Precision

__all__ = ["BUILT", "BY_HAND", "trtexec_lines"]

BUILT = (Precision.FP32, Precision.FP16, Precision.INT8_FP16)
"""The other INT8 form is ONNX Runtime's."""

BY_HAND = (
    "edge-sr opens no engine that was built by hand; these commands have not been run on a board, and "
    "TensorRT older than 10.3 may not read graphs of opset 18"
)


def trtexec_lines(
    bundle: Bundle, *, precisions: Sequence[Precision] = BUILT, batch: int = 1, flags: str = ""
) -> Iterator[str]:
    """The command for every graph of a bundle; none for what the GPU cannot do.

    Args:
        bundle: Whose graphs.
        precisions: Which of them.
        batch: Samples at once.
        flags: What else the command is told.
    """
    here = describe()
    lacks = {Precision.INT8_FP16} if here.gpu and here.gpu.has_int8 is False else set()
    for component, graphs in bundle.manifest.graphs.items():
        for precision in (p for p in precisions if p in graphs and p not in lacks):
            entry = graphs[precision]
            line = trtexec_line(
                shlex.quote(str(bundle.folder / entry.file)),
                f"{component}-{precision}.plan",
                shapes=_shapes(entry, batch),
                tensorrt=here.software.tensorrt,
                command=here.trtexec or "trtexec",
            )
            yield f"{line} {flags}".rstrip()


def _shapes(entry: GraphFile, batch: int) -> str:
    """The inputs' shapes as trtexec takes them."""
    return ",".join(
        f"{tensor.name}:{'x'.join(str(batch) if n == BATCH else str(n) for n in tensor.shape)}"
        for tensor in entry.inputs
    )
