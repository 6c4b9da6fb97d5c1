"""What a section is, to whoever reads files, runs benchmarks or puts the page together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from benchmarks.pairs import Pairs
from benchmarks.records import DataFacts
from benchmarks.report_page.blocks import Body, Question
from benchmarks.report_page.numbers import count
from edge_sr.bundle import Bundle

__all__ = ["Context", "Found", "Topic", "always", "nothing"]

R = TypeVar("R")


def always(_record: Any) -> bool:
    """For a topic that all results of its kind belong to."""
    return True


def nothing(_context: Context) -> None:
    """For a topic that a bundle says nothing of."""


@dataclass(frozen=True)
class Found(Generic[R]):
    """A result of this model, and the name of its file."""

    record: R
    name: str


@dataclass(frozen=True)
class Context:
    """What the report is about.

    Attributes:
        bundle: The model.
        pairs: The images that were named for it.
    """

    bundle: Bundle
    pairs: Pairs

    def applies(self, topic: Topic[Any]) -> bool:
        """Whether there is anything in this model that a topic measures."""
        return self.bundle.manifest.diffusion is not None or not topic.needs_loop

    def covers(self, data: DataFacts) -> bool:
        """Whether a result is of the images that were named, or of the first of them."""
        names = self.pairs.names[: len(data.images)]
        first = Pairs(self.pairs.name, self.pairs.lr[: len(names)], self.pairs.hr[: len(names)], names)
        own = first.facts(degradation="", operator="")
        return (own.images, own.sha256) == (data.images, data.sha256)

    def images(self, data: DataFacts) -> str:
        """As in "116 images of 'test', all that were named for this report"."""
        told, named = f"{count(len(data.images), 'image')} of '{data.name}'", len(self.pairs.names)
        if not self.covers(data):
            return f"{told}, which are not those named for this report"
        if len(data.images) < named:
            return f"{told}, the first of the {named} named for this report"
        return f"{told}, all that were named for this report"


@dataclass(frozen=True)
class Topic(Generic[R]):
    """One section.

    Attributes:
        name: The command of `python -m benchmarks` that measures it; elsewhere, what it is called in files.
        kind: Of its results.
        model: What reads them.
        title: Of its section.
        what: What it measures, as in "Not measured: ...".
        command: What measures it, as a reader would type it.
        asks: The questions that it is needed for.
        build: Makes the section of all its results, of which the first tells most.
        belongs: Tells its results from others of the same kind.
        needs_loop: Whether it is of diffusion alone, and never measured of a plain network.
        from_bundle: What the bundle itself says of it, where there is no result; None where it says nothing.
    """

    name: str
    kind: str
    model: Any
    title: str
    what: str
    command: str
    asks: tuple[Question, ...]
    build: Callable[[Sequence[Found[R]], Context], Body]
    belongs: Callable[[Any], bool] = always
    needs_loop: bool = False
    from_bundle: Callable[[Context], Body | None] = nothing
