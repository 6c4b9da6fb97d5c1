"""What a report is made of. HTML and Markdown are written from the same blocks, so they tell the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias

__all__ = [
    "UNMEASURED",
    "UNSETTLED",
    "Answer",
    "Block",
    "Body",
    "Chart",
    "Charts",
    "Command",
    "Document",
    "Items",
    "Panel",
    "Prose",
    "Question",
    "Section",
    "Strip",
    "Table",
    "Verdict",
]


@dataclass(frozen=True)
class Verdict:
    """A question's answer in a few words, and whether that is what one hopes for; plain where nobody said."""

    word: str
    tone: Literal["good", "bad", "open", "plain"]


UNMEASURED = Verdict("not measured", "open")
UNSETTLED = Verdict("not settled", "open")


class Question(Enum):
    """What the reader wants to know, in the order in which it is answered."""

    GOOD = "How good are the images?"
    FAST = "How fast is it?"
    WHERE = "On what was it measured?"
    AGAINST = "Against what?"
    INT8_IMAGE = "Does INT8 stay within its budget?"
    INT8_DIAGNOSIS = "Does INT8 change a diagnosis?"
    TRUST = "Does a result say when it is wrong?"
    TARGETS = "Were all targets met?"
    UNMEASURED = "What was not measured?"


@dataclass(frozen=True)
class Answer:
    """Sentences for a question, computed from a record; and a verdict where it has one."""

    question: Question
    sentences: tuple[str, ...]
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list."""

    texts: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """What is typed."""

    text: str


@dataclass(frozen=True)
class Table:
    """Cells as they are printed; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """A drawing.

    Attributes:
        svg: An `svg` element whose identifiers are unique to it.
        alt: What it shows, in words and figures.
        caption: What stands below it.
    """

    svg: str
    alt: str
    caption: str


@dataclass(frozen=True)
class Charts:
    """Charts that may stand side by side."""

    charts: tuple[Chart, ...]


@dataclass(frozen=True)
class Panel:
    """One kind of image in a strip.

    Attributes:
        label: What it is.
        told: Its figures.
        png: The image.
        difference: The map of how it differs from the truth, a PNG file; None where there is none.
    """

    label: str
    told: str
    png: bytes
    difference: bytes | None = None


@dataclass(frozen=True)
class Strip:
    """Images of one scene, side by side."""

    title: str
    panels: tuple[Panel, ...]


Block: TypeAlias = Prose | Items | Command | Table | Charts | Strip


@dataclass(frozen=True)
class Body:
    """What a section says, and what it contributes to the top."""

    blocks: tuple[Block, ...]
    answers: tuple[Answer, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        key: Its anchor.
        title: Its heading.
        blocks: Its content.
    """

    key: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Document:
    """The whole of it.

    Attributes:
        title: The heading.
        caution: What has to be read before anything else.
        lead: Which model, and when and where the page was made.
        answers: One for each question.
        sections: In order.
    """

    title: str
    caution: str
    lead: str
    answers: Sequence[Answer]
    sections: Sequence[Section] = field(default=())
