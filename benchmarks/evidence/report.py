"""The evidence's worth as Markdown."""

from __future__ import annotations

from collections.abc import Iterable

from benchmarks.evidence.records import EvidenceResult, Projection, Residuals
from benchmarks.records import Estimate
from benchmarks.report import CAUTION, check_table, footer, markdown_table
from benchmarks.rows import describe

__all__ = ["evidence_report"]


def evidence_report(result: EvidenceResult) -> str:
    """All of it, a section a kind of evidence."""
    bundle, data = result.bundle, result.data
    lines = [
        f"# Evidence of {bundle.name} {bundle.version}, {bundle.precision}, on {data.name}",
        "",
        f"{len(data.images)} images, {describe(result.preset)}, {result.spread.samples} samples, seed "
        f"{result.seed}. How the LR images were made: {data.degradation}. 8 bit, gray levels of 255.",
        "",
        *check_table(result.checks),
        *_consistency(result),
        *_spread(result),
        *_invention(result),
        *_projection(result),
        *[f"- {notice}" for notice in result.notices],
        "",
        *footer(result.environment, digest=bundle.digest, backend=bundle.backend),
        "",
        CAUTION,
    ]
    return "\n".join(lines) + "\n"


def _consistency(result: EvidenceResult) -> list[str]:
    known, found = result.consistency.known, result.consistency
    rows = [_residuals(r, kind="") for r in (found.true, *found.outputs)]
    rows += [_residuals(r, kind="fault: ") for r in found.faults]
    return [
        "## Consistency",
        "",
        f"The residual by {known.operator}; alarm below {known.alarm_db:.2f} dB, which "
        f"{1 - known.quantile:.0%} of {known.images} true images reach (median {known.median_db:.2f} dB; "
        f"{known.data}). A fault is made in a single sample; unusual is a residual below that of every "
        "sample as it is. No residual can see detail that the operator averages away.",
        "",
        *markdown_table(["", "median, dB", "lowest, dB", "highest, dB", "alarmed, %", "unusual, %"], rows),
        "",
    ]


def _residuals(found: Residuals, *, kind: str) -> list[str]:
    figures = (found.median, min(found.values), max(found.values))
    shares = (found.alarmed, found.unusual)
    cells = [*[f"{value:.2f}" for value in figures], *[f"{100 * share:.0f}" for share in shares]]
    return [kind + found.label, *cells]


def _spread(result: EvidenceResult) -> list[str]:
    found = result.spread
    bins = [[f"{b.predicted:.2f}", f"{b.found:.2f}", f"{b.found / b.predicted:.2f}"] for b in found.bins]
    coverage = [[c.interval, f"{100 * c.nominal:.1f}", _interval(c.found, 100, 1)] for c in found.coverage]
    return [
        "## Uncertainty",
        "",
        f"Standard deviation over {found.samples} samples against the error of their mean, over the "
        f"{found.pixels:.0%} of the pixels whose truth is neither black nor white. Correlation with |error|: "
        f"{_interval(found.correlation, 1, 3)} in pixels, {_interval(found.correlation_blocks, 1, 3)} in 8x8 "
        f"blocks. The error is {found.factor:.2f} times what the spread predicts; calibration error "
        f"(ENCE) {found.error:.2f}. In the regions that a result lists, the error is "
        f"{_interval(found.regions, 1, 2)} times that of the whole image.",
        "",
        "Pixels by their predicted error, a tenth each; root mean squares in gray levels:",
        "",
        *markdown_table(["predicted", "found", "ratio"], bins),
        "",
        "How often the truth lies between samples, or no more than half a gray level beside them, being "
        "a whole number (which widens the narrow intervals):",
        "",
        *markdown_table(["interval", "were it one more sample, %", "found, % [95 % interval]"], coverage),
        "",
    ]


def _invention(result: EvidenceResult) -> list[str]:
    if not result.invention:
        return []
    rows = [[i.label, _interval(i.hallucinated, 1, 2), _interval(i.lost, 1, 2)] for i in result.invention]
    threshold = result.invention[0].threshold_levels
    return [
        "## What was invented and lost",
        "",
        "Percent of the pixels that are brighter (hallucinated) or darker (lost) than the truth by more than "
        "the mean and two standard deviations of the autoencoder's error in the same image, as latent-sr "
        f"(arXiv 2604.12152) defines it; here {threshold:.1f} gray levels on average.",
        "",
        *markdown_table(["", "hallucinated, %", "lost, %"], rows),
        "",
    ]


def _projection(result: EvidenceResult) -> list[str]:
    head = ["LR images made by", "none", *[p.operator for p in _group(result.projection) if p.operator]]
    by_name: dict[str, list[Projection]] = {}
    for found in result.projection:
        by_name.setdefault(found.degradation, []).append(found)
    rows = [[name, *[_gain(cell) for cell in cells]] for name, cells in by_name.items()]
    return [
        "## Back-projection",
        "",
        "One sample, without back-projection: PSNR in dB and LPIPS. With it, by the operator that is named: "
        "the change of the PSNR [95 % interval], and the LPIPS. Bold where the PSNR gains beyond doubt.",
        "",
        *markdown_table(head, rows),
        "",
    ]


def _group(cells: Iterable[Projection]) -> list[Projection]:
    """Those of the first degradation."""
    every = list(cells)
    return [cell for cell in every if cell.degradation == every[0].degradation]


def _gain(cell: Projection) -> str:
    tail = "" if cell.lpips is None else f", {cell.lpips:.3f}"
    if cell.operator is None:
        return f"{cell.psnr_db:.2f}{tail}"
    gain = cell.gain_db
    text = f"{gain.mean:+.2f} [{gain.low:+.2f}, {gain.high:+.2f}]{tail}"
    return f"**{text}**" if gain.low > 0 else text


def _interval(found: Estimate, factor: float, digits: int) -> str:
    mean, low, high = (f"{factor * value:.{digits}f}" for value in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"
