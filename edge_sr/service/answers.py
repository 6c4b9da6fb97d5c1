"""A result as an answer: PNG, a derived DICOM object, or JSON with the PNG in it and more beside."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from functools import partial
from typing import Any

from edge_sr import dicom
from edge_sr.image import LoadedImage, encode_png
from edge_sr.result import Result
from edge_sr.service.parameters import DICOM, JSON, PNG, Include
from edge_sr.service.pictures import embedded, pictures

__all__ = ["encode", "headers_of", "server_timing"]


def encode(
    result: Result,
    image: LoadedImage,
    source: dicom.Source | None,
    media_type: str,
    include: Set[Include] = frozenset(),
) -> bytes:
    """The answer's body.

    Args:
        result: What the engine made.
        image: What it was made from, as it was decoded.
        source: What a derived object is made from; None where the input was not DICOM.
        media_type: One of PNG, JSON, and DICOM where there is a source.
        include: What comes beside the result in JSON.

    Raises:
        OutputError: It cannot be written.
    """
    derived = partial(_derived, result, source) if source is not None else None
    if media_type == DICOM and derived is not None:
        return derived()
    png = encode_png(result.pixels, text=result.provenance)
    if media_type != JSON:
        return png
    return json.dumps(_document(result, png, include, pictures(result, image, derived, include))).encode()


def _derived(result: Result, source: dicom.Source) -> bytes:
    record = dicom.Record.of(json.loads(result.provenance["edge-sr"]))
    return dicom.derive(source, result.pixels, record)


def _document(result: Result, png: bytes, include: Set[Include], beside: dict[str, Any]) -> dict[str, Any]:
    height, width = result.pixels.shape[:2]
    return {
        "width": width,
        "height": height,
        "bit_depth": 8 * result.pixels.dtype.itemsize,
        "scale": result.scale,
        "tiles": result.tiles,
        "seconds": {name: round(value, 6) for name, value in result.seconds.items()},
        **result.trust(has_evidence=Include.CHANGE in include),
        "notices": list(result.notices),
        "disclaimer": result.provenance["Disclaimer"],
        "provenance": json.loads(result.provenance["edge-sr"]),
        "image": embedded(PNG, png),
        "images": beside,
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
