"""`edge-sr compare`: two results of `edge-sr bench`, if they are of the same thing."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from edge_sr.bench.comparison import FIELDS, Comparison, Metric, Pair, is_slower, verdict
from edge_sr.bench.comparison import compare as compare_results
from edge_sr.bench.notices import case_name
from edge_sr.bench.storage import read_result
from edge_sr.cli.bench_lines import interval
from edge_sr.cli.common import tell

__all__ = ["compare"]

FILE = click.Path(path_type=Path)
INTERVAL = "[ ] 95 % interval of the ratio of medians, for these two runs; other days may give other ratios"


@click.command()
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option(
    "--across",
    type=click.Choice(FIELDS),
    multiple=True,
    help="A field that may differ; may be given several times.",
)
@click.option(
    "--fail-above",
    type=click.FloatRange(0, min_open=True),
    metavar="RATIO",
    help="Exit with 1 where a row's latency is above RATIO times the one before, with its whole interval: "
    "1.05 for 5 % slower.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout.")
def compare(
    before: Path, after: Path, across: tuple[str, ...], fail_above: float | None, as_json: bool
) -> int:
    """Compare two results of edge-sr bench --json: AFTER against BEFORE.

    They are refused where they are not of the same thing: device, driver, versions, power mode, threads,
    bundle, steps, batch and so on; every field that differs is named with both values. Ratios below 1 are
    faster.
    """
    found = compare_results(read_result(before), read_result(after), across=across)
    slower = [] if fail_above is None else [p for p in found.pairs if is_slower(p, limit=fail_above)]
    tell(found.notes)
    click.echo(json.dumps(_record(found)) if as_json else "\n".join([*_lines(found), INTERVAL]))
    for pair in slower:
        click.echo(f"{case_name(pair.after.case)}: slower than {fail_above:g} times", err=True)
    return 1 if slower else 0


def _record(found: Comparison) -> dict[str, Any]:
    return {
        "notes": list(found.notes),
        "rows": [
            {
                "before": pair.before.case.model_dump(mode="json"),
                "after": pair.after.case.model_dump(mode="json"),
                "metrics": [asdict(m) | {"verdict": verdict(m.ratio, m.samples)} for m in pair.metrics],
            }
            for pair in found.pairs
        ],
    }


def _lines(found: Comparison) -> list[str]:
    return [line for pair in found.pairs for line in _pair_lines(pair)]


def _pair_lines(pair: Pair) -> list[str]:
    ours, theirs = case_name(pair.before.case), case_name(pair.after.case)
    heading = ours if ours == theirs else f"{theirs} against {ours}"
    lines = [heading, f"  {'median, ms':<14}{'before':>10}{'after':>10}    ratio"]
    return [*lines, *map(_metric_line, pair.metrics)]


def _metric_line(metric: Metric) -> str:
    medians = f"{1e3 * metric.before:>10.3f}{1e3 * metric.after:>10.3f}"
    words = verdict(metric.ratio, metric.samples)
    return f"  {metric.name:<14}{medians}    {interval(metric.ratio)}  {words}"
