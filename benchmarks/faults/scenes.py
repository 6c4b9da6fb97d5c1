"""The faults, each done to a server that runs, and what came of it."""

from __future__ import annotations

import http.client
import json
import resource
import socket
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial

from benchmarks.faults.records import Flood
from benchmarks.faults.watch import Held, Samples, eventually, held, trend, watching
from benchmarks.records import Check
from benchmarks.service.load import Answer, Image, closed_loop, post
from benchmarks.service.server import Served

__all__ = ["flood", "killed", "no_room", "slow", "vanished"]

HONEST = {200, 429, 503}
TIMES = 10
LORIS, VANISHING, SEEN_S = 40, 3, 5.0
HEAD = "POST /v1/upscale HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nX-Request-Id: {0}\r\n"
FLAT = 0.05
"""Of the memory, that it may grow by over the flood."""


def flood(served: Served, image: Image, *, places: int, seconds: float) -> tuple[Flood, list[Check]]:
    """Ten times as many clients as places. An image before it has what is made on first use be there."""
    first, pid = post(served.port, image, time.perf_counter()), served.process.pid
    alone = _load(served, image, clients=places, seconds=seconds / 4)
    before = held(pid)
    with watching(pid) as samples:
        answers, wall_s = _load(served, image, clients=TIMES * places, seconds=seconds)
    eventually(lambda: _more(before, held(pid)) == 0)
    counts, found = Counter(answer.status for answer in answers), trend(samples.at_s, samples.memory_mib)
    record = Flood(
        clients=TIMES * places,
        places=places,
        seconds=seconds,
        wall_s=round(wall_s, 2),
        statuses={str(status): counts[status] for status in sorted(counts)},
        images_a_s=(_images_a_s(*alone), _images_a_s(answers, wall_s)),
        at_s=tuple(samples.at_s),
        memory_mib=tuple(round(value, 2) for value in samples.memory_mib),
        growth_mib_a_minute=(found.a_minute, found.low, found.high),
        **_open(before, samples, held(pid)),
    )
    return record, [*_flood_checks(record, answers, first), _served("flood", served, image)]


def _load(served: Served, image: Image, *, clients: int, seconds: float) -> tuple[list[Answer], float]:
    return closed_loop(served.port, (image, image), clients=clients, seconds=seconds, draw=lambda _: False)


def _images_a_s(answers: Sequence[Answer], wall_s: float) -> float:
    return round(sum(answer.status == 200 for answer in answers) / wall_s, 3)


def _open(before: Held, samples: Samples, after: Held) -> dict[str, tuple[int, int, int]]:
    """Files and threads before, at most, after."""
    return {
        "files": (before.files, max(one.files for one in samples.held), after.files),
        "threads": (before.threads, max(one.threads for one in samples.held), after.threads),
    }


def _flood_checks(record: Flood, answers: Sequence[Answer], first: Answer) -> list[Check]:
    images = [answer for answer in answers if answer.status == 200]
    odd = sum(answer.status not in HONEST for answer in answers)
    other = sum(answer.digest != first.digest for answer in images)
    growth = record.growth_mib_a_minute[0] * record.wall_s / 60 / record.memory_mib[0]
    more = sum(max(0, after - before) for before, _, after in (record.files, record.threads))
    return [
        _none(f"flood of {len(answers)} requests: lost, or answered with neither 200, 429 nor 503", odd),
        _none(f"flood: of {len(images)} images, those that are not the one made before it", other),
        Check(claim="flood: growth of memory by its trend, share", value=round(growth, 4), limit=FLAT,
              holds=growth <= FLAT),
        _none("flood: open files and threads more than before, once it is over", more),
    ]  # fmt: skip


def vanished(served: Served, image: Image, *, places: int) -> list[Check]:
    """Three times as many clients as places go away, in their body or after it by turns."""
    for number in range(VANISHING * places):
        with _sending(served.port, image, whole=number % 2 == 1) as (_, name):
            eventually(partial(_is_known, served.port, name), SEEN_S)
    busy = not eventually(lambda: _metric(served.port, "edge_sr_queue_depth") == 0)
    return [
        _none("clients that vanish: jobs of theirs that still wait", busy),
        _served("vanish", served, image),
    ]


def slow(served: Served, image: Image, *, head_s: float) -> list[Check]:
    """Clients that send the head of a request and never its end, while others ask."""
    with ExitStack() as stack:
        clients = [stack.enter_context(_connected(served.port)) for _ in range(LORIS)]
        for client in clients:
            client.sendall(HEAD.format("x").encode())
        beside = _served(f"{LORIS} slow clients", served, image)
        open_still = sum(not _is_cut_off(client, head_s) for client in clients)
    return [beside, _none("slow clients: not cut off", open_still)]


def no_room(served: Served, image: Image) -> list[Check]:
    """No file can grow by a byte, the log's neither: as on a full disk."""
    limits = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE)
    before, log = served.files, len(served.log)
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        check = _served("no room to write", served, image)
        grown = len(served.log) - log
    finally:
        resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, limits)
    written = len(set(served.files) - set(before))
    return [check, _none("no room: bytes of log written, which shows that there was none", grown),
            _none("no room: files written", written), _served("room again", served, image)]  # fmt: skip


def killed(start: Callable[[int], AbstractContextManager[Served]], image: Image) -> list[Check]:
    """SIGKILL while an image is on the device, and half of another has come; then again on the same port."""
    with ExitStack() as stack:
        served = stack.enter_context(start(0))
        before = served.files
        half, _ = stack.enter_context(_sending(served.port, image, whole=False))
        client, name = stack.enter_context(_sending(served.port, image, whole=True))
        was_running = eventually(lambda: _stage(served.port, name) == "running")
        served.process.kill()
        served.process.wait()
        told = _rest(client) + _rest(half)
        written, port = len(set(served.files) - set(before)), served.port
    checks = [
        Check(claim="killed: an image was on the device", value=was_running, limit=1, holds=was_running),
        _none("killed: bytes of answers, which would be parts of one", len(told)),
        _none("killed: files left that were not there before the requests", written),
    ]
    with start(port) as again:
        return [*checks, _served("killed and started again on the same port", again, image)]


def _served(what: str, served: Served, image: Image) -> Check:
    status = post(served.port, image, time.perf_counter()).status
    return Check(claim=f"{what}: status of an image then", value=status, limit=200, holds=status == 200)


def _none(claim: str, value: float) -> Check:
    return Check(claim=claim, value=float(value), limit=0, holds=value <= 0)


def _more(before: Held, after: Held) -> int:
    return max(0, after.files - before.files) + max(0, after.threads - before.threads)


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=60)


class _sending(ExitStack):
    """A client that has sent a request, or half of one, and reads nothing; and the request's id."""

    def __init__(self, port: int, image: Image, *, whole: bool) -> None:
        super().__init__()
        self._port, self._data = port, image.data
        self._end = len(image.data) if whole else len(image.data) // 2

    def __enter__(self) -> tuple[socket.socket, str]:  # type: ignore[override]
        client, name = self.enter_context(_connected(self._port)), str(uuid.uuid4())
        head = HEAD.format(name) + f"Content-Length: {len(self._data)}\r\n\r\n"
        client.sendall(head.encode() + self._data[: self._end])
        return client, name


def _is_cut_off(client: socket.socket, head_s: float) -> bool:
    client.settimeout(10 * head_s)
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def _rest(client: socket.socket) -> bytes:
    try:
        return client.recv(65536)
    except ConnectionError:
        return b""


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    finally:
        connection.close()


def _stage(port: int, name: str) -> str:
    return str(json.loads(_get(port, f"/v1/progress/{name}"))["stage"])


def _is_known(port: int, name: str) -> bool:
    return _stage(port, name) != "unknown"


def _metric(port: int, name: str) -> float:
    lines = _get(port, "/metrics").decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))
