"""`python -m benchmarks peers`: every runtime in a process of its own, in turns, on the same images."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.environment import environment
from benchmarks.loop import timing
from benchmarks.pairs import Pairs, read_pairs
from benchmarks.peers.assembly import Measured, assemble
from benchmarks.peers.calibrating import is_same_set
from benchmarks.peers.child import Child, prepare
from benchmarks.peers.footprint import code_lines, dependencies, import_seconds, installed_bytes, snippet_path
from benchmarks.peers.protocol import OURS, OURS_FP32, PEERS, Case, Peer, find_peer
from benchmarks.peers.records import Footprint, LeftOut, PeersResult
from benchmarks.peers.worker import IMAGES
from benchmarks.rows import Track, require_parts
from edge_sr.backends import open_backend
from edge_sr.bundle import Bundle
from edge_sr.errors import BackendError, ConfigError, EdgeSRError
from export.bundle import phantom

__all__ = ["Request", "run_peers"]

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """What is to be compared, and how.

    Attributes:
        bundle: Its folder.
        pairs: Images of one tile, with the truth; None for a made-up image.
        calibration: Images for NNCF; None leaves it out.
        peers: Keys; empty for all. edge-sr itself is always there.
        limit: Images at most.
        rounds: Times that every runtime is measured.
        imports: Times that its imports are.
        threads: CPU threads; 0 for all cores.
    """

    bundle: Path
    pairs: Path | None = None
    calibration: Path | None = None
    peers: tuple[str, ...] = ()
    limit: int = 8
    rounds: int = 30
    imports: int = 5
    threads: int = 0


def run_peers(request: Request, *, arguments: Sequence[str], track: Track) -> PeersResult:
    """Compares runtimes. Writes nothing that stays.

    Args:
        request: What, and how.
        arguments: Those of the command line, for the record.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle or the images cannot be used, a peer is unknown, or edge-sr itself fails.
    """
    bundle = Bundle.open(request.bundle)
    require_parts(bundle, "peers")
    described = open_backend("onnxruntime", threads=request.threads).describe()
    threads = int(described["threads"])
    pairs = read_pairs(request.pairs, bundle, limit=request.limit) if request.pairs else None
    with tempfile.TemporaryDirectory(prefix="edge-sr-peers-") as work:
        case = Case(request.bundle.resolve(), Path(work), threads, request.calibration)
        _check_preset(case, bundle)
        np.save(case.work / IMAGES, _images(bundle, pairs))
        ready, left_out = _prepare(_chosen(request.peers), case, track)
        measured, failed = _measure(ready, case, request, track)
    same = is_same_set(request.calibration, bundle) if "openvino-int8" in measured else None
    return assemble(
        measured,
        left_out=(*left_out, *failed),
        environment=environment(arguments, threads=threads),
        bundle=bundle,
        preset=case.preset(bundle),
        backend=described,
        pairs=pairs,
        same_calibration=same,
    )


def _chosen(keys: Sequence[str]) -> list[Peer]:
    """The peers in the table's order, edge-sr first.

    Raises:
        UsageError: One is unknown.
    """
    wanted = {find_peer(key).key for key in keys or PEERS} | {OURS, OURS_FP32}
    return [find_peer(key) for key in PEERS if key in wanted]


def _check_preset(case: Case, bundle: Bundle) -> None:
    if case.preset(bundle).samples != 1:
        raise ConfigError(
            f"the default preset of {bundle.manifest.name} takes {case.preset(bundle).samples} samples",
            hint="peers compares the time of one sample",
        )


def _images(bundle: Bundle, pairs: Pairs | None) -> Float:
    """(N, C, t, t) in [-1, 1]."""
    manifest = bundle.manifest
    return phantom(manifest.tile, manifest.channels)[None] if pairs is None else pairs.lr


def _prepare(peers: Sequence[Peer], case: Case, track: Track) -> tuple[list[Peer], list[LeftOut]]:
    """Those that can run, and why the others cannot."""
    ready, left_out = [], []
    for peer in track(peers, "weights and graphs"):
        reason = peer.available(case)
        if not reason:
            try:
                prepare(peer.key, case)
            except BackendError as error:
                reason = error.message
        if reason:
            left_out.append(LeftOut(key=peer.key, reason=reason))
        else:
            ready.append(peer)
    return ready, left_out


def _measure(
    peers: Sequence[Peer], case: Case, request: Request, track: Track
) -> tuple[dict[str, Measured], list[LeftOut]]:
    """Opens all of them, and has them take turns; the order turns, and so do the images."""
    children, failed = {}, []
    with ExitStack() as stack:
        for peer in track(peers, "opening"):
            try:
                children[peer.key] = stack.enter_context(Child(peer.key, case))
            except BackendError as error:
                failed.append(LeftOut(key=peer.key, reason=error.message))
        if missing := {OURS_FP32, OURS} - set(children):
            reasons = "; ".join(f"{out.key}: {out.reason}" for out in failed if out.key in missing)
            raise EdgeSRError(f"edge-sr itself could not be measured: {reasons or ', '.join(missing)}")
        seconds = _take_turns(children, request.rounds, len(np.load(case.work / IMAGES)), track)
        saved = {key: _made(child, case) for key, child in children.items()}
    measured = {
        key: Measured(
            peer=find_peer(key),
            seconds=timing(seconds[key], note=find_peer(key).note),
            open_s=child.open_s,
            peak_bytes=saved[key][0],
            images=saved[key][1],
            footprint=_footprint(find_peer(key), request.imports),
        )
        for key, child in track(list(children.items()), "sizes, imports")
    }
    return measured, failed


def _take_turns(
    children: Mapping[str, Child], rounds: int, images: int, track: Track
) -> dict[str, list[float]]:
    """Seconds: key -> one a round."""
    names = list(children)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in track(range(rounds), "rounds"):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            seconds[name].append(children[name].seconds(turn % images))
    return seconds


def _made(child: Child, case: Case) -> tuple[int, Float]:
    """A peer's peak of memory, and what it makes of every image: (N, C, T, T)."""
    path = case.work / f"{child.key}.npy"
    return child.save(path), np.load(path)


def _footprint(peer: Peer, repeats: int) -> Footprint:
    installed = installed_bytes(dependencies(peer.distributions))
    path = snippet_path(peer.snippet)
    return Footprint(
        installed=installed,
        installed_bytes=sum(installed.values()),
        import_s=tuple(import_seconds(path, repeats=repeats)),
        lines=code_lines(path),
    )
