"""Charts as SVG that is part of the page: its words are text, and its colours follow the page's theme.

Matplotlib draws, with the same bytes for the same numbers. Each colour that a chart may use stands for a
variable of the page's style sheet, so that one drawing serves light, dark and paper.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from benchmarks.ladder.rungs import FP16, FP32, INT8, NAIVE
from benchmarks.report_page.blocks import Chart

__all__ = ["BAND", "GRID", "INK", "PALE", "PEER", "PRECISIONS", "SERIES", "THEME", "chart", "shorten"]

INK, PALE, GRID, BAND = "#1b2530", "#4b5967", "#dbe1e7", "#f0e9d2"
PRECISIONS = {FP32: "#5a6470", FP16: "#0072b2", INT8: "#00835c", NAIVE: "#c2540a"}
PEER = "#7a4aa0"
SERIES = ("#0072b2", "#c2540a", "#00835c", "#a8477f")
THEME = {
    INK: "ink",
    PALE: "pale",
    GRID: "grid",
    BAND: "band",
    PRECISIONS[FP32]: "fp32",
    "#0072b2": "blue",
    "#00835c": "green",
    "#c2540a": "orange",
    PEER: "purple",
    "#a8477f": "pink",
}
"""Colour in a drawing -> variable of the style sheet."""

WIDTH_IN, HEIGHT_IN = 4.1, 3.0  # so narrow that letters are not made smaller on a telephone
LABEL_LETTERS = 30
SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "edge-sr",
    "text.parse_math": False,
    "font.size": 8.5,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelcolor": PALE,
    "axes.edgecolor": PALE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.color": INK,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": PALE,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "lines.linewidth": 2,
}
REFERENCE = re.compile(r"url\(#([^)]+)\)")
COLOUR = re.compile(r"#[0-9a-f]{6}\b")
FONT = re.compile(r"font: (?:(bold|\d+) )?([\d.]+)px [^;\"]+")


def chart(
    draw: Callable[[Any], None], *, key: str, alt: str, caption: str, height: float = HEIGHT_IN
) -> Chart:
    """Draws a chart.

    Args:
        draw: Draws into matplotlib's axes, in the colours of `THEME` alone.
        key: Its own in the report: its identifiers begin with it.
        alt: What it shows, in words and figures.
        caption: What stands below it.
        height: In inches.
    """
    file = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, height), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.subplots()
        axes.patch.set_visible(False)
        draw(axes)
        FigureCanvasSVG(figure).print_svg(file, metadata={"Date": None, "Creator": None})
    return Chart(_inline(file.getvalue(), key, alt), alt, caption)


def shorten(label: str) -> str:
    """A label that fits beside an axis."""
    return label if len(label) <= LABEL_LETTERS else label[: LABEL_LETTERS - 1].rstrip() + "…"


def _inline(text: str, key: str, alt: str) -> str:
    """The drawing as an element of a page."""
    root = ElementTree.fromstring(text)  # from matplotlib, a moment ago
    _drop_page_wide(root)
    used = _references(root)
    for element in root.iter():
        _adapt(element, key, used)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    title = ElementTree.Element(f"{{{SVG}}}title", {"id": f"{key}-title"})
    title.text = alt
    root.insert(0, title)
    root.attrib |= {"role": "img", "aria-labelledby": f"{key}-title", "class": "chart"}
    ElementTree.register_namespace("", SVG)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)


def _drop_page_wide(root: Any) -> None:
    """Takes out what matplotlib adds to a file of its own: a style sheet would hold for the whole page."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{{{SVG}}}metadata", f"{{{SVG}}}style"):
                parent.remove(child)


def _references(root: Any) -> set[str]:
    """The identifiers that something in the drawing points to."""
    found = set()
    for element in root.iter():
        for name, value in element.attrib.items():
            found |= set(REFERENCE.findall(value))
            if name == f"{{{XLINK}}}href":
                found.add(value.removeprefix("#"))
    return found


def _adapt(element: Any, key: str, used: set[str]) -> None:
    """Identifiers that are the page's only ones, plain links, the theme's colours, the page's letters."""
    attributes = element.attrib
    if "id" in attributes:
        own = attributes.pop("id")
        if own in used:
            attributes["id"] = f"{key}-{own}"
    if link := attributes.pop(f"{{{XLINK}}}href", None):
        attributes["href"] = f"#{key}-{link.removeprefix('#')}"
    for name, value in attributes.items():
        if name in ("id", "href", "d", "transform"):
            continue
        value = REFERENCE.sub(lambda found: f"url(#{key}-{found[1]})", value)
        value = FONT.sub(lambda found: f"font-size: {found[2]}px; font-weight: {found[1] or 400}", value)
        attributes[name] = COLOUR.sub(_variable, value)


def _variable(found: re.Match[str]) -> str:
    return f"var(--{THEME[found[0]]})" if found[0] in THEME else found[0]
