from __future__ import annotations

import pytest

from benchmarks.records import Check, Estimate, RowResult, Statistics
from benchmarks.report import quality_checks
from benchmarks.scores import SPECTRUM


def row(key: str, psnr: float, lpips: float, *, power: float = 0.0) -> RowResult:
    """A row of these means; bicubic's are 30 dB and 0.2, the model's 30.6 dB and 0.07."""
    values = {"psnr_db": psnr, "lpips": lpips} | dict.fromkeys(SPECTRUM, power)
    bases = {"bicubic": (30.0, 0.2), "model": (30.6, 0.07)}
    versus = {
        base: {"psnr_db": point(psnr - theirs[0]), "lpips": point(lpips - theirs[1])}
        for base, theirs in bases.items()
    }
    statistics = {name: Statistics(mean=value, std=None, seed_std=0.0) for name, value in values.items()}
    return RowResult(
        key=key, label=key, note="", preset=None, values={}, statistics=statistics, versus=versus
    )


def point(value: float) -> Estimate:
    return Estimate(mean=value, low=value, high=value)


def checks(*extra: RowResult) -> dict[str, Check]:
    rows = (row("hr", 100, 0), row("bicubic", 30, 0.2), row("model", 30.6, 0.07), *extra)
    return {check.claim: check for check in quality_checks(rows, None)}


def test_the_default_has_to_win_on_both_axes() -> None:
    found = checks()
    assert [check.holds for check in found.values()] == [True, True]
    assert found["model: LPIPS at most 0.4 of bicubic's"].value == pytest.approx(0.35)


@pytest.mark.parametrize(
    ("preset", "holds"),
    [
        (row("preset-perceptual", 29.1, 0.15, power=1.4), [True, True]),
        (row("preset-perceptual", 28.9, 0.07, power=-1.6), [False, False]),
        (row("preset-fidelity", 31.1, 0.13), [True, True]),
        (row("preset-fidelity", 30.9, 0.15), [False, False]),
        (row("preset-fast", 30.5, 0.075), [True, True]),
        (row("preset-fast", 30.3, 0.08), [False, False]),
        (row("preset-other", 0, 1), []),
    ],
)
def test_a_preset_is_held_to_what_its_name_promises(preset: RowResult, holds: list[bool]) -> None:
    of_preset = [check.holds for claim, check in checks(preset).items() if claim.startswith("preset")]
    assert of_preset == holds
