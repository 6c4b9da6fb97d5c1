"""The page at ``/``: the files under ``static/``, known by name, and what it asks before an image.

A file is served because it is in a table that was made at start, so that no path that a client sends ever
reaches the file system. The page keeps to its own policy: no inline script or style, nothing from elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge_sr import __version__
from edge_sr.result import DISCLAIMER
from edge_sr.service.bodies import IMAGES
from edge_sr.service.parameters import Include
from edge_sr.service.problems import Problem
from edge_sr.service.settings import ServiceSettings
from edge_sr.service.worker import Worker

__all__ = ["POLICY", "PUBLIC_PATHS", "STATIC", "StaticFile", "index", "info", "load_static", "static"]

STATIC = "/static/"
PUBLIC_PATHS = ("/", STATIC)
"""What is served to anybody, since it knows nothing: the page itself, and all below its folder."""

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""Content-Security-Policy of the page. Its pictures are drawn, so that no image comes from a blob either."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class StaticFile:
    """One file of the page.

    Attributes:
        content: All of it.
        media_type: By its suffix.
        etag: By its content.
    """

    content: bytes = field(repr=False)
    media_type: str
    etag: str

    @property
    def headers(self) -> dict[str, str]:
        """Of every answer with it: ask again each time, be nobody's frame, tell nobody where from."""
        return {
            "Cache-Control": "no-cache",
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "ETag": self.etag,
            "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
            "Referrer-Policy": "no-referrer",
        }


@cache
def load_static() -> Mapping[str, StaticFile]:
    """The files of the page by name, read once."""
    folder = resources.files("edge_sr.service") / "static"
    found = {}
    for entry in folder.iterdir():
        media_type = _TYPES.get("." + entry.name.rpartition(".")[2])
        if media_type is not None:
            content = entry.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[entry.name] = StaticFile(content, media_type, etag)
    return found


async def index(request: Request) -> Response:
    """The page."""
    return _answer(request, "index.html")


async def static(request: Request) -> Response:
    """A file of the page.

    Raises:
        Problem: 404, it has no such file.
    """
    return _answer(request, request.path_params["name"])


def _answer(request: Request, name: str) -> Response:
    found = load_static().get(name)
    if found is None:
        raise Problem(404, "the page has no such file")
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if found.etag in known or "*" in known:
        return Response(status_code=304, headers=found.headers)
    return Response(found.content, headers=found.headers, media_type=found.media_type)


async def info(request: Request) -> Response:
    """What is served, how, and within which limits: what to know before sending an image."""
    service = request.app.state.service
    worker: Worker = service.worker
    document = {
        "version": __version__,
        "status": worker.state.value,
        "model": _model(worker),
        "runtime": worker.runtime,
        "limits": _limits(service.settings),
        "accepts": list(IMAGES),
        "includes": [str(name) for name in Include],
        "disclaimer": DISCLAIMER,
    }
    return JSONResponse(document, headers={"Cache-Control": "no-store"})


def _model(worker: Worker) -> dict[str, Any] | None:
    """The bundle, and what a request gets that asks for nothing; None until it is open.

    The defaults are None of a bundle without a loop, which they are of.
    """
    if worker.bundle is None:
        return None
    manifest = worker.bundle.manifest
    preset = manifest.default_preset
    classes = manifest.classes
    loop = preset and {"seed": 0, **preset.model_dump(include={"steps", "samples", "sampler"})}
    return {
        "name": manifest.name,
        "version": manifest.version,
        "description": manifest.description,
        "sha256": worker.bundle.digest,
        "scale": manifest.scale,
        "tile": manifest.tile,
        "defaults": loop,
        "classes": classes and classes.model_dump(exclude={"embedding"}),
    }


def _limits(settings: ServiceSettings) -> dict[str, int]:
    names = ("max_bytes", "max_pixels", "max_output_pixels", "max_steps", "max_samples", "queue_size")
    return {name: getattr(settings, name) for name in names}
