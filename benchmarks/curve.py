"""`python -m benchmarks curve`: PSNR against LPIPS over everything that a preset can set."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from types import MappingProxyType

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.board import assemble, score
from benchmarks.environment import environment
from benchmarks.pairs import read_pairs
from benchmarks.quality import Outcome, autoencoder, bundle_facts
from benchmarks.records import QualityResult, RowResult
from benchmarks.report import quality_table
from benchmarks.rows import (
    BICUBIC,
    CEILING,
    MEAN,
    MODEL,
    Extras,
    Row,
    Runner,
    Track,
    describe,
    make_rows,
    plan_rows,
)
from benchmarks.scores import LPIPS_NAME, Judge
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.manifest import Preset
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision
from export.perceptual import LPIPS

__all__ = ["FAMILIES", "PUBLISHED", "CurveRequest", "grid", "run_curve"]

FAMILIES: Mapping[str, tuple[str, tuple[dict[str, object], ...]]] = MappingProxyType(
    {
        "noise": ("first noise", tuple({"noise_scale": x} for x in (0.0, 0.2, 0.4, 0.6, 0.8, 1.0))),
        "steps": ("steps", tuple({"steps": n} for n in (1, 2, 4, 8, 20, 50))),
        "eta": ("noise in each step (eta)", tuple({"eta": x, "noise_scale": 1.0} for x in (0.0, 0.5, 1.0))),
        "mean": ("mean of K samples", tuple({"samples": k, "noise_scale": 1.0} for k in (1, 2, 4, 8))),
    }
)
"""What is varied, each alone, from the default preset: family -> its words, and the changes."""

PUBLISHED: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "proposal's SD-VAE diffusion": (27.34 - 29.59, 0.123 / 0.347),
        "latent-sr, LDM f4": (28.87 - 30.47, 0.127 / 0.330),
        "latent-sr, LDM f8": (25.58 - 30.47, 0.167 / 0.330),
        "latent-sr, ESRGAN": (27.71 - 30.47, 0.175 / 0.330),
        "latent-sr, SwinIR": (29.21 - 30.47, 0.138 / 0.330),
    }
)
"""Published rows against the bicubic of the same table, dB and ratio of LPIPS: petrichor-2/image-upscaler
(NIH, 64 to 256) and arXiv 2604.12152 (MIMIC-CXR, 64 to 256). Other images and another LPIPS network than
ours: the margins say where a method stands, not by how much it is ahead."""

STYLES = (("#0072b2", "o"), ("#d55e00", "s"), ("#009e73", "^"), ("#cc79a7", "D"))  # Okabe and Ito
OFFSETS = {  # of words from points, by turns
    "noise": ((-6, 9), (-6, -16)),
    "steps": ((-3, -16), (-3, 9)),
    "eta": ((-22, -2),),
    "mean": ((8, -4),),
}
CLOSE_DB, CLOSE_SHARE = 0.3, 0.035  # around the default: what the second picture shows
GRAY = "#606060"


@dataclass(frozen=True)
class CurveRequest:
    """What is to be judged, and how.

    Attributes:
        bundle, pairs: Folders.
        lpips: Folder of the LPIPS weights.
        precision: Of the graphs.
        vae: The run that trained the bundle's autoencoder; None leaves its ceiling out.
        seeds: How many.
        limit: Images at most; 0 for all.
        batch, threads: Images at once; CPU threads, 0 for all cores.
        degradation: How the pairs' LR images were made, in words.
    """

    bundle: Path
    pairs: Path
    lpips: Path
    precision: Precision = Precision.FP32
    vae: Path | None = None
    seeds: int = 1
    limit: int = 48
    batch: int = 4
    threads: int = 0
    degradation: str = "not stated"


def grid(default: Preset) -> list[Row]:
    """A row for each change of each family."""
    return [
        Row(f"{family}-{index}", words, describe(preset), preset)
        for family, (words, changes) in FAMILIES.items()
        for index, change in enumerate(changes)
        for preset in [default.model_copy(update=change)]
    ]


def run_curve(request: CurveRequest, *, arguments: Sequence[str], track: Track) -> Outcome:
    """Scores every row of the grid. Writes nothing.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle, the pairs or the weights cannot be used.
    """
    bundle = Bundle.open(request.bundle)
    pairs = read_pairs(request.pairs, bundle, limit=request.limit)
    diffusion, operator = bundle.diffusion, bundle.manifest.degradation
    backend = open_backend("onnxruntime", threads=request.threads)
    with Upscaler(bundle, backend, precision=request.precision) as upscaler:
        runner = Runner(upscaler)
        extras = Extras(autoencoder=autoencoder(request.vae, runner) if request.vae else None)
        known = [row for row in plan_rows(bundle, (), extras) if row.key in (BICUBIC, MEAN, CEILING, MODEL)]
        rows = known + grid(diffusion.presets[diffusion.default])
        images = make_rows(
            runner, rows, pairs, extras, seeds=range(request.seeds), batch=request.batch, track=track
        )
        facts = bundle_facts(upscaler)
    judge = Judge(scale=bundle.manifest.scale, degradation=operator, lpips=LPIPS(request.lpips))
    wanted = {row.key: images[row.key] for row in rows}
    record = assemble(
        environment(arguments, threads=int(facts.backend["threads"])),
        facts,
        pairs.facts(degradation=request.degradation, operator=operator),
        rows=rows,
        scores=score(judge, wanted, pairs, track=track),
        spreads=None,
    )
    return Outcome(record, quality_table(record), draw(record))


def margins(row: RowResult, bicubic: RowResult) -> tuple[float, float]:
    """PSNR less bicubic's in dB, and LPIPS as a share of bicubic's."""
    ratio = row.statistics[LPIPS_NAME].mean / bicubic.statistics[LPIPS_NAME].mean
    return row.statistics["psnr_db"].mean - bicubic.statistics["psnr_db"].mean, ratio


def draw(result: QualityResult) -> bytes:
    """A PNG file, up and to the right is better: the whole, and a closer view of the default's neighbours."""
    rows = {row.key: row for row in result.rows}
    figure = Figure(figsize=(13, 6.5), dpi=100, layout="constrained")
    whole, close = figure.subplots(1, 2, width_ratios=(1, 1))
    default = margins(rows[MODEL], rows[BICUBIC])
    close.set_xlim(default[0] - CLOSE_DB, default[0] + CLOSE_DB)
    close.set_ylim(default[1] + CLOSE_SHARE, default[1] - CLOSE_SHARE)
    for (family, (words, _)), (colour, marker) in zip(FAMILIES.items(), STYLES, strict=True):
        members = [row for key, row in rows.items() if key.startswith(f"{family}-")]
        points = [margins(row, rows[BICUBIC]) for row in members]
        for axes in (whole, close):
            axes.plot(*zip(*points, strict=True), color=colour, marker=marker, label=words, alpha=0.85)
        axes = close if family in ("noise", "steps") else whole
        for row, point, offset in zip(members, points, cycle(OFFSETS[family]), strict=False):
            if point != default:
                _name(axes, _value(family, row), point, colour, offset=offset)
    known = {BICUBIC: "bicubic", MEAN: "regression", MODEL: "default"}
    for key, words in known.items():
        if key in rows:
            for axes in (whole, close):
                _mark(axes, margins(rows[key], rows[BICUBIC]), words, "black", "*" if key == MODEL else "P")
    for words, point in PUBLISHED.items():
        whole.plot(*point, "x", color=GRAY, markersize=8)
        _name(whole, words, point, GRAY, offset=(-4, 8), align="center")
    whole.invert_yaxis()
    whole.margins(x=0.2)  # room for the words of the rightmost point
    whole.set_ylabel("LPIPS, share of bicubic's (up is better)")
    whole.legend(loc="lower left", frameon=False, title="ours, one setting varied")
    whole.set_title("beside published methods")
    close.set_title("close to the default, each point with its setting")
    for axes in (whole, close):
        axes.axvline(0, color=GRAY, linewidth=0.8, linestyle=":")
        axes.set_xlabel("PSNR less bicubic's, dB")
    figure.suptitle(_title(result, rows))
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def _mark(axes: Axes, point: tuple[float, float], words: str, colour: str, marker: str) -> None:
    axes.plot(*point, marker, color=colour, markersize=11 if marker == "*" else 8)
    _name(axes, words, point, colour, offset=(7, -12))


def _name(
    axes: Axes,
    words: str,
    point: tuple[float, float],
    colour: str,
    *,
    offset: tuple[float, float],
    align: str = "left",
) -> None:
    """Words beside a point, where the axes show it."""
    given = {"size": 9, "color": colour, "ha": align, "annotation_clip": True}
    axes.annotate(words, point, xytext=offset, textcoords="offset points", **given)


def _title(result: QualityResult, rows: Mapping[str, RowResult]) -> str:
    bundle, data = result.bundle, result.data
    text = f"{bundle.name}, {bundle.precision}: {len(data.images)} images of '{data.name}'"
    if CEILING in rows:
        gain, ratio = margins(rows[CEILING], rows[BICUBIC])
        text += f" (autoencoder ceiling {gain:+.1f} dB, {ratio:.2f})"
    return text


def _value(family: str, row: RowResult) -> str:
    """The setting that a point of a family differs in."""
    assert row.preset is not None
    field = {"noise": "noise_scale", "mean": "samples"}.get(family, family)
    return f"{getattr(row.preset, field):g}"
