"""What was measured of the service under load, as data.

History of the format:
    edge-sr/service  1  first version
"""

from __future__ import annotations

from typing import Literal

from benchmarks.records import BundleFacts, Check, Environment, Record
from edge_sr.manifest import Preset

__all__ = ["Cell", "Kind", "Lone", "ServiceResult", "Summary"]

Kind = Literal["open", "closed"]


class Lone(Record):
    """A request by itself on a server that has nothing else to do.

    Attributes:
        batch: Of the server.
        small_s, large_s: Seconds from connecting to the last byte, one a request.
    """

    batch: int
    small_s: tuple[float, ...]
    large_s: tuple[float, ...]


class Summary(Record):
    """What a cell comes to. Where nothing was answered, a figure is null.

    Attributes:
        throughput: Answers a second, over the time from the first request to the last answer of each round.
        tiles: The same in tiles a second.
        refused: Share of requests that were answered with 429.
        small_p50_s, small_p99_s, large_p50_s, large_p99_s: Of the latency of what was answered.
        small_slowdown, large_slowdown: Mean latency over that of the same request by itself.
        jain: Fairness (Jain et al. 1984) of the inverse slowdowns of all answers, 1 where all are the same.
        throughput_ratio: Over that of the server without batching in the same round: the median, the lowest
            and the highest of the rounds.
    """

    throughput: float
    tiles: float
    refused: float
    small_p50_s: float | None
    small_p99_s: float | None
    large_p50_s: float | None
    large_p99_s: float | None
    small_slowdown: float | None
    large_slowdown: float | None
    jain: float | None
    throughput_ratio: tuple[float, float, float]


class Cell(Record):
    """One server under one load; one entry a request in the order in which they were sent, all rounds.

    Attributes:
        kind: "open", where requests come whether or not others were answered, or "closed", where each client
            sends its next request once it has its answer.
        load: Of an open loop, arrivals over capacity; of a closed one, clients.
        batch: Of the server.
        round: Which one.
        is_large: Which of the two images.
        latency_s: From when it was due (open) or sent (closed) to the last byte of its answer.
        status: HTTP status; 0 where there was no answer.
        wall_s: A round's time from its begin to its last answer, one a round.
    """

    kind: Kind
    load: float
    batch: int
    round: tuple[int, ...]
    is_large: tuple[bool, ...]
    latency_s: tuple[float, ...]
    status: tuple[int, ...]
    wall_s: tuple[float, ...]
    summary: Summary


class ServiceResult(Record):
    """Servers that differ in their batch alone, under the same loads by turns.

    Attributes:
        small, large: LR pixels of the two images' sides; `tiles`: what each is cut into.
        large_share: Of requests.
        queue_size: Requests that may wait, on every server.
        capacity: Requests a second that the server without batching answers when it is never idle: the unit
            of all open loads.
        seconds, rounds, seed: How long requests come in a cell, how often, and of which arrivals.
        differing: Answers, of all, that are not the bytes of the server without batching.
    """

    kind: Literal["edge-sr/service"] = "edge-sr/service"
    schema_version: Literal[1] = 1
    environment: Environment
    bundle: BundleFacts
    preset: Preset
    small: int
    large: int
    tiles: tuple[int, int]
    large_share: float
    queue_size: int
    capacity: float
    seconds: float
    rounds: int
    seed: int
    lone: tuple[Lone, ...]
    cells: tuple[Cell, ...]
    differing: int
    checks: tuple[Check, ...]
