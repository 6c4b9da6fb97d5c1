"""The report as Markdown: the same words and tables; drawings and images are in the HTML file."""

from __future__ import annotations

import re
from collections.abc import Iterator

from benchmarks.report import markdown_table
from benchmarks.report_page.blocks import (
    Block,
    Charts,
    Command,
    Document,
    Items,
    Prose,
    Section,
    Strip,
    Table,
)

__all__ = ["to_markdown"]

SPECIAL = re.compile(r"([\\`*_\[\]<>|#])")


def to_markdown(document: Document) -> str:
    """The whole of it."""
    lines = [
        f"# {_escaped(document.title)}",
        "",
        f"**{_escaped(document.caution)}**",
        "",
        _escaped(document.lead),
        "",
    ]
    lines += ["## Verdict", ""]
    for answer in document.answers:
        verdict = f" **{_escaped(_capital(answer.verdict.word))}.**" if answer.verdict else ""
        words = " ".join(map(_escaped, answer.sentences))
        lines += [f"- **{answer.question.value}**{verdict} {words}"]
    for section in document.sections:
        lines += ["", *_section(section)]
    return "\n".join(lines) + "\n"


def _capital(word: str) -> str:
    return word[:1].upper() + word[1:]


def _section(section: Section) -> Iterator[str]:
    yield f"## {_escaped(section.title)}"
    for block in section.blocks:
        yield ""
        yield from _block(block)


def _block(block: Block) -> Iterator[str]:
    match block:
        case Prose(text):
            yield _escaped(text)
        case Items(texts):
            yield from (f"- {_escaped(text)}" for text in texts)
        case Command(text):
            yield f"    {text}"
        case Table():
            yield from _table(block)
        case Charts(charts):
            yield from (f"- Drawing: {_escaped(chart.alt)} {_escaped(chart.caption)}" for chart in charts)
        case Strip(title, panels):
            yield f"{_escaped(title)}:"
            yield ""
            yield from (f"- {_escaped(panel.label)}: {_escaped(panel.told)}" for panel in panels)


def _table(table: Table) -> Iterator[str]:
    yield _escaped(table.caption)
    yield ""
    rows = [[_escaped(cell) for cell in row] for row in table.rows]
    yield from markdown_table([_escaped(cell) for cell in table.head], rows)


def _escaped(text: str) -> str:
    """Text that means nothing to Markdown, in one line, but for what stands between backticks."""
    parts = " ".join(text.split()).split("`")
    if len(parts) % 2 == 0:
        return SPECIAL.sub(r"\\\1", "`".join(parts))
    return "".join(f"`{p}`" if place % 2 else SPECIAL.sub(r"\\\1", p) for place, p in enumerate(parts))
