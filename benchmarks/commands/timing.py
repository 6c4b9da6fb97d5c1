"""The commands that ask how fast a model runs, and what the service stands."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from benchmarks.commands.options import (
    BUNDLE,
    FOLDER,
    INT8_PRECISION,
    OUT,
    PRECISION,
    RESULTS,
    THREADS,
    progress,
    tell,
)


@click.command()
@BUNDLE
@PRECISION
@click.option("--steps", type=click.IntRange(1), default=20)
@click.option("--repeats", type=click.IntRange(3), default=30, help="Measurements of each.")
@THREADS
@OUT
def loop(out: Path | None, **options: Any) -> None:
    """Time the loop against its engine calls, and the whole against eager torch."""
    from benchmarks.loop import Request, run_loop
    from benchmarks.records import check_writable, save
    from benchmarks.report import loop_report

    request = Request(**options)
    out = out or RESULTS / f"loop-{request.bundle.name}-{request.precision}"
    check_writable(out)
    result = run_loop(request, arguments=sys.argv[1:], track=progress)
    markdown = loop_report(result)
    tell(markdown, save(out, record=result, markdown=markdown))


@click.command()
@BUNDLE
@INT8_PRECISION
@click.option(
    "--batch", "batches", type=click.IntRange(1, 64), multiple=True, default=(1, 2, 4, 8), help="Of a server."
)
@click.option(
    "--load",
    "loads",
    type=click.FloatRange(0.01, 100),
    multiple=True,
    default=(0.5, 0.8, 1.0, 1.5),
    help="Arrivals over what one by one can do.",
)
@click.option(
    "--clients", type=click.IntRange(1, 64), multiple=True, default=(1, 2, 4, 8), help="Of a closed loop."
)
@click.option("--seconds", type=click.FloatRange(0.1), default=20.0, help="Of each load on each server.")
@click.option(
    "--rounds", type=click.IntRange(1), default=5, help="Times that each load is put on each server."
)
@click.option(
    "--large-side", type=click.IntRange(1), default=160, help="LR pixels of the large images' side."
)
@click.option("--large-share", type=click.FloatRange(0, 1), default=0.1, help="Of requests.")
@click.option("--queue-size", type=click.IntRange(1, 1000), default=16, help="Requests that may wait.")
@click.option("--lone", type=click.IntRange(1), default=5, help="Requests by themselves, of each size.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of arrivals and sizes.")
@THREADS
@OUT
def service(out: Path | None, **options: Any) -> None:
    """Load edge-sr serve over HTTP: batches of several sizes against one request after the other.

    Repeat --batch, --load and --clients for several. It takes seconds x rounds x batches x (loads + clients),
    and what is waiting at the end of each.
    """
    from benchmarks.records import check_writable, save
    from benchmarks.service.report import service_report
    from benchmarks.service.run import Request, run_service

    request = Request(**options)
    out = out or RESULTS / f"service-{request.bundle.name}-{request.precision}"
    check_writable(out)
    with _interrupted_by_sigterm():
        result = run_service(request, arguments=sys.argv[1:], track=progress)
    markdown = service_report(result)
    tell(markdown, save(out, record=result, markdown=markdown))


@click.command()
@BUNDLE
@INT8_PRECISION
@click.option("--backend", default="onnxruntime", help="Of edge-sr serve.")
@click.option("--seconds", type=click.FloatRange(5), default=60.0, help="Of the flood.")
@click.option("--queue-size", type=click.IntRange(1, 20), default=4, help="Requests that may wait.")
@click.option("--side", type=click.IntRange(8, 1024), default=64, help="LR pixels of the image's side.")
@THREADS
@OUT
def faults(out: Path | None, **options: Any) -> None:
    """Flood edge-sr serve, kill it, leave it, be slow, fill its disk; and see what it answers then.

    Linux alone. It takes the flood's seconds and about a minute.
    """
    from benchmarks.faults.report import faults_report
    from benchmarks.faults.run import Request, run_faults
    from benchmarks.records import check_writable, save

    request = Request(**options)
    out = out or RESULTS / f"faults-{request.bundle.name}-{request.precision}"
    check_writable(out)
    with _interrupted_by_sigterm():
        result = run_faults(request, arguments=sys.argv[1:])
    markdown = faults_report(result)
    tell(markdown, save(out, record=result, markdown=markdown))


@click.command()
@BUNDLE
@click.option("--pairs", type=FOLDER, help="Folder with hr_256/ and lr_64/; a made-up image without it.")
@click.option("--calibration", type=FOLDER, help="Images for NNCF, as the bundle was calibrated with.")
@click.option("--peer", "peers", multiple=True, help="A peer's key; repeatable. Without it, all of them.")
@click.option("--limit", type=click.IntRange(1), default=8, help="Images at most.")
@click.option("--rounds", type=click.IntRange(3), default=30, help="Measurements of each, in turns.")
@click.option("--imports", type=click.IntRange(1), default=5, help="Measurements of each import.")
@THREADS
@OUT
def peers(out: Path | None, **options: Any) -> None:
    """The same weights and steps through other runtimes, side by side: time, memory, size, lines."""
    from benchmarks.peers.picture import peers_picture
    from benchmarks.peers.report import peers_report
    from benchmarks.peers.run import Request, run_peers
    from benchmarks.records import check_writable, save

    request = Request(**options)
    out = out or RESULTS / f"peers-{request.bundle.name}"
    check_writable(out)
    result = run_peers(request, arguments=sys.argv[1:], track=progress)
    markdown = peers_report(result)
    tell(markdown, save(out, record=result, markdown=markdown, png=peers_picture(result)))


@click.command()
@BUNDLE
@click.option("--rounds", type=click.IntRange(3), default=20, help="Measurements of each, in turns.")
@THREADS
@OUT
def roofline(out: Path | None, **options: Any) -> None:
    """How near each stage comes to this machine's peak, measured beside it, and what stands between."""
    from benchmarks.records import check_writable, save
    from benchmarks.roofline.report import roofline_report
    from benchmarks.roofline.run import Request, run_roofline

    request = Request(**options)
    out = out or RESULTS / f"roofline-{request.bundle.name}"
    check_writable(out)
    result = run_roofline(request, arguments=sys.argv[1:], track=progress)
    markdown = roofline_report(result)
    tell(markdown, save(out, record=result, markdown=markdown))


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """So that the servers which a benchmark started end with it."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
