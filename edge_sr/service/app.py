"""The application: its routes, and what each but the main one answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, asynccontextmanager
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from edge_sr import __version__
from edge_sr.errors import EdgeSRError
from edge_sr.pipeline import Enlarges, Upscaler
from edge_sr.result import Settings, warm_up
from edge_sr.service.access import Access, problem_response
from edge_sr.service.batched import BatchedWorker
from edge_sr.service.counters import CONTENT_TYPE, Counters
from edge_sr.service.guard import Guard
from edge_sr.service.openapi import document
from edge_sr.service.page import index, info, load_static, static
from edge_sr.service.problems import Problem, problem_of
from edge_sr.service.progress import progress
from edge_sr.service.settings import ServiceSettings
from edge_sr.service.upscaling import Service, upscale
from edge_sr.service.worker import State, Worker

__all__ = ["create_app", "make_worker"]

NAME = "edge-sr"
UNAVAILABLE = 503


def make_worker(
    open_upscaler: Callable[[], AbstractContextManager[Upscaler]], settings: ServiceSettings
) -> Worker:
    """A worker that is ready after one inference: one request runs, or a batch, while so many wait."""
    slots = settings.queue_size + 1
    if settings.batch == 1:
        return Worker(open_upscaler, warm_up=_warm_up, slots=slots)
    pixels = settings.max_output_pixels
    return BatchedWorker(open_upscaler, warm_up=_warm_up, slots=slots, most_pixels=pixels)


def _warm_up(upscaler: Enlarges) -> None:
    """Enlarges one tile the way that requests are by default."""
    warm_up(upscaler, Settings(upscaler.bundle.manifest.default_preset))


def create_app(worker: Worker, settings: ServiceSettings) -> Starlette:
    """The application; it starts the worker with itself, and closes it.

    Args:
        worker: Not started yet.
        settings: What requests may ask for.
    """
    counters = Counters(worker)
    load_static()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        with ThreadPoolExecutor(1, "edge-sr-host") as host:
            app.state.service = Service(settings, worker, counters, host)
            worker.start()
            try:
                yield
            finally:
                await asyncio.to_thread(worker.close)

    app = Starlette(
        routes=[Route(path, endpoint, methods=[method]) for path, method, endpoint in ROUTES],
        middleware=[Middleware(Access, counters=counters), Middleware(Guard, settings=settings)],
        exception_handlers={HTTPException: _http_error, Problem: _problem, EdgeSRError: _problem},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # a path is there or not
    return app


def _worker(request: Request) -> Worker:
    service: Service = request.app.state.service
    return service.worker


async def healthz(request: Request) -> Response:
    """Whether the process answers; of the device it says nothing."""
    return JSONResponse({"status": "alive", "version": __version__})


async def readyz(request: Request) -> Response:
    """Whether requests are taken."""
    state = _worker(request).state
    return JSONResponse({"status": state.value}, 200 if state is State.READY else UNAVAILABLE)


async def metrics(request: Request) -> Response:
    """The figures, for Prometheus."""
    service: Service = request.app.state.service
    return Response(service.counters.text(), headers={"Content-Type": CONTENT_TYPE})


async def server_live(request: Request) -> Response:
    """Open Inference Protocol: alive."""
    return JSONResponse({"live": True})


async def server_ready(request: Request) -> Response:
    """Open Inference Protocol: requests are taken."""
    is_ready = _worker(request).state is State.READY
    return JSONResponse({"ready": is_ready}, 200 if is_ready else UNAVAILABLE)


async def server_metadata(request: Request) -> Response:
    """Open Inference Protocol: what this is."""
    return JSONResponse({"name": NAME, "version": __version__, "extensions": []})


async def model_metadata(request: Request) -> Response:
    """Open Inference Protocol: what is served. Inference itself is POST /v1/upscale alone."""
    bundle = _worker(request).bundle
    if bundle is None:
        raise Problem(UNAVAILABLE, "the service is starting", headers={"Retry-After": "5"})
    manifest = bundle.manifest
    if request.path_params["name"] != manifest.name:
        raise Problem(404, f"the model that is served is {manifest.name}")
    tensor = _tensor("image", manifest.channels)
    tensors = {"inputs": [tensor], "outputs": [tensor]}
    return JSONResponse(
        {"name": manifest.name, "versions": [manifest.version], "platform": "edge-sr_bundle", **tensors}
    )


def _tensor(name: str, channels: int) -> dict[str, Any]:
    """An image of any size, gray or RGB, as the protocol names it."""
    shape = [-1, -1] if channels == 1 else [-1, -1, channels]
    return {"name": name, "datatype": "UINT16", "shape": shape}


async def openapi(request: Request) -> Response:
    """The description of all this."""
    service: Service = request.app.state.service
    bundle = service.worker.bundle
    return JSONResponse(document(service.settings, bundle.manifest if bundle else None))


async def _http_error(request: Request, error: Exception) -> Response:
    """What the router refuses: 404, 405."""
    assert isinstance(error, HTTPException)
    problem = Problem(error.status_code, error.detail, headers=error.headers)
    return problem_response(problem, request.state.request_id)


async def _problem(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status == 500:
        raise error  # for the outermost layer, which logs it
    return problem_response(problem, request.state.request_id)


ROUTES: tuple[tuple[str, str, Callable[[Request], Any]], ...] = (
    ("/", "GET", index),
    ("/static/{name}", "GET", static),
    ("/v1/upscale", "POST", upscale),
    ("/v1/progress/{request_id}", "GET", progress),
    ("/v1/info", "GET", info),
    ("/healthz", "GET", healthz),
    ("/readyz", "GET", readyz),
    ("/metrics", "GET", metrics),
    ("/openapi.json", "GET", openapi),
    ("/v2", "GET", server_metadata),
    ("/v2/health/live", "GET", server_live),
    ("/v2/health/ready", "GET", server_ready),
    ("/v2/models/{name}", "GET", model_metadata),
)
"""Path, method, endpoint; each is described in `edge_sr.service.openapi`."""
