"""The OpenAPI 3.1 description of the service, as data, with the limits of the one that is asked."""

from __future__ import annotations

from typing import Any

from edge_sr import __version__
from edge_sr.cascade import MAX_PASSES
from edge_sr.manifest import Classes, Manifest, Preset
from edge_sr.service.page import load_static
from edge_sr.service.parameters import DICOM, JSON, MAX_SCALE, PNG, Include
from edge_sr.service.problems import MEDIA_TYPE
from edge_sr.service.progress import STAGES
from edge_sr.service.settings import ServiceSettings

__all__ = ["document"]

Json = dict[str, Any]

_PROBLEM: Json = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "instance"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "instance": {"type": "string"},
        "hint": {"type": "string"},
        "field": {"type": "string"},
    },
}
_FILE: Json = {
    "type": "object",
    "required": ["media_type", "base64"],
    "properties": {
        "media_type": {"enum": [PNG, DICOM]},
        "base64": {"type": "string", "contentEncoding": "base64"},
    },
}
_MAP: Json = {
    "type": "object",
    "description": "A 16-bit gray PNG; a value is (pixel - zero) * step, in the unit.",
    "required": ["media_type", "base64", "unit", "zero", "step", "low", "high", "colours"],
    "properties": {
        **_FILE["properties"],
        "unit": {"type": "string"},
        "zero": {"type": "integer"},
        "step": {"type": "number"},
        "low": {"type": "number", "description": "Where the scale begins."},
        "high": {"type": "number", "description": "Where the scale ends."},
        "colours": {
            "type": "array",
            "description": "From low to high, evenly spaced.",
            "items": {"type": "string", "pattern": "^[0-9a-f]{6}$"},
        },
    },
}
_RESULT: Json = {
    "type": "object",
    "required": ["width", "height", "bit_depth", "scale", "consistency_db", "provenance", "image"],
    "properties": {
        "width": {"type": "integer"},
        "height": {"type": "integer"},
        "bit_depth": {"enum": [8, 16]},
        "scale": {"type": "integer"},
        "tiles": {"type": "integer"},
        "seconds": {"type": "object", "additionalProperties": {"type": "number"}},
        "consistency_db": {"type": "number"},
        "consistency_alarm_db": {"type": ["number", "null"]},
        "is_alarming": {"type": ["boolean", "null"]},
        "uncertainty": {"type": ["object", "null"]},
        "change": {"type": ["object", "null"]},
        "notices": {"type": "array", "items": {"type": "string"}},
        "disclaimer": {"type": "string"},
        "provenance": {"type": "object"},
        "image": {"$ref": "#/components/schemas/File"},
        "images": {
            "type": "object",
            "description": "What include asked for; null where there is none.",
            "additionalProperties": {
                "anyOf": [
                    {"$ref": "#/components/schemas/Map"},
                    {"$ref": "#/components/schemas/File"},
                    {"type": "null"},
                ]
            },
        },
    },
}
_PROGRESS: Json = {
    "type": "object",
    "required": ["stage", "place", "seconds"],
    "properties": {
        "stage": {"enum": list(STAGES)},
        "place": {"type": ["integer", "null"], "description": "In the queue; 1 is next."},
        "seconds": {"type": ["number", "null"], "description": "Since it came."},
    },
}
_REFUSALS = {
    "400": "The Host header is no name.",
    "401": "This service wants a token, as a Bearer in Authorization.",
    "403": "A page of another origin sent it.",
    "404": "There is no such thing.",
    "406": "No media type of the Accept header can be given.",
    "408": "The body did not arrive in time.",
    "413": "The body is too large.",
    "421": "The service is not called by the name in the Host header.",
    "415": "The body is of a type that is not read.",
    "422": "The body cannot be decoded, is refused, or a parameter is wrong.",
    "429": "The queue is full; Retry-After says when to come again.",
    "500": "The service failed.",
    "503": "The service is starting or stopping.",
    "504": "The deadline has passed.",
}
_BINARY: Json = {"type": "string", "format": "binary"}
_FORM: Json = {
    "type": "object",
    "required": ["file"],
    "properties": {"file": _BINARY},
    "additionalProperties": False,
}
_IMAGES = (PNG, "image/jpeg", "image/tiff", DICOM)
_BODIES: Json = {
    **{media: {"schema": _BINARY} for media in _IMAGES},
    "multipart/form-data": {"schema": _FORM, "encoding": {"file": {"contentType": ", ".join(_IMAGES)}}},
}


def _refusals(*statuses: str) -> Json:
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": _REFUSALS[status], "content": content} for status in statuses}


def _query(name: str, description: str, **schema: Any) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": {"type": "integer", **schema}}


def _path(name: str, *known: str) -> Json:
    """A part of a path, and which values of it lead anywhere where that is known."""
    schema = {"type": "string", "enum": list(known)} if known else {"type": "string"}
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _header(description: str, **schema: Any) -> Json:
    return {"description": description, "schema": {"type": "string", **schema}}


def _get(operation: str, summary: str, *, media_type: str = JSON, **more: Any) -> Json:
    """A GET that answers 200; `more` are its schema, parameters, and other responses."""
    schema = more.pop("schema", {"type": "object"} if media_type == JSON else {"type": "string"})
    answer = {"description": summary, "content": {media_type: {"schema": schema}}}
    responses = {"200": answer, **more.pop("responses", {})}
    return {"get": {"operationId": operation, "summary": summary, "responses": responses, **more}}


_NOT_READY: Json = {
    "503": {"description": "Not ready.", "content": {JSON: {"schema": {"type": "object"}}}},
}
_WORDS: list[Json] = [
    {
        "name": "include",
        "in": "query",
        "description": "What comes beside the result; the answer is then JSON.",
        "style": "form",
        "explode": False,
        "schema": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "string", "enum": [str(name) for name in Include]},
        },
    },
    {"name": "X-Request-Id", "in": "header", "schema": {"type": "string"}},
]
_UPSCALE: Json = {
    "operationId": "upscale",
    "security": [{}, {"token": []}],
    "summary": "Enlarge an image. Detail above its resolution is generated; not for diagnosis.",
    "requestBody": {"required": True, "content": _BODIES},
    "responses": {
        "200": {
            "description": f"The enlarged image; {DICOM} only from DICOM.",
            "headers": {
                "Server-Timing": _header("Milliseconds by stage."),
                "X-Request-Id": _header("The request's own, where it is a UUID or a trace id, or a new one."),
                "X-Consistency-DB": _header("PSNR of the result, made small again, against the input."),
                "X-Consistency-Alarm": _header(
                    "Whether true images are more consistent.", enum=["true", "false", "unknown"]
                ),
                "X-Disclaimer": _header("What the image is not for."),
            },
            "content": {
                PNG: {"schema": _BINARY},
                DICOM: {"schema": _BINARY},
                JSON: {"schema": {"$ref": "#/components/schemas/Result"}},
            },
        },
        **_refusals(
            "400", "401", "403", "421", "406", "408", "413", "415", "422", "429", "500", "503", "504"
        ),
    },
}


def _numbers(settings: ServiceSettings, manifest: Manifest | None) -> list[Json]:
    """The whole numbers of a query. Until the bundle is open, its model's limits are not known.

    A model without a loop takes neither steps nor samples, and only one with classes takes those.
    """
    diffusion = manifest.diffusion if manifest else None
    timesteps = diffusion.timesteps if diffusion else settings.max_steps
    scale = manifest.scale**MAX_PASSES if manifest else MAX_SCALE
    loop = [
        _query("steps", "Of the loop.", minimum=1, maximum=min(settings.max_steps, timesteps)),
        _query("samples", "Average so many.", minimum=1, maximum=settings.max_samples),
    ]
    return [
        _query("seed", "Of the noise.", minimum=0, maximum=2**64 - 1, default=0),
        *(loop if diffusion or manifest is None else ()),
        *(_classes(manifest.classes, manifest.default_preset) if manifest and manifest.classes else ()),
        _query("scale", "Enlarge so many times.", minimum=min(2, scale), maximum=scale),
    ]


def _classes(classes: Classes, preset: Preset | None) -> list[Json]:
    """What a class-guided model can be told."""
    danger = "It is drawn, also where the image shows none of it."
    told = (preset and preset.class_name) or classes.null
    names = {"type": "string", "enum": list(classes.names), "default": told}
    guidance = {"type": "number", "minimum": 0, "maximum": classes.most_guidance}
    return [
        _query("class", f"What to tell the model that it sees. {danger}", **names),
        _query("guidance", "How far the class moves a result; with a class alone.", **guidance),
    ]


def document(settings: ServiceSettings, manifest: Manifest | None) -> Json:
    """The whole description; a new object each time.

    Args:
        settings: What this service allows.
        manifest: Of what it serves; None until that is open.
    """
    parameters = [*_numbers(settings, manifest), *_WORDS]
    model = _path("name", *([manifest.name] if manifest else []))
    return {
        "openapi": "3.1.0",
        "info": {"title": "edge-sr", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": {
            "/v1/upscale": {"post": {**_UPSCALE, "parameters": parameters}},
            "/v1/progress/{request_id}": _get(
                "progress",
                "Where the upscale request with this X-Request-Id is.",
                schema={"$ref": "#/components/schemas/Progress"},
                parameters=[_path("request_id")],
            ),
            "/v1/info": _get("info", "What is served, how, and within which limits."),
            "/": _get("index", "A page for people.", media_type="text/html"),
            "/static/{name}": _get(
                "static",
                "A file of the page.",
                media_type="*/*",
                parameters=[_path("name", *sorted(load_static()))],
                responses=_refusals("404"),
            ),
            "/healthz": _get("healthz", "The process answers."),
            "/readyz": _get("readyz", "Requests are taken.", responses=_NOT_READY),
            "/metrics": _get("metrics", "Figures for Prometheus.", media_type="text/plain"),
            "/openapi.json": _get("openapi", "This document."),
            "/v2": _get("server_metadata", "Open Inference Protocol: the server."),
            "/v2/health/live": _get("server_live", "Open Inference Protocol: alive."),
            "/v2/health/ready": _get("server_ready", "Open Inference Protocol: ready.", responses=_NOT_READY),
            "/v2/models/{name}": _get(
                "model_metadata",
                "Open Inference Protocol: the model.",
                parameters=[model],
                responses=_refusals("404", "503"),
            ),
        },
        "components": {
            "schemas": {
                "Problem": _PROBLEM,
                "Result": _RESULT,
                "File": _FILE,
                "Map": _MAP,
                "Progress": _PROGRESS,
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }
