"""What the service is told: a file in TOML or JSON, and what the command line changes of it."""

from __future__ import annotations

import importlib
import ipaddress
import json
import sys
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge_sr.backends import BACKENDS
from edge_sr.backends.choice import AUTO
from edge_sr.errors import ConfigError
from edge_sr.spec import Precision

__all__ = ["ServiceSettings", "load_settings"]

MIB = 2**20
MAX_CONFIG_BYTES = MIB
Seconds = Annotated[float, Field(gt=0, le=3600)]


class ServiceSettings(BaseModel):
    """Everything that can be set.

    Attributes:
        host, port: Where to listen; port 0 takes a free one.
        insecure: Whether to listen beyond this machine, where anybody may ask and nothing is encrypted.
        bundle, backend, precision, threads, engine_dir: As the options of ``edge-sr upscale``.
        batch: Tiles at once, of whichever requests there are; 1 for one request after the other. On a CPU
            more gain next to nothing, and requests that share it end when the last of them would have.
        queue_size: Requests that may wait while one runs; more are refused with 429.
        deadline_s: A request that is not done after so long is given up with 504.
        upload_s: A body that has not arrived after so long is given up with 408.
        drain_s: How long requests may go on once the service was told to stop.
        max_bytes: Largest body.
        max_pixels: Largest input, width times height.
        max_output_pixels: Largest output.
        max_steps, max_samples: The most that a request may ask for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    insecure: bool = False
    bundle: Path | None = None
    backend: str = AUTO
    precision: Precision | None = None
    threads: Annotated[int, Field(ge=0, le=256)] = 0
    batch: Annotated[int, Field(ge=1, le=64)] = 1
    engine_dir: Path | None = None
    queue_size: Annotated[int, Field(ge=1, le=1000)] = 8
    deadline_s: Seconds = 120.0
    upload_s: Seconds = 30.0
    drain_s: Seconds = 30.0
    max_bytes: Annotated[int, Field(ge=1024, le=1024 * MIB)] = 64 * MIB
    max_pixels: Annotated[int, Field(ge=64, le=64_000_000)] = 4_194_304
    max_output_pixels: Annotated[int, Field(ge=256)] = 67_108_864
    max_steps: Annotated[int, Field(ge=1, le=1000)] = 100
    max_samples: Annotated[int, Field(ge=1, le=64)] = 16

    @property
    def is_local(self) -> bool:
        """Whether only this machine can ask."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def load_settings(path: Path | None = None, **changes: Any) -> ServiceSettings:
    """Reads a configuration file, and puts what the command line says over it.

    Args:
        path: A .toml or .json file; None for none.
        changes: Settings by name; None leaves one as the file has it.

    Raises:
        ConfigError: The file cannot be read or parsed, a setting is unknown or out of range (all of those
            are told at once), or the address is not this machine's own and `insecure` was not set.
    """
    values = _read(path) if path else {}
    values |= {name: value for name, value in changes.items() if value is not None}
    try:
        settings = ServiceSettings.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_sentence(error), hint=f"settings: {', '.join(_names())}") from error
    if settings.backend not in (AUTO, *BACKENDS):
        raise ConfigError(f"no backend {settings.backend!r}", hint=f"one of {', '.join([AUTO, *BACKENDS])}")
    if not (settings.is_local or settings.insecure):
        raise ConfigError(
            f"{settings.host} is not this machine alone, and the service asks nobody who they are",
            hint="put a proxy with TLS and passwords before 127.0.0.1, or say --insecure",
        )
    return settings


def _names() -> list[str]:
    return list(ServiceSettings.model_fields)


def _sentence(error: ValidationError) -> str:
    """Every problem in one line."""
    found = [f"{'.'.join(map(str, e['loc'])) or 'the file'}: {e['msg']}" for e in error.errors()]
    return f"bad configuration: {'; '.join(found)}"


def _read(path: Path) -> dict[str, Any]:
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
