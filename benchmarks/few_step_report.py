"""What `python -m benchmarks few-step` found, in words and in pictures."""

from __future__ import annotations

import numpy as np

from benchmarks.few_step import CLOSENESS, Comparison, FewStepResult, Outcome
from benchmarks.records import Estimate
from benchmarks.report import check_table, heading, markdown_table, quality_table
from benchmarks.rows import MODEL
from benchmarks.scores import LPIPS_NAME, METRICS
from benchmarks.sheet import panel_sheet, picks

__all__ = ["few_step_report", "few_step_sheet"]


def few_step_report(result: FewStepResult) -> str:
    """The whole as Markdown: what students change first, then every row's scores."""
    bundle, students = result.scores.bundle, result.students
    lines = [
        f"# Students of {bundle.name} {bundle.version}, distilled from {result.teacher_steps} steps",
        "",
        "Each student less its teacher in as few steps, from the same noise, image by image: mean [95 % "
        "bootstrap interval over images], and ± the standard deviation over "
        f"{len(result.scores.seeds)} seeds of the mean over images, the seed noise. Against the true images:",
        "",
        *_closeness(result),
        "",
        "PSNR in dB against the image that the teacher makes of the same noise in "
        f"{result.teacher_steps} steps:",
        "",
        *_sameness(result),
        "",
        *check_table(result.checks),
        "Students: " + ", ".join(f"{s.name} {s.version} ({s.digest[:12]})" for s in students) + ".",
        "",
        "#" + quality_table(result.scores),
    ]
    return "\n".join(lines)


def _closeness(result: FewStepResult) -> list[str]:
    names = [name for name in CLOSENESS if name in result.scores.metrics]
    rows = [
        [_label(found), *[_change(found.versus[n], found.seed_std[n], METRICS[n].digits) for n in names]]
        for found in result.comparisons
    ]
    return markdown_table(["", *[heading(name) for name in names]], rows)


def _sameness(result: FewStepResult) -> list[str]:
    rows = [
        [
            _label(found),
            *[f"{found.same[who].mean:.2f}" for who in ("plain", "student")],
            _change(found.same["difference"], found.same_seed_std, 2),
        ]
        for found in result.comparisons
    ]
    return markdown_table(["", "teacher in as few steps", "student", "student less teacher"], rows)


def _label(found: Comparison) -> str:
    return f"{found.steps} step{'s' if found.steps > 1 else ''}, noise x {found.noise_scale:g}"


def _change(change: Estimate, noise: float | None, digits: int) -> str:
    text = f"{change.mean:+.{digits}f} [{change.low:+.{digits}f}, {change.high:+.{digits}f}]"
    return text if noise is None else f"{text} ± {noise:.{digits}f}"


def few_step_sheet(outcome: Outcome) -> bytes:
    """Best, median and worst image: LR, teacher in many and in few steps, student, true HR; a PNG file.

    Fewest steps and most noise are shown, where there is most to lose.
    """
    result, images, pairs = outcome.record, outcome.images, outcome.pairs
    shown = min(result.comparisons, key=lambda found: (found.steps, -found.noise_scale))
    metric = LPIPS_NAME if LPIPS_NAME in result.scores.metrics else "psnr_db"
    model = next(row for row in result.scores.rows if row.key == MODEL)
    chosen = picks(np.mean(model.values[metric], axis=0), better=METRICS[metric].better)
    enlarged = pairs.hr.shape[-1] // pairs.lr.shape[-1]
    steps = f"{shown.steps} step{'s' if shown.steps > 1 else ''}"
    columns = {
        "LR": pairs.lr_pixels.repeat(enlarged, axis=1).repeat(enlarged, axis=2),
        f"teacher, {result.teacher_steps} steps": images[shown.teacher][0],
        f"teacher, {steps}": images[shown.plain][0],
        f"student, {steps}": images[shown.student][0],
        "true HR": pairs.hr_pixels,
    }
    words = f"Best, median and worst of {len(pairs.names)} images of '{pairs.name}' by the default's "
    words += f"{METRICS[metric].label.partition(',')[0]}; noise x {shown.noise_scale:g}, seed 0."
    return panel_sheet(columns, [(pick.title, pick.index) for pick in chosen], words)
