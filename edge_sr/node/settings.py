"""What the node is told, by a file in TOML or JSON.

Its own file, not a table in the service's: the two are processes of their own, which are started, restarted
and given rights one by one, and each refuses a setting that it does not know.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from edge_sr.errors import ConfigError
from edge_sr.service.settings import (
    MIB,
    DeviceSettings,
    Seconds,
    check_device,
    is_loopback,
    read_config,
    validated,
)

__all__ = ["NodeSettings", "Peer", "client_tls", "load_node_settings", "server_tls"]

Title = Annotated[str, Field(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
"""An application entity title (PS3.5, table 6.2-1): no backslash, no space at its ends."""
Port = Annotated[int, Field(ge=1, le=65535)]
_MODEL = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Peer(BaseModel):
    """Who gets the derived objects.

    Attributes:
        host, port, title: Of the Storage SCP, such as a PACS.
        tls: Whether it speaks TLS.
        tls_ca: PEM file of who signs its certificate; the system's authorities where None.
    """

    model_config = _MODEL

    host: str
    port: Port = 104
    title: Title
    tls: bool = False
    tls_ca: Path | None = None


class NodeSettings(DeviceSettings):
    """Everything that can be set.

    Attributes:
        send: Who gets the derived objects.
        spool: Folder of what was received and is to be sent; the service's state where None.
        title: This node's; a peer that calls another is refused.
        calling: Titles of those who may call. Anybody can say one, so they protect from mistakes alone.
        host, port: Where to listen; port 0 takes a free one.
        tls_cert, tls_key: PEM files, with which this node says who it is, on both sides; both or neither.
        tls_client_ca: PEM file; only peers whose certificate comes from it get in.
        insecure: Whether to listen beyond this machine where anybody may call.
        max_bytes: Largest object. What is more than twice as large ends its association.
        max_pixels: Largest image, width times height.
        max_associations: At once; more are refused.
        timeout_s: A peer that is silent for so long is taken to be gone.
        receive_s: An object that has not arrived after so long ends its association.
        retry_s: The longest wait before something is tried again.
        bundle, backend, precision, threads, batch, engine_dir: As the options of ``edge-sr upscale``.
        preset, steps, samples, seed, scale: The same.
    """

    send: Peer
    spool: Path | None = None
    title: Title = "EDGE_SR"
    calling: tuple[Title, ...] = ()
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    insecure: bool = False
    max_bytes: Annotated[int, Field(ge=1024, le=1024 * MIB)] = 64 * MIB
    max_pixels: Annotated[int, Field(ge=64, le=64_000_000)] = 33_554_432
    max_associations: Annotated[int, Field(ge=1, le=100)] = 4
    timeout_s: Seconds = 30.0
    receive_s: Seconds = 300.0
    retry_s: Seconds = 60.0
    preset: str | None = None
    steps: Annotated[int, Field(ge=1)] | None = None
    samples: Annotated[int, Field(ge=1, le=64)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**64)] = 0
    scale: int | None = None


def load_node_settings(path: Path) -> NodeSettings:
    """Reads a configuration file.

    Raises:
        ConfigError: It cannot be read or parsed, a setting is unknown or out of range, two contradict each
            other, a file of TLS cannot be used, or others can reach the address and anybody may call.
    """
    settings = validated(NodeSettings, read_config(path))
    check_device(settings)
    if not (is_loopback(settings.host) or settings.calling or settings.tls_client_ca or settings.insecure):
        raise ConfigError(
            f"{settings.host} is not this machine alone, and anybody may call",
            hint='name who may, as in calling = ["MODALITY"], or tls_client_ca; or say insecure = true',
        )
    server_tls(settings)
    client_tls(settings)
    return settings


def server_tls(settings: NodeSettings) -> ssl.SSLContext | None:
    """How this node is called; None for without TLS.

    Raises:
        ConfigError: A file cannot be used.
    """
    if settings.tls_cert is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _identify(context, settings)
    if settings.tls_client_ca:
        _trust(context, settings.tls_client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(settings: NodeSettings) -> tuple[ssl.SSLContext, str] | None:
    """How this node calls, and the name that the peer's certificate must have; None for without TLS.

    Raises:
        ConfigError: A file cannot be used.
    """
    if not settings.send.tls:
        return None
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.send.tls_ca:
        _trust(context, settings.send.tls_ca)
    if settings.tls_cert:
        _identify(context, settings)
    return context, settings.send.host


def _identify(context: ssl.SSLContext, settings: NodeSettings) -> None:
    assert settings.tls_cert is not None, "whoever asks has looked"
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # BCP 195, on which DICOM's secure profiles stand
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ConfigError(
            f"TLS cannot be used: {error}", hint="check tls_cert and tls_key: PEM, readable"
        ) from error


def _trust(context: ssl.SSLContext, path: Path) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: TLS cannot be used: {error}", hint="wanted PEM, readable") from error
