"""The secret that clients show: read from a file that others cannot read, and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

from edge_sr.errors import ConfigError

__all__ = ["Token", "read_token"]

MIN_CHARACTERS, MAX_CHARACTERS = 32, 512
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")  # b64token, RFC 6750, section 2.1
_HINT = "make one: (umask 077; openssl rand -hex 32 > FILE)"


@dataclass(frozen=True)
class Token:
    """A secret of which only a digest is kept."""

    _digest: bytes = field(repr=False)

    @classmethod
    def of(cls, secret: bytes) -> Token:
        """The token that this secret is."""
        return cls(hashlib.sha256(secret).digest())

    def matches(self, shown: bytes) -> bool:
        """Whether this is the secret; takes as long for a near miss as for a wide one."""
        return hmac.compare_digest(self._digest, hashlib.sha256(shown).digest())


def read_token(path: Path) -> Token:
    """Reads a token from a file with one line.

    Raises:
        ConfigError: The file cannot be read, others than its owner and group can read it, more than its owner
            can change it, or it holds no token of 32 to 512 characters. Nothing of it is quoted.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            secret = file.read(MAX_CHARACTERS + 3).rstrip(b"\r\n")
    except OSError as error:
        raise ConfigError(f"token file {path}: cannot be read: {error.strerror}", hint=_HINT) from error
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"token file {path}: is not a regular file", hint=_HINT)
    if (mode := stat.S_IMODE(status.st_mode)) & 0o027:
        raise ConfigError(
            f"token file {path}: its mode is {mode:04o}, so others can read or change it",
            hint=f"chmod 600 {path}, and make a new token if others could read this one",
        )
    if not MIN_CHARACTERS <= len(secret) <= MAX_CHARACTERS or not _TOKEN.fullmatch(secret):
        raise ConfigError(
            f"token file {path}: wanted one line of {MIN_CHARACTERS} to {MAX_CHARACTERS} "
            "letters, digits and -._~+/",
            hint=_HINT,
        )
    return Token.of(secret)
