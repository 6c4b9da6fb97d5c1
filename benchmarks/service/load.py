"""Requests that come at random times, or one after the other from several clients."""

from __future__ import annotations

import hashlib
import http.client
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

__all__ = ["Answer", "Arrival", "Image", "arrivals", "closed_loop", "open_loop", "post"]

PATIENCE_S = 300.0
MOST_CLIENTS = 128


@dataclass(frozen=True)
class Image:
    """What a request sends.

    Attributes:
        data: A PNG.
        is_large: Whether it has several tiles.
    """

    data: bytes
    is_large: bool


@dataclass(frozen=True)
class Arrival:
    """A request to come: when, in seconds from the begin, and of which size."""

    at_s: float
    is_large: bool


@dataclass(frozen=True)
class Answer:
    """A request and what became of it.

    Attributes:
        is_large: Which image was sent.
        latency_s: From when it was due, to the last byte.
        status: HTTP status; 0 where the connection failed.
        digest: Of the answer's body where its status is 200, else empty.
    """

    is_large: bool
    latency_s: float
    status: int
    digest: str


def arrivals(rate: float, seconds: float, *, large_share: float, seed: Sequence[int]) -> tuple[Arrival, ...]:
    """A Poisson process: independent exponential gaps, and sizes drawn one by one; at least one request.

    Args:
        rate: Requests a second, above 0.
        seconds: How long they come.
        large_share: Probability of a large image.
        seed: Of numpy's default generator.
    """
    rng, at, found = np.random.default_rng(list(seed)), 0.0, list[Arrival]()
    while at < seconds or not found:
        found.append(Arrival(at, bool(rng.random() < large_share)))
        at += float(rng.exponential(1 / rate))
    return tuple(found)


def open_loop(port: int, images: tuple[Image, Image], due: Sequence[Arrival]) -> tuple[list[Answer], float]:
    """Sends every request when it is due, however many are not answered yet.

    Args:
        port: Of the server, on this machine.
        images: The small one, the large one.
        due: What is to be sent.

    Returns:
        The answers in the order of the arrivals, and seconds from the begin to the last of them. A latency
        begins when the request was due: one that could not be sent in time has waited.
    """
    with ThreadPoolExecutor(MOST_CLIENTS) as clients:
        began = time.perf_counter()
        pending = []
        for arrival in due:
            time.sleep(max(0.0, began + arrival.at_s - time.perf_counter()))
            image = images[arrival.is_large]
            pending.append(clients.submit(post, port, image, began + arrival.at_s))
        answers = [future.result() for future in pending]
        return answers, time.perf_counter() - began


def closed_loop(
    port: int, images: tuple[Image, Image], *, clients: int, seconds: float, draw: Callable[[int], bool]
) -> tuple[list[Answer], float]:
    """Clients that each send a request once they have the answer to the one before.

    Args:
        port: Of the server, on this machine.
        images: The small one, the large one.
        clients: At once.
        seconds: After so long nothing new is sent.
        draw: Whether the request of a number, counted over all clients, is large.

    Returns:
        The answers in the order in which they were sent, and seconds from the begin to the last of them.
    """
    lock, answers, sent = threading.Lock(), dict[int, Answer](), 0
    began = time.perf_counter()

    def client(_: int) -> None:
        nonlocal sent
        while time.perf_counter() - began < seconds:
            with lock:
                number, sent = sent, sent + 1
            answer = post(port, images[draw(number)], time.perf_counter())
            with lock:
                answers[number] = answer

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(client, range(clients)))
    return [answers[number] for number in sorted(answers)], time.perf_counter() - began


def post(port: int, image: Image, due: float) -> Answer:
    """One request on a connection of its own; `due` is in seconds of `time.perf_counter`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    try:
        connection.request("POST", "/v1/upscale", body=image.data, headers={"Content-Type": "image/png"})
        response = connection.getresponse()
        body, status = response.read(), response.status
    except (OSError, http.client.HTTPException):
        body, status = b"", 0
    finally:
        connection.close()
    latency_s = time.perf_counter() - due
    return Answer(
        image.is_large, latency_s, status, hashlib.sha256(body).hexdigest() if status == 200 else ""
    )
