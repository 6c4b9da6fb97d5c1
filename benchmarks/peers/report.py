"""The peers as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.peers.protocol import OURS
from benchmarks.peers.records import PeerResult, PeersResult
from benchmarks.records import Estimate
from benchmarks.report import LOOP_CAUTION, check_table, footer, markdown_table
from benchmarks.rows import describe

__all__ = ["peers_report"]

MB, MIB = 1e6, 1 << 20


def peers_report(result: PeersResult) -> str:
    """The whole of it: the checks first, then time, agreement and what each runtime asks for."""
    bundle, threads = result.bundle, result.environment.threads
    lines = [
        f"# Peers of {bundle.name} {bundle.version}: {describe(result.preset)}",
        "",
        f"The same weights, steps and noise, {_data(result)}, {threads} CPU threads each, every runtime in a "
        f"process of its own; {result.rounds} rounds in which all take their turn, each after a run that is "
        "not counted.",
        "",
        *check_table(result.checks),
        *_times(result.rows),
        "",
        "Ratios: the peer's time over edge-sr's in the same round, median over rounds [95 % interval]; above "
        "1 is slower than edge-sr. Agreement: PSNR of the images against edge-sr in FP32, the lowest one.",
        "",
        *_asks(result.rows),
        "",
        f"Installed: all files of what its user asks pip for and of what that brings. {_torch(result)}Lines: "
        "of code in `benchmarks/peers/snippets/`, which is what runs here.",
        "",
        *[f"- {row.label}: {row.note}" for row in result.rows],
        *[f"- {out.key} was left out: {out.reason}" for out in result.left_out],
        *[f"- {notice}" for notice in result.notices],
        "",
        *footer(result.environment, digest=bundle.digest, backend=bundle.backend),
        "",
        LOOP_CAUTION,
    ]
    return "\n".join(lines) + "\n"


def _data(result: PeersResult) -> str:
    return f"{len(result.data.images)} images of {result.data.name}" if result.data else "a made-up image"


def _times(rows: Sequence[PeerResult]) -> list[str]:
    has_truth = any(row.to_truth_db for row in rows)
    head = ["", "ms an image [quartiles]", "over edge-sr", "over edge-sr, same precision", "agreement, dB"]
    cells = [
        [
            _label(row),
            f"{1e3 * row.seconds.median:.0f} [{1e3 * row.seconds.low:.0f}, {1e3 * row.seconds.high:.0f}]",
            _estimate(row.over_ours),
            _estimate(row.over_ours_alike),
            _agreement(row),
            *[f"{np.mean(row.to_truth_db):.2f}"] * has_truth,
        ]
        for row in rows
    ]
    return markdown_table([*head, *["PSNR to the truth, dB"] * has_truth], cells)


def _asks(rows: Sequence[PeerResult]) -> list[str]:
    head = ["", "installed, MB", "import, s", "to the first image, s", "peak memory, MiB", "lines"]
    cells = [
        [
            _label(row),
            f"{row.footprint.installed_bytes / MB:.0f}",
            f"{np.median(row.footprint.import_s):.2f}",
            f"{row.open_s:.2f}",
            f"{row.peak_bytes / MIB:.0f}",
            str(row.footprint.lines),
        ]
        for row in rows
    ]
    return markdown_table(head, cells)


def _label(row: PeerResult) -> str:
    return f"**{row.label}**" if row.key == OURS else row.label


def _estimate(found: Estimate) -> str:
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _agreement(row: PeerResult) -> str:
    """The lowest, where any image differs."""
    found = [value for value in row.to_ours_db if value is not None]
    return f"{min(found):.1f}" if found else "equal"


def _torch(result: PeersResult) -> str:
    if result.torch_bytes is None:
        return ""
    return f"{result.torch_build} alone, with what it brings: {result.torch_bytes / MB:.0f} MB. "
