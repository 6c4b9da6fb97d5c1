"""What `python -m benchmarks models` found, in words and as a picture."""

from __future__ import annotations

import io
from itertools import cycle

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from benchmarks.models import ModelFacts, ModelsResult
from benchmarks.records import Estimate, RowResult
from benchmarks.report import footer, heading, markdown_table
from benchmarks.rows import BICUBIC, MODEL
from benchmarks.scores import LPIPS_NAME, METRICS

__all__ = ["in_less", "models_picture", "models_report"]

SHOWN = ("psnr_db", "ssim", LPIPS_NAME)
MIB, MB = 2**20, 1e6
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito
GRAY = "#606060"
DECADE = 10  # times as long: then on a logarithmic axis
CAUTION = (
    "Time is that of one image of one tile on this machine, in turns (median, and quartiles); memory that of "
    "a process of its own, with the interpreter and the libraries. Another device may order them otherwise."
)


def models_report(result: ModelsResult) -> str:
    """The whole as Markdown."""
    scores, first = result.scores, result.models[0]
    rows = {row.key: row for row in scores.rows}
    names = [name for name in SHOWN if name in scores.metrics]
    data, seeds = scores.data, len(scores.seeds)
    lines = [
        f"# {len(result.models)} models on {data.name}",
        "",
        f"{len(data.images)} images, {seeds} seed{'s' if seeds > 1 else ''}; means over images, against the "
        f"true HR image. How the LR images were made: {data.degradation}.",
        "",
        *markdown_table(
            [
                "",
                "how",
                *map(heading, names),
                "ms an image",
                "time over the first's",
                "peak memory, MiB",
                "graphs, MB",
            ],
            [_bicubic_row(rows[BICUBIC], names), *[_model_row(m, rows[m.row], names) for m in result.models]],
        ),
        "",
        f"Less {rows[MODEL].label}, image by image: mean [95 % bootstrap interval over images].",
        "",
        *markdown_table(
            ["", *map(heading, names)],
            [
                [
                    _name(rows[m.row]),
                    *[_change(rows[m.row].versus[MODEL][n], METRICS[n].digits) for n in names],
                ]
                for m in result.models[1:]
            ],
        ),
        "",
        *[f"- {sentence}" for sentence in in_less(result)],
        *[f"- {notice}" for notice in scores.notices],
        "",
        *footer(scores.environment, digest=first.bundle.digest, backend=first.bundle.backend),
        "",
        CAUTION,
        "",
    ]
    return "\n".join(lines)


def _bicubic_row(row: RowResult, names: list[str]) -> list[str]:
    return [row.label, row.note, *_means(row, names), "", "", "", ""]


def _model_row(model: ModelFacts, row: RowResult, names: list[str]) -> list[str]:
    time, ratio = model.timing, model.ratio
    over = "1" if ratio is None else f"{ratio.mean:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"
    return [
        _name(row),
        row.note,
        *_means(row, names),
        f"{time.median * 1e3:.0f} ({time.low * 1e3:.0f} to {time.high * 1e3:.0f})",
        over,
        f"{model.peak_bytes / MIB:.0f}",
        f"{model.graph_bytes / MB:.1f}",
    ]


def _name(row: RowResult) -> str:
    return f"**{row.label}**" if row.key == MODEL else row.label


def _means(row: RowResult, names: list[str]) -> list[str]:
    return [f"{row.statistics[name].mean:.{METRICS[name].digits}f}" for name in names]


def _change(change: Estimate, digits: int) -> str:
    return f"{change.mean:+.{digits}f} [{change.low:+.{digits}f}, {change.high:+.{digits}f}]"


def in_less(result: ModelsResult) -> list[str]:
    """Which do as well as others in less time, a sentence each; none where none does."""
    able = dict.fromkeys(model.as_good for model in result.models if model.as_good != model.row)
    return [_sentence(row, result) for row in able]


def _sentence(row: str, result: ModelsResult) -> str:
    rows = {each.key: each for each in result.scores.rows}
    own = next(model for model in result.models if model.row == row)
    judges = "PSNR and LPIPS" if LPIPS_NAME in result.scores.metrics else "PSNR"
    beaten = [model for model in result.models if model.as_good == row != model.row]
    shares = [f"{rows[m.row].label} in {own.timing.median / m.timing.median:.2g} of its time" for m in beaten]
    return f"{rows[row].label} is at least as good, by the means of {judges}, as {'; '.join(shares)}."


def models_picture(result: ModelsResult) -> bytes:
    """Time against each metric, a colour a bundle and precision; a PNG file."""
    names = [name for name in SHOWN if name in result.scores.metrics]
    figure = Figure(figsize=(5.2 * len(names), 4.6), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        _draw(axes, name, result)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=6, frameon=False)
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _draw(axes: Axes, name: str, result: ModelsResult) -> None:
    rows, metric = {row.key: row for row in result.scores.rows}, METRICS[name]
    kinds = list(dict.fromkeys((m.bundle.digest, m.bundle.precision) for m in result.models))
    for kind, colour in zip(kinds, COLOURS * len(kinds), strict=False):
        mine = (m for m in result.models if (m.bundle.digest, m.bundle.precision) == kind)
        members = sorted(mine, key=lambda m: m.timing.median)
        points = [(m.timing.median * 1e3, rows[m.row].statistics[name].mean) for m in members]
        axes.plot(
            *zip(*points, strict=True),
            "o-",
            color=colour,
            label=f"{members[0].bundle.name}, {kind[1].upper()}",
        )
        for m, point, below in zip(members, points, cycle((False, True)), strict=False):
            place = {"xytext": (0, -13 if below else 7), "textcoords": "offset points", "ha": "center"}
            axes.annotate(_short(rows[m.row]), point, size=8, color=colour, **place)
    axes.axhline(
        rows[BICUBIC].statistics[name].mean, color=GRAY, linewidth=0.8, linestyle=":", label="bicubic"
    )
    seconds = [model.timing.median for model in result.models]
    if max(seconds) > DECADE * min(seconds):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda value, _place: f"{value:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(0.18)
    if metric.better < 0:
        axes.invert_yaxis()
    axes.set_xlabel("ms an image")
    axes.set_ylabel(f"{metric.label} (up is better)")


def _short(row: RowResult) -> str:
    if row.preset is None:
        return "one pass"
    return f"{row.preset.steps} step{'s' if row.preset.steps > 1 else ''}"
