"""A result as an answer: PNG, a derived DICOM object, or JSON with the PNG in it."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from edge_sr import dicom
from edge_sr.image import encode_png
from edge_sr.result import Result
from edge_sr.service.parameters import DICOM, JSON

__all__ = ["encode", "headers_of", "server_timing"]


def encode(result: Result, source: dicom.Source | None, media_type: str) -> bytes:
    """The answer's body.

    Args:
        result: What the engine made.
        source: What a derived object is made from; None where the input was not DICOM.
        media_type: One of PNG, JSON, and DICOM where there is a source.

    Raises:
        OutputError: It cannot be written.
    """
    if media_type == DICOM and source is not None:
        record = dicom.Record.of(json.loads(result.provenance["edge-sr"]))
        return dicom.derive(source, result.pixels, record)
    png = encode_png(result.pixels, text=result.provenance)
    return json.dumps(_document(result, png)).encode() if media_type == JSON else png


def _document(result: Result, png: bytes) -> dict[str, Any]:
    height, width = result.pixels.shape[:2]
    return {
        "width": width,
        "height": height,
        "bit_depth": 8 * result.pixels.dtype.itemsize,
        "scale": result.scale,
        "tiles": result.tiles,
        "seconds": {name: round(value, 6) for name, value in result.seconds.items()},
        **result.trust(has_evidence=False),
        "notices": list(result.notices),
        "disclaimer": result.provenance["Disclaimer"],
        "provenance": json.loads(result.provenance["edge-sr"]),
        "image": {"media_type": "image/png", "base64": base64.b64encode(png).decode("ascii")},
    }


def headers_of(result: Result, seconds: Mapping[str, float]) -> dict[str, str]:
    """What an answer says of itself whatever its type: consistency, alarm, time by stage."""
    alarm = {True: "true", False: "false", None: "unknown"}[result.is_alarming]
    return {
        "Cache-Control": "no-store",
        "Server-Timing": server_timing({**seconds, **result.seconds}),
        "Vary": "Accept",
        "X-Consistency-Alarm": alarm,
        "X-Consistency-DB": f"{result.consistency_db:.2f}",
        "X-Disclaimer": result.provenance["Disclaimer"],
    }


def server_timing(seconds: Mapping[str, float]) -> str:
    """The value of a Server-Timing header, in milliseconds."""
    return ", ".join(f"{name};dur={1000 * value:.3f}" for name, value in seconds.items())
