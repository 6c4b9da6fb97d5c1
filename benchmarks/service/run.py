"""`python -m benchmarks service`: servers that differ in their batch alone, under the same loads by turns.

All servers are up from the begin to the end, and one at a time has requests: what is compared ran within the
same minutes, in an order that turns. The client runs on the same machine, and takes part of its time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from benchmarks.records import BundleFacts, Check
from benchmarks.rows import Track
from benchmarks.service.figures import OK, REFUSED, Baseline, Rounds, cell
from benchmarks.service.load import Answer, Image, arrivals, closed_loop, open_loop, post
from benchmarks.service.records import Cell, Kind, Lone, ServiceResult
from benchmarks.service.server import serving
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError, DeviceError
from edge_sr.image import encode_png
from edge_sr.pipeline import Upscaler
from edge_sr.spec import Precision

__all__ = ["Request", "run_service"]

Load = tuple[Kind, float]
Servers = Mapping[int, int]  # batch -> port
MOST_SENT = 4096  # after so many requests of a closed loop their sizes begin anew


@dataclass(frozen=True)
class Request:
    """What is to be served, and how it is asked for.

    Attributes:
        bundle: A folder.
        precision: Of the graphs.
        batches: Of the servers; 1, without batching, among them.
        loads: Arrivals over capacity.
        clients: Of the closed loops.
        seconds: How long requests come in each cell.
        rounds: How often each cell is run.
        large_side: LR pixels of the large image's side, above the bundle's tile.
        large_share: Of requests.
        queue_size: Requests that may wait.
        lone: Requests by themselves, of each size on each server.
        seed: Of arrivals and sizes.
        threads: Of each server, 0 for all cores.
    """

    bundle: Path
    precision: Precision = Precision.INT8
    batches: tuple[int, ...] = (1, 2, 4, 8)
    loads: tuple[float, ...] = (0.5, 0.8, 1.0, 1.5)
    clients: tuple[int, ...] = (1, 2, 4, 8)
    seconds: float = 20.0
    rounds: int = 5
    large_side: int = 160
    large_share: float = 0.1
    queue_size: int = 16
    lone: int = 5
    seed: int = 0
    threads: int = 0


def run_service(request: Request, *, arguments: Sequence[str], track: Track) -> ServiceResult:
    """Measures the service. Writes nothing.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle cannot be used, or a server does not start.
    """
    bundle = Bundle.open(request.bundle)
    facts, tiles = _facts(bundle, request)
    images = (_image(bundle.manifest.tile, is_large=False), _image(request.large_side, is_large=True))
    with ExitStack() as stack:
        servers = {
            batch: stack.enter_context(serving(_options(request, batch), queue_size=request.queue_size))
            for batch in sorted(request.batches)
        }
        lone = _lone(servers, images, request.lone)
        bench = _Bench(request, servers, images)
        capacity = bench.capacity()
        measured = bench.measure(capacity, track)
    baseline = Baseline((_median(lone[1], is_large=False), _median(lone[1], is_large=True)), tiles)
    answers = [a for found in lone.values() for a in found] + [a for r in measured.values() for a in r.all]
    differing = _differing(answers, reference=lone[1])
    cells = _cells(measured, baseline)
    return ServiceResult(
        environment=environment(arguments, threads=int(facts.backend["threads"])),
        bundle=facts,
        preset=bundle.diffusion.presets[bundle.diffusion.default],
        small=bundle.manifest.tile,
        large=request.large_side,
        tiles=tiles,
        large_share=request.large_share,
        queue_size=request.queue_size,
        capacity=capacity,
        seconds=request.seconds,
        rounds=request.rounds,
        seed=request.seed,
        lone=tuple(_lone_record(batch, found) for batch, found in lone.items()),
        cells=cells,
        differing=differing,
        checks=_checks(answers, cells, differing),
    )


def _facts(bundle: Bundle, request: Request) -> tuple[BundleFacts, tuple[int, int]]:
    """What is served, as the servers' backend says it, and how many tiles the two images have."""
    tile = bundle.manifest.tile
    if request.large_side <= tile or 1 not in request.batches:
        raise ConfigError(
            f"a large side of {request.large_side}, batches of {', '.join(map(str, request.batches))}",
            hint=f"a side above the tile's {tile}, and a batch of 1 to compare with",
        )
    backend = open_backend("onnxruntime", threads=request.threads)
    with Upscaler(bundle, backend, precision=request.precision) as upscaler:
        facts = BundleFacts(
            name=bundle.manifest.name,
            version=bundle.manifest.version,
            digest=bundle.digest,
            precision=str(request.precision),
            backend=backend.describe(),
        )
        return facts, (1, len(upscaler.grid(request.large_side, request.large_side)))


def _options(request: Request, batch: int) -> list[str]:
    options = {
        "--bundle": request.bundle.resolve(),
        "--precision": request.precision,
        "--backend": "onnxruntime",
        "--threads": request.threads,
        "--batch": batch,
    }
    return [word for name, value in options.items() for word in (name, str(value))]


def _image(side: int, *, is_large: bool) -> Image:
    """A ramp with noise on it, 8 bits."""
    ramp = np.linspace(40, 200, side)[:, None] + np.zeros((1, side))
    pixels = ramp + np.random.default_rng(side).normal(0, 8, (side, side))
    return Image(encode_png(np.clip(pixels, 0, 255).astype(np.uint8), text={}), is_large)


def _lone(servers: Servers, images: tuple[Image, Image], count: int) -> dict[int, list[Answer]]:
    """Each image by itself, so often on each server, by turns; after a turn that does not count.

    Raises:
        DeviceError: One was not answered.
    """
    found: dict[int, list[Answer]] = {batch: [] for batch in servers}
    for turn in range(count + 1):
        for batch, port in servers.items():
            answers = [post(port, image, time.perf_counter()) for image in images]
            if any(answer.status != OK for answer in answers):
                raise DeviceError(f"a server refused a request: {[answer.status for answer in answers]}")
            found[batch] += answers if turn else []
    return found


class _Bench:
    """The loads, by turns."""

    def __init__(self, request: Request, servers: Servers, images: tuple[Image, Image]) -> None:
        self._request, self._servers, self._images = request, servers, images

    def capacity(self) -> float:
        """Requests a second that the server without batching answers to more clients than one."""
        rounds = Rounds()
        self._run(rounds, ("closed", 4.0), batch=1, turn=-1, capacity=0.0)
        return rounds.throughputs()[0]

    def measure(self, capacity: float, track: Track) -> dict[tuple[Kind, float, int], Rounds]:
        """Every server under every load, once a round, in an order that turns."""
        request, batches = self._request, list(self._servers)
        loads: list[Load] = [("open", load) for load in request.loads]
        loads += [("closed", float(clients)) for clients in request.clients]
        found = {(kind, load, batch): Rounds() for kind, load in loads for batch in batches}
        turns = [(turn, load) for turn in range(request.rounds) for load in loads]
        for number, (turn, (kind, load)) in enumerate(track(turns, "loads")):
            first = number % len(batches)
            for batch in batches[first:] + batches[:first]:
                self._run(found[kind, load, batch], (kind, load), batch=batch, turn=turn, capacity=capacity)
        return found

    def _run(self, rounds: Rounds, load: Load, *, batch: int, turn: int, capacity: float) -> None:
        """One server under one load, once; the same requests for every server."""
        request, port, (kind, amount) = self._request, self._servers[batch], load
        seed = (request.seed, turn + 1, round(1000 * amount))
        if kind == "open":
            rate, share = amount * capacity, request.large_share
            due = arrivals(rate, request.seconds, large_share=share, seed=seed)
            answers, wall_s = open_loop(port, self._images, due)
        else:
            sizes = np.random.default_rng(seed).random(MOST_SENT) < request.large_share
            answers, wall_s = closed_loop(
                port,
                self._images,
                clients=int(amount),
                seconds=request.seconds,
                draw=lambda number: bool(sizes[number % MOST_SENT]),
            )
        rounds.answers.append(answers)
        rounds.wall_s.append(wall_s)


def _median(answers: Sequence[Answer], *, is_large: bool) -> float:
    return float(np.median([answer.latency_s for answer in answers if answer.is_large == is_large]))


def _lone_record(batch: int, answers: Sequence[Answer]) -> Lone:
    small, large = (
        tuple(round(a.latency_s, 5) for a in answers if a.is_large == is_large) for is_large in (False, True)
    )
    return Lone(batch=batch, small_s=small, large_s=large)


def _cells(measured: Mapping[tuple[Kind, float, int], Rounds], baseline: Baseline) -> tuple[Cell, ...]:
    return tuple(
        cell(kind, load, batch, rounds, peer=measured[kind, load, 1], baseline=baseline)
        for (kind, load, batch), rounds in measured.items()
    )


def _differing(answers: Sequence[Answer], *, reference: Sequence[Answer]) -> int:
    """Answers that are not the bytes of the server without batching."""
    wanted = {answer.is_large: answer.digest for answer in reference}
    return sum(a.status == OK and a.digest != wanted[a.is_large] for a in answers)


def _checks(answers: Sequence[Answer], cells: Sequence[Cell], differing: int) -> tuple[Check, ...]:
    """What is claimed of a server with batching."""
    odd = sum(answer.status not in (OK, REFUSED) for answer in answers)
    checks = [
        Check(claim="answers that are neither an image nor 429", value=odd, limit=0, holds=odd == 0),
        Check(
            claim="images that differ from those made one by one",
            value=differing,
            limit=0,
            holds=not differing,
        ),
    ]
    return (*checks, *_ratios(cells))


def _ratios(cells: Sequence[Cell]) -> list[Check]:
    """Servers with batching over the one without, under the most clients and the highest load below 1."""
    checks = []
    clients = max((c.load for c in cells if c.kind == "closed"), default=0.0)
    load = max((c.load for c in cells if c.kind == "open" and c.load < 1), default=0.0)
    peers = {(c.kind, c.load): c.summary for c in cells if c.batch == 1}
    for found in (c for c in cells if c.batch > 1):
        what = f"in batches of {found.batch} over one by one"
        if (found.kind, found.load) == ("closed", clients):
            ratio = found.summary.throughput_ratio[0]
            checks.append(_check(f"throughput {what}, {clients:g} clients", ratio, 0.95, holds=ratio >= 0.95))
        elif (found.kind, found.load) == ("open", load):
            ours, theirs = found.summary.small_slowdown, peers[found.kind, load].small_slowdown
            if ours and theirs:
                claim, ratio = f"slowdown of small images {what}, load {load:g}", ours / theirs
                checks.append(_check(claim, ratio, 1.0, holds=ratio <= 1.0))
    return checks


def _check(claim: str, value: float, limit: float, *, holds: bool) -> Check:
    return Check(claim=claim, value=float(f"{value:.4g}"), limit=limit, holds=holds)
