"""What the service is told: a file in TOML or JSON, and what the command line changes of it."""

from __future__ import annotations

import importlib
import ipaddress
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_sr.backends import BACKENDS
from edge_sr.backends.choice import AUTO
from edge_sr.errors import ConfigError
from edge_sr.service.bearer import read_token
from edge_sr.spec import Precision

__all__ = [
    "DeviceSettings",
    "ServiceSettings",
    "check_device",
    "check_reach",
    "is_loopback",
    "load_settings",
    "read_config",
    "validated",
]

MIB = 2**20
Model = TypeVar("Model", bound=BaseModel)
MAX_CONFIG_BYTES = MIB
Seconds = Annotated[float, Field(gt=0, le=3600)]
HostName = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$|^[0-9a-fA-F:]{2,45}$")
]


class DeviceSettings(BaseModel):
    """What every process is told that owns the device and is called over the network.

    Attributes:
        tls_cert, tls_key: PEM files with which it is called by TLS; both or neither.
        tls_client_ca: PEM file of who signs the certificates of those that may call.
        bundle, backend, precision, threads, batch, engine_dir: As the options of `edge-sr upscale`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    bundle: Path | None = None
    backend: str = AUTO
    precision: Precision | None = None
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    batch: Annotated[int, Field(ge=1, le=64)] = 1
    engine_dir: Path | None = None


class ServiceSettings(DeviceSettings):
    """Everything that can be set.

    Attributes:
        host, port: Where to listen; port 0 takes a free one.
        allowed_hosts: Names by which clients may call this service, besides those of this machine alone and
            the address that they came to; what a proxy before it is called belongs here.
        token_file: Holds the secret that clients show; see `edge_sr.service.bearer`.
        tls_cert, tls_key: PEM files for HTTPS; both or neither.
        tls_client_ca: PEM file; only clients whose certificate comes from it are let in.
        insecure: Whether to listen beyond this machine where anybody may ask.
        bundle, backend, precision, threads, engine_dir: As the options of ``edge-sr upscale``.
        batch: Tiles at once, of whichever requests there are; 1 for one request after the other. On a CPU
            more gain next to nothing, and requests that share it end when the last of them would have.
        queue_size: Requests that may wait while one runs; more are refused with 429.
        deadline_s: A request that is not done after so long is given up with 504.
        hang_s: A device that shows no sign of life for so long is taken to hang, and systemd ends the
            service; None for twice `deadline_s`. At least `deadline_s`: what can be answered is not cut off.
        start_s: How long opening and warming up may take.
        head_s: A connection on which no whole request head arrives for so long is closed.
        upload_s: A body that has not arrived after so long is given up with 408.
        send_s: A client that does not take its answer for so long is cut off.
        drain_s: How long requests may go on once the service was told to stop.
        max_connections: Open at once; more are closed as they come.
        max_bytes: Largest body.
        max_pixels: Largest input, width times height.
        max_output_pixels: Largest output.
        max_steps, max_samples: The most that a request may ask for.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    allowed_hosts: tuple[HostName, ...] = ()
    token_file: Path | None = None
    insecure: bool = False
    queue_size: Annotated[int, Field(ge=1, le=1000)] = 8
    deadline_s: Seconds = 120.0
    hang_s: Seconds | None = None
    start_s: Seconds = 600.0
    head_s: Seconds = 10.0
    upload_s: Seconds = 30.0
    send_s: Seconds = 60.0
    drain_s: Seconds = 30.0
    max_connections: Annotated[int, Field(ge=1, le=10_000)] = 256
    max_bytes: Annotated[int, Field(ge=1024, le=1024 * MIB)] = 64 * MIB
    max_pixels: Annotated[int, Field(ge=64, le=64_000_000)] = 4_194_304
    max_output_pixels: Annotated[int, Field(ge=256)] = 67_108_864
    max_steps: Annotated[int, Field(ge=1, le=1000)] = 100
    max_samples: Annotated[int, Field(ge=1, le=64)] = 16

    @property
    def silence_s(self) -> float:
        """How long the device may show no sign of life."""
        return 2 * self.deadline_s if self.hang_s is None else self.hang_s

    @property
    def asks_who(self) -> bool:
        """Whether a client must show something that others do not have."""
        return self.token_file is not None or self.tls_client_ca is not None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(
    path: Path | None = None, *, environ: Mapping[str, str] = os.environ, **changes: Any
) -> ServiceSettings:
    """Reads a configuration file, and puts what the command line says over it.

    Args:
        path: A .toml or .json file; None for none.
        environ: `CREDENTIALS_DIRECTORY` may hold a token, which counts where no other is named.
        changes: Settings by name; None leaves one as the file has it.

    Raises:
        ConfigError: The file cannot be read or parsed, a setting is unknown or out of range (all of those
            are told at once), two contradict each other, the token cannot be used, or others can reach
            the address and nobody asks who they are.
    """
    values = read_config(path) if path else {}
    values |= {name: value for name, value in changes.items() if value is not None}
    credential = Path(environ.get("CREDENTIALS_DIRECTORY", "/nonexistent")) / "token"
    if credential.exists():
        values.setdefault("token_file", credential)
    settings = validated(ServiceSettings, values)
    _check(settings)
    check_reach(settings, settings.host)
    return settings


def check_reach(settings: ServiceSettings, host: str) -> None:
    """Refuses to listen where others can ask and nobody asks who they are.

    Args:
        settings: Checked by `load_settings`.
        host: Where it will listen: `settings.host`, or the address of an inherited socket.

    Raises:
        ConfigError: That address is not this machine's alone, and nothing makes up for it.
    """
    if not (is_loopback(host) or settings.asks_who or settings.insecure):
        raise ConfigError(
            f"{host} is not this machine alone, and the service asks nobody who they are",
            hint="give --token-file, or clients' certificates (--tls-client-ca), or say --insecure",
        )


def check_device(settings: DeviceSettings) -> None:
    """Checks what is common to all.

    Raises:
        ConfigError: There is no such backend, or the settings of TLS do not go together.
    """
    if settings.backend not in (AUTO, *BACKENDS):
        raise ConfigError(f"no backend {settings.backend!r}", hint=f"one of {', '.join([AUTO, *BACKENDS])}")
    if (settings.tls_cert is None) != (settings.tls_key is None):
        raise ConfigError("tls_cert and tls_key go together, and one was given")
    if settings.tls_client_ca is not None and settings.tls_cert is None:
        raise ConfigError("tls_client_ca needs tls_cert and tls_key: only TLS has certificates")


def _check(settings: ServiceSettings) -> None:
    check_device(settings)
    if settings.silence_s < settings.deadline_s:
        raise ConfigError(
            f"hang_s of {settings.silence_s:g} s is less than deadline_s, {settings.deadline_s:g} s",
            hint="a job that is still waited for would be taken to hang",
        )
    if settings.token_file is not None:
        read_token(settings.token_file)


def validated(model: type[Model], values: Mapping[str, Any]) -> Model:
    """Settings of a model, each checked by itself.

    Raises:
        ConfigError: One is unknown or out of range; all of those are told at once.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error), hint=f"settings: {', '.join(model.model_fields)}") from error


def _sentence(error: ValidationError) -> str:
    """Every problem in one line."""
    found = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
    return f"bad configuration: {'; '.join(found)}"


def read_config(path: Path) -> dict[str, Any]:
    """What a .toml or .json file says.

    Raises:
        ConfigError: It cannot be read or parsed, or is no object.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
        if len(data) > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: more than {MAX_CONFIG_BYTES} bytes, wanted a configuration file")
        values = _parse(path, data.decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}", hint="check the path") from error
    except (ValueError, RecursionError) as error:  # both parsers' errors, and text that is not UTF-8
        raise ConfigError(f"{path}: is not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: wanted an object of settings, got {type(values).__name__}")
    return values


def _parse(path: Path, text: str) -> Any:
    if path.suffix == ".json":
        return json.loads(text)
    if path.suffix != ".toml":
        raise ConfigError(f"{path}: wanted a .toml or .json file", hint="rename it")
    name = "tomllib" if sys.version_info >= (3, 11) else "tomli"
    try:
        return importlib.import_module(name).loads(text)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"{path}: TOML needs {name}", hint='pip install "edge-sr[service]", or write JSON'
        ) from error
