"""Results in words: the checks that a run makes, and its Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.records import (
    Check,
    DiversityFacts,
    Environment,
    LoopResult,
    QualityResult,
    RowResult,
    Timing,
)
from benchmarks.rows import BICUBIC, CEILING, CONTROLS, HR, MODEL, describe
from benchmarks.scores import FEATURES_NAME, LPIPS_NAME, METRICS, SPECTRUM

__all__ = [
    "CAUTION",
    "LOOP_CAUTION",
    "check_table",
    "footer",
    "heading",
    "loop_report",
    "markdown_table",
    "quality_checks",
    "quality_table",
]

PSNR_ABOVE_BICUBIC_DB, LPIPS_OF_BICUBIC = 0.5, 0.4  # both at once, which no published latent diffusion has
CEILING_DB = 38.0
PERCEPTUAL, FIDELITY, FAST = "preset-perceptual", "preset-fidelity", "preset-fast"
PERCEPTUAL_PSNR_DB, SPECTRUM_DB = -1.0, 1.5
FIDELITY_PSNR_DB, FIDELITY_LPIPS = 1.0, 0.7
FAST_PSNR_DB, FAST_LPIPS = 0.2, 1.1  # against the default
AGAINST_BICUBIC = ("psnr_db", "ssim", LPIPS_NAME)
DIVERSITY_NOTES = {
    "pixel": "spread over seeds and error of their mean, pixel by pixel",
    "block": "the same in blocks of 8x8 pixels",
    "regression": "spread over seeds and error of the mean image, which has seen no seed, in blocks",
    "other": "spread over seeds and error of another image, in blocks: what all images have in common",
}
LOOP_CAUTION = "Times hold for this machine, and are to be compared within this run alone."
CAUTION = (
    "Research use only, not for diagnosis. Detail above the input's resolution is generated. The numbers "
    "hold for these images and this degradation, and are to be compared within this run alone."
)


def quality_checks(rows: Sequence[RowResult], diversity: DiversityFacts | None) -> tuple[Check, ...]:
    """What a default model has to show, as far as this run measured it.

    Args:
        rows: All of them.
        diversity: The correlations of spread and error, where there are several seeds.
    """
    by_key = {row.key: row for row in rows}
    model, bicubic = by_key[MODEL], by_key[BICUBIC]
    checks = _against_bicubic(model, bicubic, PSNR_ABOVE_BICUBIC_DB, LPIPS_OF_BICUBIC)
    if CEILING in by_key:
        ceiling = by_key[CEILING].statistics["psnr_db"].mean
        name = f"autoencoder ceiling at least {CEILING_DB:g} dB"
        checks.append(_check(name, ceiling, CEILING_DB, holds=ceiling >= CEILING_DB))
    for judge in (LPIPS_NAME, FEATURES_NAME):
        if judge in model.statistics:
            checks += [_control_check(by_key[key], model, judge) for key in CONTROLS if key in by_key]
    if diversity is not None:
        own, other = (diversity.estimates[key] for key in ("block", "other"))
        name = "seeds differ where this image's error is, more than where another's is (correlations)"
        checks.append(_check(name, own.mean, other.mean, holds=own.low > max(0.0, other.mean)))
    return (*checks, *_preset_checks(by_key))


def _against_bicubic(
    row: RowResult, bicubic: RowResult, least_db: float, share: float | None = None
) -> list[Check]:
    """A row's margins over bicubic: PSNR in dB, and LPIPS as a share, where both are there."""
    psnr = row.versus[BICUBIC]["psnr_db"].mean
    name = f"{row.label}: PSNR at least {least_db:+g} dB over bicubic's"
    checks = [_check(name, psnr, least_db, holds=psnr >= least_db)]
    if share is not None and LPIPS_NAME in row.statistics:
        ratio = row.statistics[LPIPS_NAME].mean / bicubic.statistics[LPIPS_NAME].mean
        name = f"{row.label}: LPIPS at most {share:g} of bicubic's"
        checks.append(_check(name, ratio, share, holds=ratio <= share))
    return checks


def _preset_checks(by_key: Mapping[str, RowResult]) -> list[Check]:
    """What the presets of these names are for, as far as they were run."""
    checks, bicubic = [], by_key[BICUBIC]
    if row := by_key.get(PERCEPTUAL):
        checks += _against_bicubic(row, bicubic, PERCEPTUAL_PSNR_DB)
        checks += _spectrum_check(row, by_key[HR])
    if row := by_key.get(FIDELITY):
        checks += _against_bicubic(row, bicubic, FIDELITY_PSNR_DB, FIDELITY_LPIPS)
    if row := by_key.get(FAST):
        lost, name = -row.versus[MODEL]["psnr_db"].mean, f"{row.label}: PSNR within {FAST_PSNR_DB} dB of ours"
        checks.append(_check(name, lost, FAST_PSNR_DB, holds=lost <= FAST_PSNR_DB))
        if LPIPS_NAME in row.statistics:
            ratio = row.statistics[LPIPS_NAME].mean / by_key[MODEL].statistics[LPIPS_NAME].mean
            name = f"{row.label}: LPIPS at most {FAST_LPIPS} of ours"
            checks.append(_check(name, ratio, FAST_LPIPS, holds=ratio <= FAST_LPIPS))
    return checks


def _spectrum_check(row: RowResult, hr: RowResult) -> list[Check]:
    """The ring of frequencies in which a row's power is furthest from the HR image's."""
    rings = [name for name in SPECTRUM if name in row.statistics]
    if not rings:
        return []
    worst = max(abs(row.statistics[name].mean - hr.statistics[name].mean) for name in rings)
    name = f"{row.label}: power within {SPECTRUM_DB} dB of the HR image's up to 0.9 Nyquist"
    return [_check(name, worst, SPECTRUM_DB, holds=worst <= SPECTRUM_DB)]


def _control_check(control: RowResult, model: RowResult, judge: str) -> Check:
    """Whether a distance is worse without the loop, by more than the seeds' noise and beyond doubt."""
    change = control.versus[MODEL][judge]
    noise = max(row.statistics[judge].seed_std or 0.0 for row in (control, model))
    label, without = METRICS[judge].label, control.label.removeprefix("control: ")
    name = f"{label} of '{without}' worse than ours by more than the seed noise"
    return _check(name, change.mean, noise, holds=change.mean > noise and change.low > 0)


def _check(claim: str, value: float, limit: float, *, holds: bool) -> Check:
    return Check(claim=claim, value=float(f"{value:.6g}"), limit=float(f"{limit:.6g}"), holds=holds)


def quality_table(result: QualityResult) -> str:
    """The scoreboard as Markdown."""
    names = [name for name in METRICS if name in result.metrics]
    seeds = f"{len(result.seeds)} seed{'s' if len(result.seeds) != 1 else ''}"
    bundle, data = result.bundle, result.data
    lines = [
        f"# {bundle.name} {bundle.version}, {bundle.precision}, on {data.name}",
        "",
        f"{len(data.images)} images, {seeds}; mean ± standard deviation over images, against the true HR "
        f"image, 8 bit. How the LR images were made: {data.degradation}. Operator of LR consistency: "
        f"{data.operator}.",
        "",
        *markdown_table(
            ["", *[heading(name) for name in names]], [_quality_row(row, names) for row in result.rows]
        ),
        "",
        *[f"- {row.label}: {row.note}" for row in result.rows],
        "",
        _differences_title(result),
        "",
        *_differences(result),
        "",
        *_spectrum(result),
        *_diversity(result),
        *check_table(result.checks),
        *[f"- {notice}" for notice in result.notices],
        *[""] * bool(result.notices),
        *_footer_of(result),
    ]
    return "\n".join(lines) + "\n"


def heading(name: str) -> str:
    """A metric's label, with an arrow that says which way is better."""
    arrow = {1: " ↑", -1: " ↓", 0: ""}[METRICS[name].better]
    return METRICS[name].label + arrow


def _label(row: RowResult) -> str:
    return f"**{row.label}**" if row.key == MODEL else row.label


def _quality_row(row: RowResult, names: Iterable[str]) -> list[str]:
    cells = [_label(row)]
    for name in names:
        digits, found = METRICS[name].digits, row.statistics.get(name)
        std = "" if found is None or found.std is None else f" ± {found.std:.{digits}f}"
        cells.append("" if found is None else f"{found.mean:.{digits}f}{std}")
    return cells


def _differences_title(result: QualityResult) -> str:
    return (
        "Differences to bicubic, image by image: mean [95 % bootstrap interval over images], and ± the "
        f"standard deviation over {len(result.seeds)} seeds of the mean over images, the seed noise."
    )


def _differences(result: QualityResult) -> list[str]:
    names = [name for name in AGAINST_BICUBIC if name in result.metrics]
    rows = [
        [_label(row), *[_difference(row, name) for name in names]]
        for row in result.rows
        if BICUBIC in row.versus
    ]
    return markdown_table(["", *[heading(name) for name in names]], rows)


def _difference(row: RowResult, name: str) -> str:
    digits, change, noise = METRICS[name].digits, row.versus[BICUBIC][name], row.statistics[name].seed_std
    text = f"{change.mean:+.{digits}f} [{change.low:+.{digits}f}, {change.high:+.{digits}f}]"
    return text if noise is None else f"{text} ± {noise:.{digits}f}"


def _spectrum(result: QualityResult) -> list[str]:
    """How much more power than the true HR images every row has, ring by ring."""
    truth = next(row for row in result.rows if row.key == HR).statistics
    if SPECTRUM[0] not in truth:
        return []
    rows = []
    for row in (row for row in result.rows if row.key != HR):
        gaps = [row.statistics[name].mean - truth[name].mean for name in SPECTRUM]
        largest = max(gaps, key=abs)
        rows.append([_label(row), *[f"{gap:+.1f}" for gap in gaps], f"{largest:+.1f}"])
    rings = [f"to {n / 10:.1f}" for n in range(1, len(SPECTRUM) + 1)]
    title = (
        "Power less the true HR images', dB, in rings of a tenth of the Nyquist frequency; means over images:"
    )
    return [title, "", *markdown_table(["", *rings, "largest"], rows), ""]


def _diversity(result: QualityResult) -> list[str]:
    if result.diversity is None:
        return []
    lines = ["Do seeds differ where the error is? Correlations, mean over images [95 % interval]:", ""]
    for key, found in result.diversity.estimates.items():
        lines.append(f"- {DIVERSITY_NOTES[key]}: {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]")
    return [*lines, ""]


def check_table(checks: Sequence[Check]) -> list[str]:
    """The checks of a run as a Markdown table, and an empty line."""
    rows = [[c.claim, f"{c.value:.4g}", f"{c.limit:.4g}", "yes" if c.holds else "**no**"] for c in checks]
    return [*markdown_table(["Claim", "measured", "limit", "holds"], rows), ""]


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A Markdown table, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def loop_report(result: LoopResult) -> str:
    """The loop's cost as Markdown."""
    bundle, preset = result.bundle, result.preset
    lines = [
        f"# Loop of {bundle.name} {bundle.version}, {bundle.precision}: {describe(preset)}",
        "",
        *_timings(result.loop),
        "",
        f"{result.image[0]}x{result.image[1]} pixels, whole, beside eager torch with the same weights:",
        "",
        *_timings(result.upscale),
        "",
        f"The peer is the faster of the two, {result.peer}.{_agreement(result)}",
        "",
        *check_table(result.checks),
        *[f"- {notice}" for notice in result.notices],
        *[""] * bool(result.notices),
        *_footer_of(result),
    ]
    return "\n".join(lines) + "\n"


def _agreement(result: LoopResult) -> str:
    largest = max(result.agreement.values(), default=None)
    return "" if largest is None else f" Largest difference of their images from ours: {largest:.1e}."


def _timings(timings: dict[str, Timing]) -> list[str]:
    rows = [
        [name, t.note, *map(_ms, (t.median, t.low, t.high)), str(len(t.seconds))]
        for name, t in timings.items()
    ]
    lines = markdown_table(["", "what", "median, ms", "lower quartile", "upper quartile", "runs"], rows)
    lines[1] = "| --- | --- | ---: | ---: | ---: | ---: |"
    return lines


def _ms(seconds: float) -> str:
    digits = max(0, 2 - math.floor(math.log10(max(seconds * 1e3, 1e-3))))
    return f"{seconds * 1e3:.{digits}f}"


def _footer_of(result: QualityResult | LoopResult) -> list[str]:
    bundle = result.bundle
    lines = footer(result.environment, digest=bundle.digest, backend=bundle.backend)
    return [*lines, "", CAUTION if isinstance(result, QualityResult) else LOOP_CAUTION]


def footer(made: Environment, *, digest: str, backend: Mapping[str, str]) -> list[str]:
    """Where a result comes from, as lines of Markdown.

    Args:
        made: The machine and the checkout.
        digest: The bundle's.
        backend: What it ran on, as the backend describes itself.
    """
    commit = made.commit[:12] + made.commit[40:]  # a hash has 40 digits; what follows says if files differ
    versions = ", ".join(f"{name} {version}" for name, version in made.versions.items())
    return [
        f"Bundle {digest[:12]}, commit {commit}, on {backend.get('backend', '?')} "
        f"({backend.get('provider', 'no provider')}). {made.cpu}, {made.cores} cores, {made.threads} "
        f"threads, load {made.load}. {versions}.",
        "",
        f"    {made.command}",
    ]
