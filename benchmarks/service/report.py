"""The service under load as Markdown."""

from __future__ import annotations

import numpy as np

from benchmarks.report import LOOP_CAUTION, check_table, footer, markdown_table
from benchmarks.rows import describe
from benchmarks.service.records import Cell, ServiceResult

__all__ = ["service_report"]

HEAD = [
    "load",
    "batch",
    "sent",
    "refused",
    "answers/s",
    "tiles/s",
    "over one by one",
    "small p50, p99, ms",
    "large p50, p99, ms",
    "slowdown, small",
    "large",
    "Jain",
]


def service_report(result: ServiceResult) -> str:
    """All of it."""
    bundle = result.bundle
    lines = [
        f"# `edge-sr serve` under load: {bundle.name} {bundle.version}, {bundle.precision}",
        "",
        f"Images of {result.small}x{result.small} pixels ({result.tiles[0]} tile) and, "
        f"{result.large_share:.0%} of them, {result.large}x{result.large} ({result.tiles[1]} tiles): "
        f"{describe(result.preset)}. Over HTTP on loopback, each server a process; {result.rounds} rounds of "
        f"{result.seconds:g} s a cell, servers by turns, the same requests for each. {result.queue_size} "
        "requests may wait. A batch of 1 is one request after the other, without batching.",
        "",
        *check_table(result.checks),
        "By itself, on a server that has nothing else to do, median:",
        "",
        *markdown_table(
            ["batch", "small, ms", "large, ms"],
            [[str(x.batch), _ms(np.median(x.small_s)), _ms(np.median(x.large_s))] for x in result.lone],
        ),
        "",
        f"Open loop: Poisson arrivals, as a share of the {result.capacity:.2f} requests a second that the "
        "server without batching answers when it is never idle.",
        "",
        *markdown_table(HEAD, [_row(c, f"{c.load:g}") for c in result.cells if c.kind == "open"]),
        "",
        "Closed loop: clients that each send a request once they have their answer.",
        "",
        *markdown_table(HEAD, [_row(c, f"{c.load:g} clients") for c in result.cells if c.kind == "closed"]),
        "",
        "- over one by one: throughput over that of the server without batching in the same round, median "
        "[lowest, highest round].",
        "- p50, p99: of the time from when a request was due, or sent, to the last byte of its answer; of "
        "what was answered.",
        "- slowdown: mean latency over that of the same request by itself, without batching.",
        "- Jain: fairness of inverse slowdowns over all answers; 1 where everybody is slowed down alike.",
        "- the client runs on the same machine, and takes part of its time.",
        "",
        *footer(result.environment, digest=bundle.digest, backend=bundle.backend),
        "",
        LOOP_CAUTION,
    ]
    return "\n".join(lines) + "\n"


def _row(cell: Cell, load: str) -> list[str]:
    found = cell.summary
    middle, low, high = found.throughput_ratio
    return [
        load,
        str(cell.batch),
        str(len(cell.status)),
        f"{found.refused:.0%}",
        f"{found.throughput:.2f}",
        f"{found.tiles:.2f}",
        "" if cell.batch == 1 else f"{middle:.2f} [{low:.2f}, {high:.2f}]",
        f"{_ms(found.small_p50_s)}, {_ms(found.small_p99_s)}",
        f"{_ms(found.large_p50_s)}, {_ms(found.large_p99_s)}",
        _told(found.small_slowdown),
        _told(found.large_slowdown),
        _told(found.jain),
    ]


def _ms(seconds: float | np.floating | None) -> str:
    return "-" if seconds is None else f"{1000 * float(seconds):.0f}"


def _told(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
