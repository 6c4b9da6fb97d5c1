"""Two results side by side: refused where they are not of the same thing, else ratios with their intervals.

Only the latency of an image decides; the rest is there to say where a difference comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from edge_sr.bench.notices import case_name
from edge_sr.bench.records import BenchResult, Row
from edge_sr.errors import ResultError
from edge_sr.manifest import Preset
from edge_sr.statistics import Ratio, median, median_ratio

__all__ = [
    "FIELDS",
    "LATENCY",
    "LEAST_SAMPLES",
    "Comparison",
    "Metric",
    "Pair",
    "compare",
    "compare_rows",
    "is_slower",
    "verdict",
]

SAME = (
    *("device", "cpu", "cores", "system", "container", "jetpack", "cuda", "driver"),
    *("backend", "backend_version", "provider", "power_mode"),
)
"""Of the environment, what has to be the same."""

TOLD = ("edge_sr", "python", "numpy", "kernel", "memory_mib", "tensorrt")
"""Of the environment, what may differ and is told: a new edge-sr is what comparisons are made for."""

CASE = ("precision", "size", "batch", "threads", *Preset.model_fields)
FIELDS = (*SAME, "bundle", *CASE)
"""All that has to be the same, and may be allowed to differ by name."""

LATENCY = "latency"
LEAST_SAMPLES = 10
"""Of each series: with fewer, a resampled median knows too little."""


@dataclass(frozen=True)
class Metric:
    """One figure of both results.

    Attributes:
        name: What.
        before, after: Medians in seconds.
        ratio: After over before, with its interval; below 1 is faster.
        samples: Of the shorter series.
    """

    name: str
    before: float
    after: float
    ratio: Ratio
    samples: int


@dataclass(frozen=True)
class Pair:
    """A row of each, and every figure that both have; the latency first."""

    before: Row
    after: Row
    metrics: tuple[Metric, ...]


@dataclass(frozen=True)
class Comparison:
    """What came of it.

    Attributes:
        pairs: Rows of the same case.
        notes: What differs and was allowed to, rows that only one of the two has, and what makes either
            doubtful.
    """

    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def compare(before: BenchResult, after: BenchResult, *, across: Sequence[str] = ()) -> Comparison:
    """Compares row by row.

    Args:
        before: What is held against.
        after: What is asked about.
        across: Those of `FIELDS` that may differ.

    Raises:
        ResultError: Something else differs; every field is named with both values. Or rows cannot be told
            apart once a field may differ.
    """
    problems = list(_differences(_facts(before), _facts(after), (*SAME, "bundle"), across))
    rows, unmatched = _matched(before.rows, after.rows, across)
    if not rows:
        problems += _case_differences(before.rows, after.rows, across) or ["no case is in both"]
    if problems:
        raise ResultError(
            f"not of the same thing: {'; '.join(problems)}",
            hint="measure both the same way, or let a field differ with --across FIELD",
        )
    notes = [*_allowed(before, after, across), *unmatched]
    notes += [f"{which}: {note}" for which, r in (("first", before), ("second", after)) for note in r.notices]
    return Comparison(tuple(compare_rows(a, b, are_pairs=False) for a, b in rows), tuple(notes))


def compare_rows(before: Row, after: Row, *, are_pairs: bool) -> Pair:
    """Every figure of two rows.

    Args:
        before: What is held against.
        after: What is asked about.
        are_pairs: Whether they are rows of one result, whose samples were taken in turns.
    """
    theirs = dict(_series(after))
    metrics = []
    for name, below in _series(before):
        above = theirs.get(name)
        if above is not None and min(above) > 0 and min(below) > 0:
            ratio = median_ratio(above, below, are_pairs=are_pairs)
            metrics.append(Metric(name, median(below), median(above), ratio, min(len(above), len(below))))
    return Pair(before, after, tuple(metrics))


def verdict(ratio: Ratio, samples: int) -> str:
    """A ratio in words.

    Args:
        ratio: Of times.
        samples: How many of each it rests on.
    """
    if samples < LEAST_SAMPLES:
        return f"too few samples to tell ({samples}, wants {LEAST_SAMPLES})"
    if ratio.low <= 1 <= ratio.high:
        return f"no difference seen (up to {max(1 - ratio.low, ratio.high - 1):.1%} would not be)"
    return f"{1 - ratio.value:.1%} faster" if ratio.value < 1 else f"{ratio.value - 1:.1%} slower"


def is_slower(pair: Pair, *, limit: float) -> bool:
    """Whether the latency grew by more than a limit beyond doubt: its whole interval lies above it.

    Args:
        pair: What was compared.
        limit: A ratio, 1.05 for 5 % slower.

    Raises:
        ResultError: There are too few samples to decide.
    """
    latency = pair.metrics[0]
    if latency.samples < LEAST_SAMPLES:
        raise ResultError(
            f"{case_name(pair.after.case)}: {latency.samples} samples cannot decide, wanted {LEAST_SAMPLES}",
            hint="measure for longer: edge-sr bench --duration",
        )
    return latency.ratio.low > limit


def _series(row: Row) -> Iterator[tuple[str, tuple[float, ...]]]:
    """Every series of samples by name; the same index of two rows of one result is the same round."""
    stages = row.stages
    yield LATENCY, stages.latency
    for name in ("encode", "loop", "decode", "host", "step", "read", "write"):
        yield name, getattr(stages, name)
    yield "file to file", stages.whole
    for batch in row.batches:
        yield f"batch {batch.size}", batch.latency


def _facts(result: BenchResult) -> dict[str, object]:
    """The fields of the environment, and the bundle."""
    digest = f"{result.bundle.name} {result.bundle.version} ({result.bundle.digest[:12]})"
    return {**result.environment.model_dump(), "bundle": digest}


def _case(row: Row) -> dict[str, object]:
    """The fields of a case."""
    case = row.case
    sizes = {
        "precision": str(case.precision),
        "size": case.size,
        "batch": case.batch,
        "threads": case.threads,
    }
    loop = case.preset.model_dump() if case.preset else dict.fromkeys(Preset.model_fields)
    return {**sizes, **loop}


def _differences(
    one: Mapping[str, object], two: Mapping[str, object], names: Sequence[str], across: Sequence[str]
) -> Iterator[str]:
    """What differs and may not, with both values."""
    for name in names:
        if one[name] != two[name] and name not in across:
            yield f"{name} {_said(one[name])} against {_said(two[name])}"


def _said(value: object) -> str:
    return "unknown" if value is None else str(value)


def _matched(
    before: Sequence[Row], after: Sequence[Row], across: Sequence[str]
) -> tuple[list[tuple[Row, Row]], list[str]]:
    """Rows of the same case but for what may differ, and a sentence for each that has no partner.

    Raises:
        ResultError: Two rows of one result are the same but for what may differ.
    """
    ours, theirs = _by_key(before, across), _by_key(after, across)
    pairs = [(row, theirs[key]) for key, row in ours.items() if key in theirs]
    lone = [("first", ours[key]) for key in ours if key not in theirs]
    lone += [("second", theirs[key]) for key in theirs if key not in ours]
    sentences = [f"only the {which} has {case_name(row.case)}" for which, row in lone]
    return pairs, sentences


def _by_key(rows: Sequence[Row], across: Sequence[str]) -> dict[tuple[object, ...], Row]:
    keyed: dict[tuple[object, ...], Row] = {}
    for row in rows:
        key = tuple(value for name, value in _case(row).items() if name not in across)
        if key in keyed:
            raise ResultError(
                f"in one result {case_name(keyed[key].case)} and {case_name(row.case)} differ in "
                f"{', '.join(across)} alone",
                hint="measure one of them in each result; edge-sr bench itself compares rows of one run",
            )
        keyed[key] = row
    return keyed


def _case_differences(before: Sequence[Row], after: Sequence[Row], across: Sequence[str]) -> list[str]:
    """Why no row fits: field by field, all values that each result has."""
    found = []
    for name in CASE:
        ours, theirs = (sorted({_said(_case(row)[name]) for row in rows}) for rows in (before, after))
        if ours != theirs and name not in across:
            found.append(f"{name} {', '.join(ours)} against {', '.join(theirs)}")
    return found


def _allowed(before: BenchResult, after: BenchResult, across: Sequence[str]) -> Iterator[str]:
    """What differs and may."""
    one, two = _facts(before), _facts(after)
    for name in (*TOLD, *SAME, "bundle"):
        if (name in TOLD or name in across) and one[name] != two[name]:
            yield f"{name} differs: {_said(one[name])} against {_said(two[name])}"
