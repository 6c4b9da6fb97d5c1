"""The ladder as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.ladder.records import Judgement, LadderResult, RungResult, StageTimes
from benchmarks.ladder.rungs import FP32
from benchmarks.ladder.words import DOUBT, NOT_MEANINGFUL
from benchmarks.records import Estimate
from benchmarks.report import CAUTION, footer, heading, markdown_table
from benchmarks.rows import describe
from benchmarks.scores import LPIPS_NAME, METRICS

__all__ = ["ladder_report"]

SHOWN = ("psnr_db", "ssim", LPIPS_NAME, "lr_consistency_db", "laplacian_variance")
STAGES = ("encoder", "step", "decoder", "whole")
STAGE_TITLES = {"step": "one step", "whole": "end to end"}
MIB = 1 << 20


def ladder_report(result: LadderResult) -> str:
    """The whole of it: verdicts first, then every table."""
    bundle, data = result.bundle, result.data
    lines = [
        f"# Ladder of {bundle.name} {bundle.version} on {data.name}",
        "",
        f"{len(data.images)} images, {_seeds(len(result.seeds))}, {describe(result.preset)}; all rows in one "
        f"run, from the same noise. How the LR images were made: {data.degradation}.",
        "",
        *[f"- {verdict}" for verdict in result.verdicts.values()],
        "",
        *_judgements(result.checks),
        "",
        *_quality(result),
        *_to_fp32(result),
        *_latents(result),
        *_latency(result),
        *_sizes(result),
        *[f"- {row.label}: {_note(row)}" for row in result.rows],
        f"- seed noise: {result.seed_noise_definition}",
        *[f"- {notice}" for notice in result.notices],
        "",
        *footer(result.environment, digest=bundle.digest, backend=result.row(FP32).runs_on),
        "",
        CAUTION,
    ]
    return "\n".join(lines) + "\n"


def _judgements(checks: Sequence[Judgement]) -> list[str]:
    rows = [
        [c.claim, f"{c.value:.4g}", f"[{c.low:.4g}, {c.high:.4g}]", f"{c.limit:.4g}", _outcome(c)]
        for c in checks
    ]
    return markdown_table(["Claim", "measured", "95 % interval", "limit", "holds"], rows)


def _outcome(check: Judgement) -> str:
    return ("yes" if check.holds else "**no**") + ("" if check.is_certain else DOUBT)


def _quality(result: LadderResult) -> list[str]:
    """Against the true HR images, and the differences to FP32 image by image."""
    names = [name for name in SHOWN if name in result.metrics]
    head = ["", *[heading(name) for name in names]]
    rows = [[row.label, *[_mean(row, name) for name in names]] for row in result.rows]
    changes = [[row.label, *[_change(row, name) for name in names]] for row in result.rows if row.key != FP32]
    noise = [_noise(result, name) for name in names]
    return [
        "Against the true HR images, 8 bit; mean ± standard deviation over images:",
        "",
        *markdown_table(head, rows),
        "",
        "Difference to FP32, image by image, the same noise: mean [95 % bootstrap interval over images]. "
        "A difference that is smaller than the seed noise is less than what another seed changes.",
        "",
        *markdown_table(head, [*changes, ["seed noise of FP32", *noise]]),
        "",
    ]


def _mean(row: RungResult, name: str) -> str:
    digits, found = METRICS[name].digits, row.statistics[name]
    std = "" if found.std is None else f" ± {found.std:.{digits}f}"
    return f"{found.mean:.{digits}f}{std}"


def _change(row: RungResult, name: str) -> str:
    digits, change = METRICS[name].digits + 1, row.change[name]
    digits += abs(change.mean) < 10 ** (1 - digits)  # one more for a difference that is nearly none
    text = f"{change.mean:+.{digits}f} [{change.low:+.{digits}f}, {change.high:+.{digits}f}]"
    if name != LPIPS_NAME or row.lpips_change is None:
        return text
    return f"{text}, {100 * row.lpips_change.mean:+.2f} %"


def _noise(result: LadderResult, name: str) -> str:
    noise = result.seed_noise[name]
    return "not known" if noise is None else f"± {noise:.{METRICS[name].digits + 1}f}"


def _to_fp32(result: LadderResult) -> list[str]:
    """How far the images are from FP32's own, and what another seed changes."""
    found = [(row.label, row.to_fp32) for row in result.rows if row.to_fp32]
    if result.other_seed:
        found.append(("FP32, another seed", result.other_seed))
    names = list(found[0][1].statistics)
    rows = [
        [label, *[f"{other.statistics[name].mean:.{METRICS[name].digits}f}" for name in names]]
        for label, other in found
    ]
    return [
        "Against FP32's own image of the same seed; beside it, what another seed makes of the same image:",
        "",
        *markdown_table(["", *[heading(name) for name in names]], rows),
        "",
    ]


def _latents(result: LadderResult) -> list[str]:
    """The latent's error at a few of the steps."""
    shown = shown_steps(len(result.timesteps))
    head = ["", *[f"after step {index + 1}" for index in shown]]
    rows = [
        [row.label, *[_relative(row.trajectory.relative[index]) for index in shown]]
        for row in result.rows
        if row.trajectory
    ]
    return [
        "Latent against FP32's along the loop: root mean square difference in % of the standard deviation of "
        "FP32's latent [95 % interval over images]:",
        "",
        *markdown_table(head, rows),
        "",
    ]


def shown_steps(count: int) -> list[int]:
    """Up to five steps, evenly, from the first to the last."""
    parts = min(4, count - 1)
    return [round(index * (count - 1) / parts) for index in range(parts + 1)] if parts else [0]


def _relative(found: Estimate) -> str:
    return f"{100 * found.mean:.3g} [{100 * found.low:.3g}, {100 * found.high:.3g}]"


def _latency(result: LadderResult) -> list[str]:
    head = ["", *[STAGE_TITLES.get(stage, stage) for stage in STAGES], "FP32 over this"]
    rows = []
    for row in result.rows:
        cells = [_percentiles(getattr(row.latency, stage)) for stage in STAGES]
        if not row.latency.is_meaningful:
            cells = [NOT_MEANINGFUL] * len(STAGES)
        rows.append([row.label, *cells, _speedup(row)])
    size, steps = result.environment.threads, result.preset.steps
    return [
        f"Latency of one image of one tile in ms, p50 / p90 / p99, {size} threads: {result.rounds} images, "
        f"{result.rounds * steps} steps; rows in turns. FP32 over this: end to end, the median over rounds "
        "of the ratio within a round [95 % interval]:",
        "",
        *markdown_table(head, rows),
        "",
    ]


def _percentiles(times: StageTimes) -> str:
    values = (times.p50, times.p90, times.p99)
    return " / ".join(f"{value:.0f}" if value >= 100 else f"{value:.3g}" for value in values)


def _speedup(row: RungResult) -> str:
    if row.speedup is None:
        return ""
    if not row.latency.is_meaningful:
        return NOT_MEANINGFUL
    return f"{row.speedup.mean:.2f} [{row.speedup.low:.2f}, {row.speedup.high:.2f}]"


def _sizes(result: LadderResult) -> list[str]:
    """Files and memory."""
    rows = [
        [
            row.label,
            *[f"{row.file_bytes.get(stage, 0) / 1e6:.2f}" for stage in STAGES[:3]],
            f"{sum(row.file_bytes.values()) / 1e6:.2f}",
            f"{row.memory.peak / MIB:.0f}",
            f"{(row.memory.peak - row.memory.before) / MIB:.0f}",
        ]
        for row in result.rows
    ]
    head = ["", *STAGES[:3], "files, MB", "peak memory, MiB", "of which the bundle"]
    return [
        "Files, and the peak resident memory of a process that enlarges one image with the shipped graphs "
        "(FP16 as ONNX Runtime upcasts it, which is not what a device takes):",
        "",
        *markdown_table(head, rows),
        "",
    ]


def _note(row: RungResult) -> str:
    """What a row is; and how often its emulation rounds, where it is one."""
    counted = row.runs_on.get("roundings")
    return row.note + (f"; roundings in the graphs that ran: {counted}" if counted else "")


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count != 1 else ''}"
