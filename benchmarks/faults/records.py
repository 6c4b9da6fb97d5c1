"""What a service survived, as data.

History of the format:
    edge-sr/faults  1  first version
"""

from __future__ import annotations

from typing import Literal

from benchmarks.records import BundleFacts, Check, Environment, Record

__all__ = ["FaultsResult", "Flood"]


class Flood(Record):
    """More clients than the service has places, each with a request as soon as it has an answer.

    Attributes:
        clients, places: Clients at once; requests that the service takes at once.
        seconds: How long new requests were sent; `wall_s`: until the last answer.
        statuses: HTTP status -> answers; 0 is a connection that failed.
        images_a_s: Images made a second with as many clients as places, just before, and in the flood.
        at_s, memory_mib: Resident memory of the server over time.
        growth_mib_a_minute: Of a line through it after the first quarter; with its 95 % interval.
        files, threads: Open at the begin, at most, and after the end.
    """

    clients: int
    places: int
    seconds: float
    wall_s: float
    statuses: dict[str, int]
    images_a_s: tuple[float, float]
    at_s: tuple[float, ...]
    memory_mib: tuple[float, ...]
    growth_mib_a_minute: tuple[float, float, float]
    files: tuple[int, int, int]
    threads: tuple[int, int, int]


class FaultsResult(Record):
    """All faults of one run.

    Attributes:
        elapsed_s: How long it ran in all.
        side: LR pixels of the image's side.
        flood: Raw values of the one that takes long.
        checks: What each came to.
    """

    kind: Literal["edge-sr/faults"] = "edge-sr/faults"
    schema_version: Literal[1] = 1
    environment: Environment
    bundle: BundleFacts
    elapsed_s: float
    side: int
    flood: Flood
    checks: tuple[Check, ...]
