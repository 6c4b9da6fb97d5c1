"""What a service survived, as Markdown."""

from __future__ import annotations

from benchmarks.faults.records import FaultsResult
from benchmarks.report import LOOP_CAUTION, check_table, footer

__all__ = ["faults_report"]


def faults_report(result: FaultsResult) -> str:
    """All of it."""
    bundle, flood = result.bundle, result.flood
    middle, low, high = flood.growth_mib_a_minute
    answers = ", ".join(f"{count} times {status}" for status, count in flood.statuses.items())
    lines = [
        f"# What `edge-sr serve` survives: {bundle.name} {bundle.version}, {bundle.precision}",
        "",
        f"One server in a process of its own, over HTTP on loopback, images of {result.side}x{result.side} "
        f"pixels; {result.elapsed_s:.0f} s in all.",
        "",
        *check_table(result.checks),
        f"The flood: {flood.clients} clients on {flood.places} places for {flood.seconds:g} s "
        f"({flood.wall_s:g} s to the last answer), each with a new request as soon as it has its answer. "
        f"Answers: {answers}. It made {flood.images_a_s[1]:.2f} images a second in it, and "
        f"{flood.images_a_s[0]:.2f} just before, with {flood.places} clients; clients run on the same cores.",
        "",
        f"Resident memory went from {flood.memory_mib[0]:.0f} to {flood.memory_mib[-1]:.0f} MiB, at most "
        f"{max(flood.memory_mib):.0f}. After the first quarter a line through it grows {middle:+.2f} MiB a "
        f"minute [95 %: {low:+.2f}, {high:+.2f}]. Open files {flood.files[0]} before, at most "
        f"{flood.files[1]}, {flood.files[2]} after; threads {flood.threads[0]}, {flood.threads[1]}, "
        f"{flood.threads[2]}.",
        "",
        "Other faults are tests, in tests/edge_sr/service: a device that throws (test_refusing.py, "
        "test_batched.py), one that hangs until the watchdog ends the service (test_supervised.py, "
        "test_booted.py), a bad configuration (both), 1,000 hostile bodies (test_hostile.py), a wall clock "
        "that is set (test_clock.py), a soak (test_soak.py). A command without room for its output, and one "
        "that is killed while it writes: tests/edge_sr/test_interrupted.py.",
        "",
        *footer(result.environment, digest=bundle.digest, backend=bundle.backend),
        "",
        LOOP_CAUTION,
    ]
    return "\n".join(lines) + "\n"
