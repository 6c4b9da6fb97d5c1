"""A request's body: how large, of what type, and whole, before anything is decoded. It never meets a disk."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from edge_sr import dicom
from edge_sr.service.parameters import DICOM, PNG
from edge_sr.service.problems import Problem
from edge_sr.service.settings import ServiceSettings

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["ACCEPTED", "FORM", "IMAGES", "Body", "check_headers", "receive"]

JPEG, TIFF, FORM, UNNAMED = "image/jpeg", "image/tiff", "multipart/form-data", "application/octet-stream"
IMAGES = (PNG, JPEG, TIFF, DICOM)
ACCEPTED = (*IMAGES, FORM)
FORM_BYTES = 65536
"""What a form may have around its file."""

_SIGNATURES = (
    (b"\x89PNG\r\n\x1a\n", PNG),
    (b"\xff\xd8\xff", JPEG),
    (b"II\x2a\0", TIFF),
    (b"MM\0\x2a", TIFF),
)


@dataclass(frozen=True)
class Body:
    """An image as it was sent; its representation says nothing of what is in it."""

    data: bytes = field(repr=False)
    media_type: str


def check_headers(request: Request, settings: ServiceSettings) -> str:
    """The declared media type, after all that a body can be refused for before it is read.

    Raises:
        Problem: 415, it is of no type that is read, or compressed; 413, it says that it is too large.
    """
    declared, options = parse_options_header(request.headers.get("content-type"))
    media_type = declared.decode("latin-1").lower()
    if media_type not in ACCEPTED or (media_type == FORM and not options.get(b"boundary")):
        raise Problem(
            415,
            f"the body can be {', '.join(ACCEPTED)}, the last with a boundary",
            field="Content-Type",
            headers={"Accept-Post": ", ".join(ACCEPTED)},
        )
    if request.headers.get("content-encoding", "identity").lower() != "identity":
        raise Problem(415, "the body must not be compressed", field="Content-Encoding")
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length[:20]) > _most(media_type, settings):
        raise _too_large(settings)
    return media_type


async def receive(request: Request, settings: ServiceSettings, media_type: str) -> Body:
    """Reads the body, and looks whether it is what it says.

    Args:
        request: Checked by `check_headers`.
        settings: How large, and how slowly.
        media_type: From `check_headers`.

    Raises:
        Problem: 413, it is too large after all; 408, it came too slowly; 422, it is empty, a form without
            exactly one file, or not of the type that it says.
        ClientDisconnect: The client went away.
    """
    reading = _form(request, settings) if media_type == FORM else _raw(request, settings, media_type)
    try:
        body = await asyncio.wait_for(reading, settings.upload_s)
    except (TimeoutError, asyncio.TimeoutError) as error:  # one class since Python 3.11
        raise Problem(408, f"the body did not arrive in {settings.upload_s:g} s") from error
    found = _sniff(body.data)
    if found is None or body.media_type not in (found, UNNAMED):
        seen = f"is {found}" if found else f"is none of {', '.join(IMAGES)}"
        raise Problem(422, f"the body says that it is {body.media_type} and {seen}", field="body")
    return Body(body.data, found)


async def _raw(request: Request, settings: ServiceSettings, media_type: str) -> Body:
    data = bytearray()
    async for chunk in request.stream():
        if len(data) + len(chunk) > settings.max_bytes:
            raise _too_large(settings)
        data += chunk
    return Body(bytes(data), media_type)


async def _form(request: Request, settings: ServiceSettings) -> Body:
    _, options = parse_options_header(request.headers["content-type"])
    form, total = _OneFile(settings), 0
    try:
        parser = MultipartParser(options[b"boundary"], form.callbacks())
        async for chunk in request.stream():
            total += len(chunk)
            if total > _most(FORM, settings):
                raise _too_large(settings)
            parser.write(chunk)
        parser.finalize()
    except FormParserError as error:
        raise Problem(422, "the form cannot be read", field="body") from error
    return form.body()


class _OneFile:
    """Takes the parts of a form as they come; keeps the data of its file, and never its name."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._data, self._media_type = bytearray(), UNNAMED
        self._files, self._is_file, self._is_whole = 0, False, False
        self._name, self._value = bytearray(), bytearray()
        self._headers: dict[str, bytes] = {}

    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_end": self._end,
        }

    def body(self) -> Body:
        """The file.

        Raises:
            Problem: 422, there is none, more than one, or the form breaks off.
        """
        if not self._is_whole:
            raise Problem(422, "the form breaks off", field="body")
        if self._files != 1:
            raise Problem(422, f"the form has {self._files} files, wanted one", field="body")
        return Body(bytes(self._data), self._media_type)

    def _begin(self) -> None:
        self._headers = {}

    def _header(self) -> None:
        self._headers[self._name.decode("latin-1").lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition"))
        self._is_file = b"filename" in options
        if not self._is_file:
            raise Problem(422, "a form has one file and no fields; parameters are in the query", field="body")
        self._files += 1
        if self._files > 1:
            raise Problem(422, "the form has more than one file, wanted one", field="body")
        declared, _ = parse_options_header(self._headers.get("content-type"))
        self._media_type = declared.decode("latin-1").lower() or UNNAMED
        if self._media_type not in (*IMAGES, UNNAMED):
            raise Problem(415, f"the file can be {', '.join(IMAGES)}", field="Content-Type")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if len(self._data) + end - start > self._settings.max_bytes:
            raise _too_large(self._settings)
        self._data += data[start:end]

    def _end(self) -> None:
        self._is_whole = True


def _sniff(data: bytes) -> str | None:
    """The media type by the first bytes."""
    found = [media_type for signature, media_type in _SIGNATURES if data.startswith(signature)]
    return found[0] if found else (DICOM if dicom.is_dicom(data) else None)


def _most(media_type: str, settings: ServiceSettings) -> int:
    return settings.max_bytes + (FORM_BYTES if media_type == FORM else 0)


def _too_large(settings: ServiceSettings) -> Problem:
    return Problem(413, f"at most {settings.max_bytes} bytes are read", hint="send a smaller image")
