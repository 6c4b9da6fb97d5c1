"""What a class-guided model makes of an image that it is told the true class of, and the wrong one.

Every image is made under every class and guidance; which of them is the true one follows from its label. So
the rows show what happens where a label is right, and where it is wrong, which nobody knows beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks.diagnostic.cases import HEALTHY, ILL
from benchmarks.diagnostic.outputs import Making, Output, images_of_seed
from benchmarks.diagnostic.records import RowResult
from benchmarks.ladder.opening import open_rung
from benchmarks.ladder.rungs import FP32, Rung, deployed_preset
from benchmarks.pairs import Pairs
from benchmarks.rows import HR, Runner, Track
from edge_sr.bundle import Bundle

__all__ = ["GUIDANCES", "STRONGEST", "can_be_told", "danger", "find_row", "told_key", "told_outputs"]

GUIDANCES = (1.0, 2.0, 4.0)
STRONGEST = max(GUIDANCES)
KINDS = {"true": "the class of its label", "wrong": "the other class"}
Flags = npt.NDArray[np.bool_]


def can_be_told(bundle: Bundle) -> bool:
    """Whether it knows both classes of the judge, and that much guidance."""
    classes = bundle.manifest.classes
    return classes is not None and {HEALTHY, ILL} <= set(classes.names) and classes.most_guidance >= STRONGEST


def told_key(kind: str, guidance: float) -> str:
    """As in "wrong-4"."""
    return f"{kind}-{guidance:g}"


def told_outputs(
    rung: Rung, pairs: Pairs, making: Making, *, is_ill: Flags, track: Track
) -> Iterator[Output]:
    """Two rows a guidance: every image told its true class, and every image told the wrong one.

    Raises:
        EdgeSRError: A graph cannot be run as wanted, or kept images cannot be read or written.
    """
    with open_rung(rung, threads=making.threads) as upscaler:
        runner, runs_on = Runner(upscaler), upscaler.backend.describe()
        for guidance in GUIDANCES:
            made = []
            for name in (HEALTHY, ILL):
                preset = deployed_preset(rung.bundle).model_copy(
                    update={"class_name": name, "guidance": guidance}
                )
                made.append(
                    np.stack(
                        [
                            images_of_seed(rung, runner, pairs, making, preset=preset, seed=seed, track=track)
                            for seed in making.seeds
                        ]
                    )
                )
            ill = is_ill[None, :, None, None]
            healthy, diseased = made
            rows = {"true": np.where(ill, diseased, healthy), "wrong": np.where(ill, healthy, diseased)}
            for kind, images in rows.items():
                label = f"told the {kind} class, guidance {guidance:g}"
                note = f"FP32; every image is told {KINDS[kind]}"
                yield Output(told_key(kind, guidance), label, note, images, runs_on)


def find_row(rows: Sequence[RowResult], key: str) -> RowResult | None:
    """The row with this key; None where there is none."""
    return next((row for row in rows if row.key == key), None)


def danger(rows: Sequence[RowResult]) -> Iterator[str]:
    """What telling a class does to the judge's findings, in words."""
    null = find_row(rows, FP32)
    for guidance in GUIDANCES:
        wrong, true = (find_row(rows, told_key(kind, guidance)) for kind in ("wrong", "true"))
        if null and wrong and true:
            yield (
                f"**Guidance by label, at {guidance:g}**: told the wrong class, the judge finds pneumonia in "
                f"{_percent(wrong, 'false_positive_rate')} of the healthy and misses "
                f"{_percent(wrong, 'false_negative_rate')} of the ill; told the true one, "
                f"{_percent(true, 'false_positive_rate')} and {_percent(true, 'false_negative_rate')}; told "
                f"nothing, {_percent(null, 'false_positive_rate')} and "
                f"{_percent(null, 'false_negative_rate')}; of the true images "
                f"{_percent(find_row(rows, HR), 'false_positive_rate')} and "
                f"{_percent(find_row(rows, HR), 'false_negative_rate')}."
            )


def _percent(row: RowResult | None, rate: str) -> str:
    share = row and row.rates[rate]
    return f"{100 * share.value:.1f} %" if share else "none"
