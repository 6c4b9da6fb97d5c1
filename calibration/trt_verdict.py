"""`python -m calibration verdict`: every graph of a bundle, parsed and built by TensorRT-RTX without a GPU.

The proof is called `rtx-portable`: `calibration.trt_report.LIMITS` says what it is not.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from calibration.trt_network import (
    QUANTISED,
    ParsedNetwork,
    excluded_problems,
    inspect,
    int8_layers,
    normalizations,
    read_network,
)
from calibration.trt_report import (
    BATCHES,
    PROOF,
    TARGETS,
    GraphVerdict,
    Verdict,
    as_markdown,
    write_verdict,
)
from calibration.wiring import Finding, Wiring, read_model
from edge_sr.backends.trt_library import Library, open_library
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError
from edge_sr.manifest import Manifest
from edge_sr.spec import Graph, Precision

if TYPE_CHECKING:
    import tensorrt as trt

__all__ = ["judge", "judge_graph", "open_rtx", "verdict_command"]

INSTALL = "pip install tensorrt-rtx-cu13 (about 95 MB; needs no GPU)"


def open_rtx() -> Library:
    """TensorRT-RTX.

    Raises:
        BackendError: It is not installed, or does not know the targets.
    """
    try:
        library = open_library("tensorrt_rtx")
    except BackendError as error:
        raise BackendError(error.message, hint=INSTALL) from error
    if missing := set(TARGETS) - set(library.portable_targets):
        raise BackendError(f"{library} does not build for {', '.join(sorted(missing))}", hint=INSTALL)
    return library


def judge(
    bundle: Bundle,
    library: Library,
    *,
    precisions: tuple[Precision, ...] = tuple(Precision),
    tell: Callable[[GraphVerdict], None] = lambda graph: None,
) -> Verdict:
    """Every graph of a bundle, one after the other.

    Args:
        bundle: The bundle.
        library: From `open_rtx`.
        precisions: Which graphs.
        tell: Is given each graph's verdict as it is known.

    Raises:
        CalibrationError: A graph is no ONNX file.
        BundleError: A graph was changed.
    """
    verdicts = []
    for graph in _graphs(bundle, precisions):
        verdicts.append(judge_graph(graph, library, bundle.manifest))
        tell(verdicts[-1])
    return Verdict(str(library), bundle.manifest.name, bundle.digest, tuple(verdicts))


def judge_graph(graph: Graph, library: Library, manifest: Manifest | None = None) -> GraphVerdict:
    """One graph: parsed, inspected, built.

    Args:
        graph: The graph.
        library: From `open_rtx`.
        manifest: Where its calibration record is; None where there is none to be held against.

    Raises:
        CalibrationError: It is no ONNX file.
    """
    wiring = Wiring(read_model(graph.path))
    builder: trt.Builder = library.module.Builder(library.logger)
    flags = 1 << int(library.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network: trt.INetworkDefinition = builder.create_network(flags)
    parser: trt.OnnxParser = library.module.OnnxParser(network, library.logger)  # holds the network's weights
    library.complaints.clear()
    if not parser.parse_from_file(str(graph.path)):
        return _verdict(graph, wiring, findings=_refusals(parser, library))
    parsed = read_network(network)
    has_record = manifest is not None and manifest.calibration is not None
    found = inspect(parsed, wiring, graph.precision, has_record=has_record)
    findings = [*found, *_against_record(graph, wiring, manifest)]
    plan_bytes = _build(library, builder, network)
    if not plan_bytes:
        findings.append(Finding("build", "error", "graph", library.complaint()))
    return _verdict(graph, wiring, parsed, plan_bytes=plan_bytes, findings=findings)


def _graphs(bundle: Bundle, precisions: tuple[Precision, ...]) -> Iterator[Graph]:
    for component, graphs in bundle.manifest.graphs.items():
        for precision in (p for p in precisions if p in graphs):
            yield bundle.graph(component, precision)


def _verdict(
    graph: Graph,
    wiring: Wiring,
    parsed: ParsedNetwork | None = None,
    *,
    findings: list[Finding],
    plan_bytes: int = 0,
) -> GraphVerdict:
    layers = parsed.counts() if parsed else {}
    return GraphVerdict(
        component=str(graph.component),
        precision=str(graph.precision),
        file=graph.path.name,
        sha256=graph.sha256,
        is_parsed=parsed is not None,
        plan_bytes=plan_bytes,
        int8=len(int8_layers(parsed)) if parsed else 0,
        weighted=sum(layers.get(k, 0) for k in ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY")),
        normalizations=normalizations(wiring),
        layers=layers,
        findings=tuple(findings),
    )


def _refusals(parser: trt.OnnxParser, library: Library) -> list[Finding]:
    """What the parser does not read, by node."""
    errors = [parser.get_error(place) for place in range(parser.num_errors)]
    found = [
        Finding("parse", "error", e.node_name() or "graph", f"{e.node_operator()}: {e.desc()}")
        for e in errors
    ]
    return found or [Finding("parse", "error", "graph", library.complaint())]


def _against_record(graph: Graph, wiring: Wiring, manifest: Manifest | None) -> list[Finding]:
    """A quantised graph against the calibration record of its bundle."""
    if manifest is None or graph.precision not in QUANTISED:
        return []
    if manifest.calibration is None:
        return [Finding("record", "error", "graph", "the bundle has no calibration record")]
    prefix = f"{graph.component}/"  # the record's names are as in "step/unet.conv_in"
    names = manifest.calibration.excluded
    excluded = frozenset(name.removeprefix(prefix) for name in names if name.startswith(prefix))
    problems = excluded_problems(wiring, excluded)
    return [Finding("record", "error", node, message) for node, message in problems]


def _build(library: Library, builder: trt.Builder, network: trt.INetworkDefinition) -> int:
    """The size of the engine for all targets, in bytes; 0 where TensorRT builds none."""
    module, config = library.module, builder.create_builder_config()
    config.clear_flag(module.BuilderFlag.TF32)  # on by default; "fp32" is to mean FP32
    config.num_compute_capabilities = len(TARGETS)
    for place, target in enumerate(TARGETS):
        config.set_compute_capability(
            getattr(module.ComputeCapability, f"SM{target.replace('.', '')}"), place
        )
    profile: Any = builder.create_optimization_profile()
    for tensor in (network.get_input(place) for place in range(network.num_inputs)):
        rest = tuple(tensor.shape)[1:]
        profile.set_shape(tensor.name, *((batch, *rest) for batch in BATCHES))
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    return 0 if plan is None else int(plan.nbytes)


@click.command("verdict")
@click.argument("bundle", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--precision", multiple=True, type=click.Choice([str(p) for p in Precision]), help="Only these."
)
@click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help=f"Folder for {PROOF}.json and .md."
)
@click.option("--json", "as_object", is_flag=True, help="One JSON object instead of Markdown.")
@click.pass_context
def verdict_command(
    context: click.Context, bundle: Path, *, precision: tuple[str, ...], out: Path | None, as_object: bool
) -> None:
    """Parse and build every graph of BUNDLE with TensorRT-RTX, which needs no GPU, and inspect the networks.

    Exits 1 where a graph is refused, or is not what its precision says.
    """
    library, chosen = open_rtx(), tuple(map(Precision, precision)) or tuple(Precision)
    verdict = judge(Bundle.open(bundle), library, precisions=chosen, tell=_tell)
    if out is not None:
        write_verdict(verdict, out)
    click.echo(json.dumps(verdict.as_json(), indent=1) if as_object else as_markdown(verdict))
    if not verdict.is_good:
        context.exit(1)


def _tell(graph: GraphVerdict) -> None:
    """A line of progress, where there is somebody to read it."""
    if sys.stderr.isatty():
        click.echo(f"{graph.file}: {'good' if graph.is_good else 'not good'}", err=True)
