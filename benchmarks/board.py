"""From images to the record of a scoreboard: scores, statistics, differences, notices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from benchmarks import report
from benchmarks.pairs import Pairs
from benchmarks.records import (
    BundleFacts,
    DataFacts,
    DiversityFacts,
    Environment,
    Estimate,
    QualityResult,
    RowResult,
    Statistics,
)
from benchmarks.rows import BICUBIC, CEILING, CONTROLS, HR, MEAN, MODEL, TRAINING_MEAN, ZERO, Row, Track
from benchmarks.scores import LPIPS_NAME, LPIPS_VERSION, METRICS, Judge, Values
from benchmarks.summary import RESAMPLES, bootstrap, diversity, seed_noise, spread

__all__ = [
    "BOOTSTRAP_SEED",
    "assemble",
    "estimate",
    "raw",
    "rounded",
    "score",
    "seed_diversity",
    "summarise",
]

Gray = npt.NDArray[np.uint8]
Table = npt.NDArray[np.float64]  # (S, N): a metric of a row, a line a seed, a column an image
Scores = dict[str, list[list[Values]]]  # row -> seed -> image -> metric -> value
BOOTSTRAP_SEED = 0
CORRELATIONS = ("pixel", "block", "regression", "other")  # the fields of `Diversity`


def score(judge: Judge, images: Mapping[str, Gray], pairs: Pairs, *, track: Track) -> Scores:
    """Every metric of every image of every row; and of the HR images, those that need no other.

    Args:
        judge: Scores the images of one scene.
        images: Row -> (S, N, H, W).
        pairs: What they are held against.
        track: Shows progress.
    """
    hr, lr = pairs.hr_pixels, pairs.lr_pixels
    slots = [(key, seed) for key, made in images.items() for seed in range(len(made))]
    scores: Scores = {key: [[] for _ in made] for key, made in images.items()}
    scores[HR] = [[]]
    for index in track(range(len(hr)), "metrics"):
        scores[HR][0].append(judge.inspect(hr[index], lr[index]))
        versions = [images[key][seed, index] for key, seed in slots]
        decoded = images[CEILING][0, index] if CEILING in images else None
        compared = judge.compare(versions, hr[index], lr[index], reconstruction=decoded)
        for (key, seed), values in zip(slots, compared, strict=True):
            scores[key][seed].append(values)
    return scores


def assemble(
    made_by: Environment,
    bundle: BundleFacts,
    data: DataFacts,
    *,
    rows: Sequence[Row],
    scores: Scores,
    spreads: DiversityFacts | None,
    features: str | None = None,
) -> QualityResult:
    """Everything that is known, as one record; `features` as `QualityResult` has it."""
    truth = Row(HR, "true HR", "what every row is held against")
    tables = {key: _table(seeds) for key, seeds in scores.items()}
    results = tuple(_row_result(row, tables) for row in [truth, *rows])
    has_lpips = LPIPS_NAME in tables[MODEL]
    return QualityResult(
        environment=made_by,
        bundle=bundle,
        data=data,
        seeds=tuple(range(len(scores[MODEL]))),
        bootstrap={"resamples": RESAMPLES, "seed": BOOTSTRAP_SEED},
        lpips=LPIPS_VERSION if has_lpips else None,
        features=features,
        metrics={name: metric.label for name, metric in METRICS.items() if name in tables[MODEL]},
        rows=results,
        diversity=spreads,
        checks=report.quality_checks(results, spreads),
        notices=_notices({row.key for row in rows}, tables[MODEL]),
    )


def _table(seeds: Sequence[Sequence[Values]]) -> dict[str, Table]:
    """Metric -> (S, N)."""
    return {name: np.array([[image[name] for image in seed] for seed in seeds]) for name in seeds[0][0]}


def _row_result(row: Row, tables: Mapping[str, Mapping[str, Table]]) -> RowResult:
    own = tables[row.key]
    baselines = [key for key in (BICUBIC, MODEL) if key != row.key and row.key != HR]
    return RowResult(
        key=row.key,
        label=row.label,
        note=row.note,
        preset=row.preset,
        values={name: raw(table) for name, table in own.items()},
        statistics={name: summarise(table) for name, table in own.items()},
        versus={
            key: {name: estimate(own[name].mean(axis=0) - tables[key][name].mean(axis=0)) for name in own}
            for key in baselines
        },
    )


def raw(table: Table) -> tuple[tuple[float, ...], ...]:
    """A metric's values as they stand in a result: one list a seed."""
    return tuple(tuple(map(rounded, seed)) for seed in table)


def summarise(table: Table) -> Statistics:
    """What a result says of a metric of a row.

    Args:
        table: (S, N), a line a seed, a column an image.
    """
    images = table.mean(axis=0)
    return Statistics(mean=float(images.mean()), std=spread(images), seed_std=seed_noise(table))


def estimate(values: npt.ArrayLike) -> Estimate:
    """The mean of one value an image, and its interval, as it stands in a result."""
    interval = bootstrap(values, seed=BOOTSTRAP_SEED)
    return Estimate(mean=interval.mean, low=interval.low, high=interval.high)


def seed_diversity(images: Mapping[str, Gray], pairs: Pairs) -> DiversityFacts | None:
    """Whether seeds differ where the error is; None for a single seed, or where there is no mean image.

    Args:
        images: Row -> (S, N, H, W).
        pairs: What they are held against.
    """
    if len(images[MODEL]) < 2 or MEAN not in images:
        return None
    found = diversity(images[MODEL], images[MEAN][0], pairs.hr_pixels)
    values = {name: tuple(map(rounded, getattr(found, name))) for name in CORRELATIONS}
    return DiversityFacts(values=values, estimates={name: estimate(v) for name, v in values.items()})


def _notices(rows: set[str], model: Mapping[str, Table]) -> tuple[str, ...]:
    """What is missing or too small, and why."""
    notices = []
    if LPIPS_NAME not in model:
        notices.append("LPIPS is left out: name the folder of its weights with --lpips")
    has_loop, has_latent = bool(rows & set(CONTROLS)), TRAINING_MEAN in rows
    if has_latent and CEILING not in rows:
        notices.append("the autoencoder's ceiling is left out: name the run that trained it with --vae")
    if has_latent and ZERO not in rows:
        notices.append("the zero latent is left out: the decoder graph does not name the latent's scale")
    seeds, images = next(iter(model.values())).shape
    if has_loop and seeds < 3:
        notices.append(f"seeds: {seeds}, too few to tell the noise that they make; 3 or more do")
    if images < 30:
        notices.append(f"images: {images}, too few for the intervals to mean much")
    return tuple(notices)


def rounded(value: float) -> float:
    """Six significant digits: more than any of the metrics is known to."""
    return float(f"{value:.6g}")
