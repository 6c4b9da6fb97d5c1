"""`python -m benchmarks roofline`: stages and peaks in turns, and how near the one comes to the other."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx
import torch

from benchmarks.environment import environment
from benchmarks.loop import take_turns, timing
from benchmarks.quality import bundle_facts
from benchmarks.roofline.operators import KINDS, profile, shares
from benchmarks.roofline.peaks import Probe, bandwidth_probe, product_probes
from benchmarks.roofline.records import Rate, RooflineResult, StageResult
from benchmarks.rows import Track, draw_noise, require_parts
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.pipeline import Upscaler
from edge_sr.roofline import GraphCost, Peak, bound_ms, cost_of
from edge_sr.spec import OUTPUT, Component, Precision
from export.bundle import phantom
from export.cost import count_macs

__all__ = ["Request", "run_roofline"]

Float = npt.NDArray[np.float32]
Key = tuple[Component, Precision]
Seconds = dict[str, float]  # of what a subject measures, by name
MEMORY, ALL = "copy in memory", "all"
MEMORY_BYTES = 1 << 30  # a copy beyond any cache
SEED = 0
PRODUCTS = next(iter(KINDS))
KIND: dict[Precision | None, Literal["fp32", "int8", "bytes"]] = {
    Precision.FP32: "fp32",
    Precision.INT8: "int8",
    None: "bytes",
}


@dataclass(frozen=True)
class Request:
    """What is measured, and how.

    Attributes:
        bundle: Its folder.
        rounds: Measurements of each.
        threads: CPU threads; 0 for all cores.
    """

    bundle: Path
    rounds: int = 20
    threads: int = 0


def run_roofline(request: Request, *, arguments: Sequence[str], track: Track) -> RooflineResult:
    """Measures a bundle's stages and the machine's peaks.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle cannot be used, or does not say what its graphs cost.
    """
    bundle = Bundle.open(request.bundle)
    require_parts(bundle, "roofline")
    wanted = (Precision.FP32, Precision.INT8)
    precisions: list[Precision] = [p for p in wanted if p in bundle.precisions()]
    costs = {(c, p): cost_of(bundle.manifest, c, p) for p in precisions for c in Component}
    with ExitStack() as stack:
        upscalers = {p: stack.enter_context(_open(bundle, p, request.threads)) for p in precisions}
        facts = bundle_facts(upscalers[precisions[-1]])
        threads = int(facts.backend["threads"])
        torch.set_num_threads(threads)
        probes = [*product_probes(threads), *_copies(costs)]
        rates, stages = _measure(probes, upscalers, request.rounds, track)
    tops = {p: _best(rates, p) / 1e12 for p in (Precision.FP32, Precision.INT8)}
    copies = {rate.name: rate.per_second / 1e9 for rate in rates if rate.kind == "bytes"}
    results = [
        _stage(bundle, key, costs[key], stages[key], tops, copies[_copy_name(key)], threads)
        for key in track(list(costs), "profiles")
    ]
    preset = bundle.diffusion.presets[bundle.diffusion.default]
    return RooflineResult(
        environment=environment(arguments, threads=threads),
        bundle=facts,
        rounds=request.rounds,
        steps=preset.steps,
        rates=tuple(rates),
        fp32_tops=tops[Precision.FP32],
        int8_tops=tops[Precision.INT8],
        memory_gb_s=copies.pop(MEMORY),
        bandwidth_gb_s=copies,
        stages=tuple(results),
        words=tuple(map(in_words, results)),
    )


def _open(bundle: Bundle, precision: Precision, threads: int) -> Upscaler:
    return Upscaler(bundle, open_backend("onnxruntime", threads=threads), precision=precision)


def _copy_name(key: Key) -> str:
    return f"{key[0]}, {key[1]}"


def _copies(costs: Mapping[Key, GraphCost]) -> list[Probe]:
    """A copy as large as each graph's traffic, which a cache may hold, and one that none holds."""
    sizes = {_copy_name(key): cost.weight_bytes + cost.activation_bytes for key, cost in costs.items()}
    return [bandwidth_probe(name, size) for name, size in {**sizes, MEMORY: MEMORY_BYTES}.items()]


def _measure(
    probes: Sequence[Probe], upscalers: Mapping[Precision, Upscaler], rounds: int, track: Track
) -> tuple[list[Rate], dict[Key, list[float]]]:
    """Peaks and stages in turns, so that what disturbs the machine meets all of them."""
    subjects: dict[str, Callable[[], Seconds]] = {str(i): _timer(probe) for i, probe in enumerate(probes)}
    subjects |= {str(p): _runner(upscaler) for p, upscaler in upscalers.items()}
    found = take_turns(subjects, repeats=rounds, track=track)
    rates = [_rate(probe, [run[ALL] for run in found[str(i)]]) for i, probe in enumerate(probes)]
    stages = {(c, p): [run[str(c)] for run in found[str(p)]] for p in upscalers for c in Component}
    return rates, stages


def _timer(probe: Probe) -> Callable[[], Seconds]:
    return lambda: {ALL: probe.seconds()}


def _rate(probe: Probe, seconds: list[float]) -> Rate:
    return Rate(
        name=probe.name,
        kind=KIND[probe.precision],
        per_second=probe.operations / min(seconds),
        seconds=timing(seconds, note=probe.name),
    )


def _runner(upscaler: Upscaler) -> Callable[[], Seconds]:
    """Runs one tile, and says what one run of each graph took."""
    manifest, diffusion = upscaler.bundle.manifest, upscaler.bundle.diffusion
    preset = diffusion.presets[diffusion.default]
    engine = upscaler.tile_engine(preset, 1)
    image = phantom(manifest.tile, manifest.channels)[None]
    first, drawn = draw_noise(engine, preset, seed=SEED)
    made = np.empty(engine.buffers[OUTPUT].shape, np.float32)

    def run() -> Seconds:
        spent = engine.run(image, first, drawn, made)
        step = spent.loop / len(engine.schedule.steps)
        return dict(zip(map(str, Component), (spent.encode, step, spent.decode), strict=True))

    return run


def _best(rates: Sequence[Rate], precision: Precision) -> float:
    return max(rate.per_second for rate in rates if rate.kind == str(precision))


def _stage(
    bundle: Bundle,
    key: Key,
    cost: GraphCost,
    seconds: list[float],
    tops: Mapping[Precision, float],
    bandwidth: float,
    threads: int,
) -> StageResult:
    """A graph's time beside what bounds it."""
    (component, precision), graph = key, bundle.graph(*key)
    peak = Peak(
        "this machine",
        tops[Precision.FP32],
        tops[Precision.FP32],
        tops[Precision.INT8],
        bandwidth,
        "measured",
    )
    share = int8_share(graph.path)
    operations = 2e-9 * cost.macs  # in units of 1e9, so that over tera-operations a second it is milliseconds
    mixed = operations * (share / tops[Precision.INT8] + (1 - share) / tops[Precision.FP32])
    with tempfile.TemporaryDirectory() as folder:
        operators = profile(graph, Path(folder), threads=threads, runs=len(seconds))
    kinds, taken = shares(operators), timing(seconds, note=f"{component}, {precision}")
    return StageResult(
        stage=str(component),
        precision=str(precision),
        macs=cost.macs,
        traffic_bytes=cost.weight_bytes + cost.activation_bytes,
        int8_share=share,
        seconds=taken,
        floor_ms=bound_ms(cost, peak, precision=precision),
        mixed_ms=mixed,
        reached=mixed / (1e3 * taken.median),
        shares=kinds,
        products_reached=mixed / (kinds[PRODUCTS] * sum(operators.values())),
        operators=operators,
    )


def int8_share(path: Path) -> float:
    """Of a graph's multiply-accumulates those whose weights are dequantised from INT8."""
    model = onnx.load(path)
    quantised = {
        out for node in model.graph.node if node.op_type == "DequantizeLinear" for out in node.output
    }
    counted = count_macs(model)
    return sum(macs for node, macs in counted if node.input[1] in quantised) / sum(m for _, m in counted)


def in_words(stage: StageResult) -> str:
    """What stands between a stage and the peak."""
    others = {kind: share for kind, share in stage.shares.items() if kind != PRODUCTS and share >= 0.01}
    told = ", ".join(f"{kind} {share:.0%}" for kind, share in sorted(others.items(), key=lambda i: -i[1]))
    left = (
        f"; {1 - stage.int8_share:.0%} of its arithmetic is left in FP32" if 0 < stage.int8_share < 1 else ""
    )
    return (
        f"{stage.stage}, {stage.precision}: {stage.reached:.0%} of the peak. Convolutions and products take "
        f"{stage.shares[PRODUCTS]:.0%} of the time, in which they reach {stage.products_reached:.0%} of it; "
        f"the rest is {told}{left}."
    )
