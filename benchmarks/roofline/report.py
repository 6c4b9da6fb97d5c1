"""The roofline as Markdown."""

from __future__ import annotations

from benchmarks.report import LOOP_CAUTION, footer, markdown_table
from benchmarks.roofline.records import Rate, RooflineResult, StageResult

__all__ = ["roofline_report"]


def roofline_report(result: RooflineResult) -> str:
    """All of it."""
    bundle = result.bundle
    lines = [
        f"# Roofline of {bundle.name} {bundle.version}",
        "",
        f"One tile, {result.environment.threads} threads; stages, products and copies in turns, "
        f"{result.rounds} rounds. Peaks of this machine: {result.fp32_tops:.3g} TFLOP/s in FP32, "
        f"{result.int8_tops:.3g} TOP/s in INT8, {result.memory_gb_s:.3g} GB/s from memory.",
        "",
        *markdown_table(
            ["", "ms", "GMAC", "in INT8", "arithmetic, ms", "floor, ms", "reached", "products alone"],
            [_row(stage) for stage in result.stages],
        ),
        "",
        "- arithmetic: at the measured peaks, each layer in its precision; reached: that over the time.",
        "- floor: `edge_sr.roofline` with these peaks, and the rate of a copy as large as a graph's traffic, "
        "as if every layer were in the graph's precision.",
        "- products alone: the arithmetic over the time that ONNX Runtime's profiler has for convolutions "
        "and matrix products.",
        "",
        "What stands between:",
        "",
        *[f"- {word}" for word in result.words],
        "",
        *markdown_table(["", "best rate", "median, ms"], [_rate(rate) for rate in result.rates]),
        "",
        *footer(result.environment, digest=bundle.digest, backend=bundle.backend),
        "",
        LOOP_CAUTION,
    ]
    return "\n".join(lines) + "\n"


def _row(stage: StageResult) -> list[str]:
    return [
        f"{stage.stage}, {stage.precision}",
        f"{1e3 * stage.seconds.median:.2f}",
        f"{stage.macs / 1e9:.2f}",
        f"{stage.int8_share:.0%}",
        f"{stage.mixed_ms:.2f}",
        f"{stage.floor_ms:.2f}",
        f"{stage.reached:.0%}",
        f"{stage.products_reached:.0%}",
    ]


def _rate(rate: Rate) -> list[str]:
    unit, scale = ("GB/s", 1e9) if rate.kind == "bytes" else ("GOP/s", 1e9)
    name = f"copy: {rate.name}" if rate.kind == "bytes" else f"{rate.name}, {rate.kind}"
    return [name, f"{rate.per_second / scale:.0f} {unit}", f"{1e3 * rate.seconds.median:.2f}"]
