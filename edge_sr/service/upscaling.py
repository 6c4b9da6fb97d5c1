"""POST /v1/upscale: a request on its way through body, decoding, the device, encoding."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from edge_sr import dicom
from edge_sr.errors import UsageError
from edge_sr.image import LoadedImage, decode_image
from edge_sr.pipeline import Enlarges
from edge_sr.result import Result, Settings, upscale_image
from edge_sr.service.answers import encode, headers_of
from edge_sr.service.bodies import FORM, Body, check_headers, receive
from edge_sr.service.counters import Counters
from edge_sr.service.parameters import DICOM, JSON, PNG, Include, Parameters, negotiate, parse_parameters
from edge_sr.service.problems import CLIENT_CLOSED, Problem
from edge_sr.service.progress import Progress, Ticket
from edge_sr.service.settings import ServiceSettings
from edge_sr.service.worker import Worker

__all__ = ["Service", "upscale"]

T = TypeVar("T")
NAME = "the image"
"""What every image is called here; the client's own name for it is not kept."""


@dataclass
class Service:
    """What all requests share.

    Attributes:
        settings: What may be asked for.
        worker: The device.
        counters: What is counted.
        host: Decodes and encodes, one image at a time, beside the device.
        progress: Where each of them is.
    """

    settings: ServiceSettings
    worker: Worker
    counters: Counters
    host: ThreadPoolExecutor
    progress: Progress = field(default_factory=Progress)


@dataclass
class _Clock:
    """Seconds by stage, in the order in which they were spent; and when it is too late."""

    deadline: float
    ticket: Ticket
    seconds: dict[str, float] = field(default_factory=dict)
    last: float = field(default_factory=time.perf_counter)

    def lap(self, stage: str) -> None:
        """What has passed since the last stage was this one."""
        now = time.perf_counter()
        self.seconds[stage], self.last = now - self.last, now
        self.ticket.ended(stage)


@dataclass(frozen=True)
class _Decoded:
    """An image to enlarge; `source` is what a derived object is made from, where it was DICOM."""

    image: LoadedImage
    source: dicom.Source | None


async def upscale(request: Request) -> Response:
    """Answers with the enlarged image, or with a problem."""
    service: Service = request.app.state.service
    with service.progress.track(request.state.request_id) as ticket:
        return await _tracked(request, service, ticket)


async def _tracked(request: Request, service: Service, ticket: Ticket) -> Response:
    clock = _Clock(time.monotonic() + service.settings.deadline_s, ticket)
    parameters = parse_parameters(request.query_params.multi_items(), service.settings)
    declared = check_headers(request, service.settings)
    accept = ",".join(request.headers.getlist("accept"))
    negotiate(accept, _offered(declared, parameters))
    try:
        with service.worker.slot():
            body = await receive(request, service.settings, declared)
            clock.lap("receive")
            media_type = negotiate(accept, _offered(body.media_type, parameters))
            return await _enlarged(request, parameters, body, media_type, clock)
    except ClientDisconnect as error:
        raise _gone() from error


def _offered(media_type: str, parameters: Parameters) -> tuple[str, ...]:
    """What the answer to a body of this type can be; a form may have anything in it."""
    if parameters.include:
        return (JSON,)
    return (PNG, DICOM, JSON) if media_type in (DICOM, FORM) else (PNG, JSON)


async def _enlarged(
    request: Request, parameters: Parameters, body: Body, media_type: str, clock: _Clock
) -> Response:
    service: Service = request.app.state.service
    bundle = service.worker.bundle
    assert bundle is not None, "a slot was given before the worker was ready"
    settings = parameters.resolve(bundle.manifest, service.settings)
    decoding = service.host.submit(_decode, body, settings, service.settings, parameters.include)
    decoded = await _wait(request, decoding, clock.deadline)
    clock.lap("read")

    def work(upscaler: Enlarges) -> Result:
        clock.lap("queue")
        return upscale_image(upscaler, decoded.image, settings)

    pixels = decoded.image.pixels.shape[0] * decoded.image.pixels.shape[1] * (settings.scale or 1) ** 2
    result = await _wait(request, service.worker.submit(work, pixels=pixels), clock.deadline)
    service.counters.count_result(result)
    clock.lap("device")
    encoding = service.host.submit(
        encode, result, decoded.image, decoded.source, media_type, parameters.include
    )
    data = await _wait(request, encoding, clock.deadline)
    clock.lap("write")
    return Response(data, media_type=media_type, headers=headers_of(result, clock.seconds))


def _decode(body: Body, settings: Settings, limits: ServiceSettings, include: frozenset[Include]) -> _Decoded:
    """Decodes; a DICOM image is never named, and neither is any other. What comes beside counts as output."""
    scale = settings.scale or 1
    source = None
    if body.media_type == DICOM:
        source = dicom.decode_dicom(body.data, name=NAME, scale=scale, limits=settings.limits)
    image = source.image if source else decode_image(body.data, name=NAME, limits=settings.limits)
    height, width = image.pixels.shape[:2]
    copies = 1 + len(include - {Include.INPUT})
    if copies * height * width * scale**2 > limits.max_output_pixels:
        beside = f" and {copies - 1} more beside it" if copies > 1 else ""
        raise UsageError(
            f"{width}x{height} pixels at scale {scale}{beside}: at most {limits.max_output_pixels} are made",
            hint=f"send a smaller image, or ask for a smaller scale{' or for less beside it' * bool(beside)}",
        )
    return _Decoded(replace(image, name=NAME), source)


async def _wait(request: Request, job: Future[T], deadline: float) -> T:
    """The result of a job on another thread, unless its time is up or the client is gone: it is taken back.

    A job that has begun is not interrupted, but leaves a batch at the next step; its result is dropped.
    """
    future = asyncio.wrap_future(job)
    gone = asyncio.ensure_future(_disconnected(request))
    either: set[asyncio.Future[Any]] = {future, gone}
    try:
        left_s = deadline - time.monotonic()
        done, _ = await asyncio.wait(either, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if future in done:
            return future.result()
        if gone in done:
            raise _gone()
        raise Problem(504, "not done within the deadline", hint="try again, or ask for less")
    finally:
        gone.cancel()
        future.cancel()


async def _disconnected(request: Request) -> None:
    """Returns once the client is gone; the body was read to its end before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _gone() -> Problem:
    return Problem(CLIENT_CLOSED, "the client went away")
