"""pydicom: imported on use, and kept from telling what it reads."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

from edge_sr.errors import EdgeSRError, ImageError

__all__ = ["INSTALL_HINT", "guarded", "pydicom"]

INSTALL_HINT = "pip install 'edge-sr[dicom]'"
_Result = TypeVar("_Result")


def pydicom(module: str = "pydicom") -> Any:
    """pydicom, or a module of it.

    From then on this process prints none of pydicom's warnings and log records: they quote the values that
    they are about, and a value may be a patient's name.

    Raises:
        ImageError: It is not installed.
    """
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise ImageError(f"pydicom is needed for DICOM: {error}", hint=INSTALL_HINT) from error
    logging.getLogger("pydicom").addFilter(_drop)
    # pydicom names its caller as the place of some of its warnings.
    warnings.filterwarnings("ignore", module=r"(pydicom|edge_sr\.dicom)(\.|$)")
    return found


def _drop(_record: logging.LogRecord) -> bool:
    return False


def guarded(what: str, work: Callable[[], _Result]) -> _Result:
    """Runs code of another library on what a stranger sent.

    Args:
        what: What could not be done, if it fails.
        work: The call.

    Raises:
        ImageError: It raised something else than an `EdgeSRError` or a `MemoryError`. Only the kind of that
            is told, and it is neither cause nor context: its text may quote a patient's name.
    """
    try:
        return work()
    except (EdgeSRError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  what a parser raises on hostile input has no limits
        kind = type(error).__name__
    raise ImageError(f"{what} ({kind})", hint="the file is damaged, or does not follow the standard")
