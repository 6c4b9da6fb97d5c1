"""The evidence's worth in three charts: residuals, reliability, coverage."""

from __future__ import annotations

import io
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.evidence.records import EvidenceResult

__all__ = ["draw"]

BLUE, ORANGE, GRAY = "#0072b2", "#d55e00", "#606060"  # Okabe and Ito's, which hold for colour-blind eyes
SIZE = (15, 4.8)  # inches


def draw(result: EvidenceResult) -> bytes:
    """A PNG file."""
    figure = Figure(figsize=SIZE, dpi=100, layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    _residuals(left, result)
    _reliability(middle, result)
    _coverage(right, result)
    bundle, data = result.bundle, result.data
    figure.suptitle(
        f"{bundle.name} {bundle.version}, {bundle.precision}: {len(data.images)} images of '{data.name}', "
        f"{result.spread.samples} samples"
    )
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _residuals(axes: Any, result: EvidenceResult) -> None:
    """A dot an image, true images and outputs in blue, faults in orange."""
    found = result.consistency
    rows = [(r, BLUE) for r in (found.true, *found.outputs)] + [(r, ORANGE) for r in found.faults]
    for place, (row, colour) in enumerate(reversed(rows)):
        axes.plot(row.values, [place] * len(row.values), "o", color=colour, alpha=0.45, markersize=5)
        axes.plot([row.median], [place], "|", color="black", markersize=14)
    axes.axvline(found.known.alarm_db, color="black", linestyle="--", linewidth=1)
    axes.set_yticks(range(len(rows)), [row.label for row, _ in reversed(rows)])
    axes.set_xlabel(f"residual by {found.known.operator}, dB (dashed: alarm at {found.known.alarm_db:.1f})")
    axes.set_title("Consistency with the input")


def _reliability(axes: Any, result: EvidenceResult) -> None:
    """Found error against predicted error, a dot a tenth of the pixels."""
    bins = result.spread.bins
    predicted, found = [b.predicted for b in bins], [b.found for b in bins]
    limits = [0.8 * min(*predicted, *found), 1.25 * max(*predicted, *found)]
    axes.plot(limits, limits, color=GRAY, linestyle="--", linewidth=1, label="perfect")
    axes.plot(predicted, found, "o-", color=BLUE, label="a tenth of the pixels each")
    axes.set(xscale="log", yscale="log", xlim=limits, ylim=limits)
    axes.set_xlabel("predicted by the spread, gray levels")
    axes.set_ylabel("found error, gray levels")
    axes.set_title("Does the spread predict the error?")
    axes.legend(loc="lower right", frameon=False)


def _coverage(axes: Any, result: EvidenceResult) -> None:
    """How often the truth lies between samples, against how often one more sample would."""
    rows = result.spread.coverage
    nominal = [100 * row.nominal for row in rows]
    found = [100 * row.found.mean for row in rows]
    below = [100 * (row.found.mean - row.found.low) for row in rows]
    above = [100 * (row.found.high - row.found.mean) for row in rows]
    axes.plot([0, 100], [0, 100], color=GRAY, linestyle="--", linewidth=1, label="perfect")
    axes.errorbar(
        nominal,
        found,
        yerr=[below, above],
        fmt="o-",
        color=BLUE,
        capsize=3,
        label="95 % interval",
    )
    axes.set(xlim=(0, 100), ylim=(0, 100))
    axes.set_xlabel("one more sample would lie between, %")
    axes.set_ylabel("the truth lies between, %")
    axes.set_title("Coverage")
    axes.legend(loc="upper left", frameon=False)
