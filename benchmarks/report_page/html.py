"""The report as one HTML file that needs nothing else: no script, no other file, nobody's server."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from benchmarks.report_page.blocks import (
    Answer,
    Block,
    Chart,
    Charts,
    Command,
    Document,
    Items,
    Panel,
    Prose,
    Section,
    Strip,
    Table,
)

__all__ = ["to_html"]

STYLE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
"""Told to the browser: nothing is fetched and nothing runs, whatever the page should hold."""

LINE, WORDS = 40, 12  # letters of a cell that are not broken; from which on it is no figure


def to_html(document: Document) -> str:
    """The whole of it."""
    title = escape(document.title)
    style = STYLE.read_text(encoding="utf-8")
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{title}</title>",
            f"<style>\n{style}</style>",
            "</head>",
            "<body>",
            f"<header>\n<h1>{title}</h1>",
            f'<p class="caution"><strong>{escape(document.caution)}</strong></p>',
            f'<p class="lead">{escape(document.lead)}</p>\n</header>',
            *_contents(document),
            "<main>",
            *_verdict(document),
            *[line for section in document.sections for line in _section(section)],
            "</main>",
            f"<footer><p>{escape(document.caution)}</p></footer>",
            "</body>",
            "</html>",
            "",
        ]
    )


def _contents(document: Document) -> Iterator[str]:
    yield '<nav aria-label="Contents">\n<ul>'
    yield '<li><a href="#answers">Verdict</a></li>'
    for section in document.sections:
        yield f'<li><a href="#{escape(section.key)}">{escape(section.title)}</a></li>'
    yield "</ul>\n</nav>"


def _verdict(document: Document) -> Iterator[str]:
    yield '<section id="answers" aria-labelledby="answers-title">\n<h2 id="answers-title">Verdict</h2>'
    for answer in document.answers:
        yield from _answer(answer)
    yield "</section>"


def _answer(answer: Answer) -> Iterator[str]:
    yield f'<div class="answer">\n<h3>{escape(answer.question.value)}</h3>\n<div>'
    if verdict := answer.verdict:
        yield f'<p class="badge {verdict.tone}">{escape(verdict.word)}</p>'
    yield from (f"<p>{_with_code(sentence)}</p>" for sentence in answer.sentences)
    yield "</div>\n</div>"


def _with_code(text: str) -> str:
    """What stands between backticks is what one types."""
    parts = escape(text).split("`")
    if len(parts) % 2 == 0:
        return "`".join(parts)
    return "".join(f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts))


def _section(section: Section) -> Iterator[str]:
    key = escape(section.key)
    yield f'<section id="{key}" aria-labelledby="{key}-h">\n<h2 id="{key}-h">{escape(section.title)}</h2>'
    for place, block in enumerate(section.blocks):
        yield from _block(block, f"{key}-{place}")
    yield "</section>"


def _block(block: Block, key: str) -> Iterator[str]:
    match block:
        case Prose(text):
            yield f"<p>{_with_code(text)}</p>"
        case Items(texts):
            yield "<ul>" + "".join(f"<li>{_with_code(text)}</li>" for text in texts) + "</ul>"
        case Command(text):
            yield f"<pre><code>{escape(text)}</code></pre>"
        case Table():
            yield from _table(block, key)
        case Charts(charts):
            yield f'<div class="charts{" one" if len(charts) == 1 else ""}">'
            yield from (line for chart in charts for line in _chart(chart))
            yield "</div>"
        case Strip():
            yield from _strip(block, key)


def _table(table: Table, key: str) -> Iterator[str]:
    """Wider than the page, it moves in a frame of its own, with the keyboard as well."""
    yield f'<p class="caption" id="{key}-c">{escape(table.caption)}</p>'
    yield f'<div class="table" role="region" aria-labelledby="{key}-c" tabindex="0">'
    yield f'<table aria-labelledby="{key}-c">'
    kinds = [_kind(column) for column in zip(*table.rows, strict=True)] or [""] * len(table.head)
    cells = zip(table.head, kinds, strict=True)
    head = "".join(
        f'<th scope="col"{kind}>{escape(cell)}</th>' if cell else "<td></td>" for cell, kind in cells
    )
    yield f"<thead><tr>{head}</tr></thead>\n<tbody>"
    for name, *values in table.rows:
        told = "".join(map(_cell, values, kinds[1:]))
        yield f'<tr><th scope="row">{escape(name)}</th>{told}</tr>'
    yield "</tbody>\n</table>\n</div>"


def _kind(column: Sequence[str]) -> str:
    """Words stand to the left, figures to the right."""
    wordy = [cell for cell in column if len(cell) > WORDS and cell[0].isalpha()]
    return ' class="words"' if 2 * len(wordy) > len(column) else ""


def _cell(text: str, kind: str) -> str:
    """Figures stay on one line; words may take several."""
    return (
        f'<td class="words long">{escape(text)}</td>'
        if len(text) > LINE
        else f"<td{kind}>{escape(text)}</td>"
    )


def _chart(chart: Chart) -> Iterator[str]:
    yield f"<figure>\n{chart.svg}\n<figcaption>{escape(chart.caption)}</figcaption>\n</figure>"


def _strip(strip: Strip, key: str) -> Iterator[str]:
    yield f'<section class="scene" aria-labelledby="{key}-s">\n<h3 id="{key}-s">{escape(strip.title)}</h3>'
    yield '<div class="strip">'
    yield from (line for panel in strip.panels for line in _panel(panel, strip.title))
    yield "</div>\n</section>"


def _panel(panel: Panel, scene: str) -> Iterator[str]:
    label = escape(panel.label)
    yield f"<figure>\n<p>{label}</p>"
    yield _image(panel.png, f"{panel.label} of {scene}")
    if panel.difference:
        yield _image(
            panel.difference, f"{panel.label}: map of the difference from the true image, or its scale"
        )
    yield f"<figcaption>{escape(panel.told)}</figcaption>\n</figure>"


def _image(png: bytes, alt: str) -> str:
    width, height = (int.from_bytes(png[place : place + 4], "big") for place in (16, 20))
    data = base64.b64encode(png).decode()
    return f'<img src="data:image/png;base64,{data}" width="{width}" height="{height}" alt="{escape(alt)}">'
