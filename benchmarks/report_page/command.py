"""`python -m benchmarks report`: one page about a bundle, from the results of its benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.pairs import read_pairs
from benchmarks.report_page.assembling import TOPICS, assemble
from benchmarks.report_page.html import to_html
from benchmarks.report_page.markdown import to_markdown
from benchmarks.report_page.measuring import Measuring, measure
from benchmarks.report_page.reading import find_results
from benchmarks.report_page.topics import Context
from benchmarks.rows import Track
from edge_sr.bundle import Bundle
from edge_sr.image import write_atomic

__all__ = ["Report", "Request", "run_report", "save_report"]


@dataclass(frozen=True)
class Request:
    """What is to be reported.

    Attributes:
        bundle, pairs: Folders.
        results: Folder of the results, which are read, and written where something is measured.
        measures: Whether what is missing is measured first; the other fields but `threads` are for that.
        lpips, control, labelled, judge, degradation, threads: See `Measuring`.
    """

    bundle: Path
    pairs: Path
    results: Path
    measures: bool = False
    lpips: Path | None = None
    control: Path | None = None
    labelled: Path | None = None
    judge: Path | None = None
    degradation: str = "not stated"
    threads: int = 0

    @property
    def measuring(self) -> Measuring:
        """How what is missing is measured: by processes that are started elsewhere, so with whole paths."""
        lpips, control, labelled, judge = (
            folder.resolve() if folder else None
            for folder in (self.lpips, self.control, self.labelled, self.judge)
        )
        return Measuring(
            bundle=self.bundle.resolve(),
            pairs=self.pairs.resolve(),
            results=self.results.resolve(),
            lpips=lpips,
            control=control,
            labelled=labelled,
            judge=judge,
            degradation=self.degradation,
            threads=self.threads,
        )


@dataclass(frozen=True)
class Report:
    """The two files."""

    html: str
    markdown: str


def run_report(request: Request, *, arguments: Sequence[str], track: Track) -> Report:
    """Makes the report, and first what it is made of, where that is asked for.

    Args:
        request: What, and how.
        arguments: Those of the command line, which the report names.
        track: Shows progress.

    Raises:
        EdgeSRError: The bundle, the images or the folder of results cannot be used.
    """
    bundle = Bundle.open(request.bundle)
    context = Context(bundle, read_pairs(request.pairs, bundle))
    failures: list[str] = []
    if request.measures:
        request.results.mkdir(parents=True, exist_ok=True)
        before = find_results(request.results, list(filter(context.applies, TOPICS)), context)
        failures = measure(before, context, request.measuring, track=track)
    findings = find_results(request.results, TOPICS, context)
    made = environment(arguments, threads=request.threads)
    document = assemble(findings, context, made, date=date.today().isoformat(), failures=failures)
    return Report(to_html(document), to_markdown(document))


def save_report(out: Path, report: Report) -> list[Path]:
    """Writes the page, and the Markdown beside it.

    Args:
        out: The HTML file.
        report: What it holds.

    Raises:
        OutputError: One of them could not be written.
    """
    markdown = out.with_suffix(".md")
    write_atomic(markdown, report.markdown.encode())
    write_atomic(out, report.html.encode())
    return [markdown, out]
