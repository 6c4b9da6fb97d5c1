"""Numbers as they are printed: a true minus sign, no digits that nobody knows, no minus before a zero."""

from __future__ import annotations

import math
import re

from benchmarks.records import Estimate

__all__ = [
    "brief",
    "count",
    "interval",
    "milliseconds",
    "percent",
    "plain",
    "signed",
    "span",
    "times",
    "typeset",
]

HYPHEN = re.compile(r"(?<![\w.)\]-])-(?=\d)")
PLURALS = {"process": "processes", "target is": "targets are"}


def plain(value: float, digits: int) -> str:
    """With so many decimals."""
    text = f"{value:.{digits}f}"
    return (text.lstrip("-") if float(text) == 0 else text).replace("-", "−")


def signed(value: float, digits: int) -> str:
    """The same, with a sign where it is not zero."""
    text = plain(value, digits)
    return f"+{text}" if value > 0 and float(text) != 0 else text


def brief(value: float) -> str:
    """Three significant digits, or whole numbers where there are more."""
    if value == 0:
        return "0"
    return plain(value, max(0, 2 - math.floor(math.log10(abs(value)))))


def milliseconds(value_ms: float) -> str:
    """As in "0.412 ms", "417 ms", "3.20 s"."""
    return f"{brief(value_ms / 1e3)} s" if value_ms >= 1e3 else f"{brief(value_ms)} ms"


def percent(share: float, digits: int = 0) -> str:
    """As in "44 %"."""
    return f"{plain(100 * share, digits)} %"


def times(ratio: float) -> str:
    """As in "2.10 times"."""
    return f"{plain(ratio, 2)} times"


def span(found: Estimate, digits: int, *, factor: float = 1) -> str:
    """The 95 % interval, as in "0.16 to 0.33"; its bounds in order, whatever the factor's sign."""
    low, high = sorted((factor * found.low, factor * found.high))
    return f"{plain(low, digits)} to {plain(high, digits)}"


def interval(found: Estimate, digits: int, *, factor: float = 1, is_change: bool = False) -> str:
    """A mean and its 95 % interval, as in "2.10 [2.04, 2.14]"."""
    write = signed if is_change else plain
    bounds = sorted((factor * found.low, factor * found.high))
    mean, low, high = (write(value, digits) for value in (factor * found.mean, *bounds))
    return f"{mean} [{low}, {high}]"


def count(number: int, what: str) -> str:
    """As in "1 image", "116 images"."""
    return f"{number} {what if number == 1 else PLURALS.get(what, what + 's')}"


def typeset(text: str) -> str:
    """Words of a result with true minus signs before numbers, and no marks of Markdown."""
    return HYPHEN.sub("−", text).replace("**", "")
