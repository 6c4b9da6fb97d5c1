"""The report: what it is made of, what it refuses, and that both files tell the same."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.__main__ import run
from benchmarks.environment import environment
from benchmarks.pairs import Pairs, read_pairs
from benchmarks.report_page.assembling import CAUTION, TOPICS, assemble
from benchmarks.report_page.blocks import UNMEASURED, Answer, Document, Question, Table
from benchmarks.report_page.html import to_html
from benchmarks.report_page.markdown import to_markdown
from benchmarks.report_page.reading import find_results
from benchmarks.report_page.topics import Context
from edge_sr.bundle import Bundle
from edge_sr.errors import ConfigError
from tests.benchmarks.report_records import FILES, load, store
from tests.fakes import write_tiny_bundle

DATE = "2026-01-31"
HOSTILE = '<script>alert(1)</script> & "quotes" | **bold** [x](https://evil.example)'
VOID = {"meta", "img", "br", "link"}
URLS = re.compile(r"\b(?:href|src|action|data|poster|srcset)\s*=\s*[\"']([^\"']*)", re.IGNORECASE)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of tiles of 64x64 with every precision that the report shows."""
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    return write_tiny_bundle(folder, precisions=("fp32", "fp16", "int8"), tile=64)


@pytest.fixture(scope="module")
def context(tiny: Bundle, pairs_folder: Path) -> Context:
    return Context(tiny, read_pairs(pairs_folder, tiny))


@pytest.fixture
def results(context: Context, tmp_path: Path) -> Path:
    """A folder with a result of every kind."""
    folder = tmp_path / "results"
    folder.mkdir()
    for name in FILES:
        store(folder, name, load(name, context.bundle, context.pairs))
    return folder


def report_of(results: Path, context: Context) -> Document:
    findings = find_results(results, TOPICS, context)
    return assemble(findings, context, environment(["report"], threads=1), date=DATE)


def answer(document: Document, question: Question) -> Answer:
    return next(found for found in document.answers if found.question is question)


def told(document: Document, question: Question) -> str:
    return " ".join(answer(document, question).sentences)


def tables(document: Document) -> Iterator[Table]:
    for section in document.sections:
        yield from (block for block in section.blocks if isinstance(block, Table))


class Page(HTMLParser):
    """What is in a page: its tags, its words, its identifiers, and what was not closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "title"):
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_the_page_needs_no_script_and_nothing_from_elsewhere(results: Path, context: Context) -> None:
    text = to_html(report_of(results, context))
    page = Page(text)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & {tag for tag, _ in page.tags}
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(url.startswith(("#", "data:image/png;base64,")) for url in URLS.findall(text))
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in html.unescape(page.named("meta")[1]["content"] or "")


def test_the_page_is_well_formed_and_has_what_a_screen_reader_needs(results: Path, context: Context) -> None:
    page = Page(to_html(report_of(results, context)))
    assert page.open == []
    assert page.named("html")[0]["lang"] == "en"
    assert {"header", "nav", "main", "footer", "h1"} <= {tag for tag, _ in page.tags}
    identifiers = [a["id"] for _, a in page.tags if "id" in a]
    assert len(set(identifiers)) == len(identifiers)
    pointed = [a[name] for _, a in page.tags for name in ("aria-labelledby",) if name in a]
    pointed += [(a["href"] or "").removeprefix("#") for _, a in page.tags if "href" in a]
    assert set(pointed) <= set(identifiers)
    assert all(image["alt"] for image in page.named("img"))
    assert all(drawing["role"] == "img" for drawing in page.named("svg"))
    assert {head["scope"] for head in page.named("th")} == {"col", "row"}


def test_what_must_be_read_stands_first_and_last(results: Path, context: Context) -> None:
    document = report_of(results, context)
    words = "".join(Page(to_html(document)).words)
    assert words.index(CAUTION) < words.index("Verdict") < words.rindex(CAUTION)
    assert to_markdown(document).splitlines()[2] == f"**{CAUTION}**"


def test_every_question_is_answered_in_order(results: Path, context: Context) -> None:
    document = report_of(results, context)
    assert [found.question for found in document.answers] == list(Question)
    assert all(found.sentences and all(found.sentences) for found in document.answers)


def test_the_first_answers_tell_the_results_own_numbers(results: Path, context: Context) -> None:
    document = report_of(results, context)
    quality, ladder = (json.loads((results / f"{n}-made-up.json").read_text()) for n in ("quality", "ladder"))
    rows = {row["key"]: row for row in quality["rows"]}
    psnr = rows["model"]["statistics"]["psnr_db"]["mean"]
    assert f"PSNR {psnr:.2f} dB against" in told(document, Question.GOOD)
    int8 = next(row for row in ladder["rows"] if row["key"] == "int8")
    assert f"INT8 {int8['latency']['whole']['p50']:.0f} ms" in told(document, Question.FAST)
    assert f"INT8 is {int8['speedup']['mean']:.2f} times as fast" in told(document, Question.FAST)


@pytest.mark.parametrize(
    ("low", "high", "mean", "words"),
    [
        (
            0.2,
            0.4,
            0.3,
            "nearer to the truth than plain bicubic enlargement, by 0.30 dB (95 % interval 0.20",
        ),
        (
            -0.4,
            -0.2,
            -0.3,
            "further from the truth than plain bicubic enlargement, by 0.30 dB (95 % interval",
        ),
        (-0.1, 0.2, 0.05, "as near to the truth as plain bicubic enlargement, as far as 3 images can tell"),
    ],
)
def test_the_words_follow_the_sign_and_the_interval(
    results: Path, context: Context, low: float, high: float, mean: float, words: str
) -> None:
    content = load("quality", context.bundle, context.pairs)
    row = next(row for row in content["rows"] if row["key"] == "model")
    row["versus"]["bicubic"]["psnr_db"] = {"mean": mean, "low": low, "high": high}
    store(results, "quality", content)
    assert words in told(report_of(results, context), Question.GOOD)


@pytest.mark.parametrize(
    ("holds", "certain", "verdict"), [(True, True, "yes"), (True, False, "not settled"), (False, True, "no")]
)
def test_the_verdict_on_int8_is_that_of_its_checks(
    results: Path, context: Context, holds: bool, certain: bool, verdict: str
) -> None:
    content = load("ladder", context.bundle, context.pairs)
    for check in content["checks"]:
        if check["claim"].startswith("INT8:"):
            check |= {"holds": holds, "is_certain": certain}
    store(results, "ladder", content)
    found = answer(report_of(results, context), Question.INT8_IMAGE).verdict
    assert found and found.word == verdict


def test_a_target_that_is_missed_is_told_at_the_top(results: Path, context: Context) -> None:
    content = load("seams", context.bundle, context.pairs)
    content["checks"] = [{"claim": "tiles do not show", "value": 2.0, "limit": 1.0, "holds": False}]
    store(results, "seams", content)
    found = answer(report_of(results, context), Question.TARGETS)
    assert found.verdict and found.verdict.word == "no"
    assert "tiles do not show (2, limit 1)" in found.sentences[0]


def test_a_result_of_another_model_is_named_and_left_out(results: Path, context: Context) -> None:
    content = load("ladder", context.bundle, context.pairs)
    content["bundle"]["digest"] = "0123456789abcdef" * 4
    store(results, "ladder", content)
    document = report_of(results, context)
    assert answer(document, Question.INT8_IMAGE).verdict is UNMEASURED
    words = "".join(Page(to_html(document)).words)
    assert "ladder-made-up.json: of another model: tiny 0.1, 0123456789ab" in words


def test_without_results_a_line_each_names_the_command_that_measures_it(
    context: Context, tmp_path: Path
) -> None:
    document = report_of(tmp_path, context)
    markdown = to_markdown(document)
    for topic in TOPICS:
        assert f"`{topic.command}`" in markdown
    assert {found.verdict for found in document.answers} == {UNMEASURED, None}
    assert {section.key for section in document.sections} == {
        *("images", "missing", "targets", "limits", "sources", "words")
    }


def test_a_missing_result_is_not_replaced_by_one_of_another_model(results: Path, context: Context) -> None:
    content = load("seams", context.bundle, context.pairs)
    content["bundle"]["digest"] = "0123456789abcdef" * 4
    store(results, "seams", content)
    markdown = to_markdown(report_of(results, context))
    line = next(line for line in markdown.splitlines() if line.startswith("- Whether tiles show"))
    assert "seams-made-up.json is of another model: tiny 0.1, 0123456789ab." in line


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "no JSON"),
        ("[1]", "no result: wanted a JSON object"),
        ('{"kind": "edge-sr/other"}', "no result of a known kind: 'edge-sr/other'"),
        ('{"kind": "edge-sr/ladder"}', "damaged, or of another version: environment: Field required"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_file_that_is_no_result_is_named_with_the_reason(
    context: Context, tmp_path: Path, text: str, reason: str
) -> None:
    (tmp_path / "odd.json").write_text(text)
    findings = find_results(tmp_path, TOPICS, context)
    assert [(out.name, out.reason) for out in findings.left_out] == [("odd.json", reason)]


def test_a_number_that_is_none_is_refused(context: Context, tmp_path: Path) -> None:
    content = load("seams", context.bundle, context.pairs)
    content["seed_rms"][0] = float("nan")
    store(tmp_path, "seams", content)
    (out,) = find_results(tmp_path, TOPICS, context).left_out
    assert out.reason.startswith("damaged, or of another version: seed_rms.0: Input should be a finite")


def test_no_number_of_the_page_is_nan(results: Path, context: Context) -> None:
    document = report_of(results, context)
    for text in ("".join(Page(to_html(document)).words), to_markdown(document)):
        assert not re.search(r"\b(?:nan|inf|None)\b", text)


def test_hostile_words_of_a_result_stay_words(results: Path, context: Context) -> None:
    quality = load("quality", context.bundle, context.pairs)
    quality["rows"][1]["label"] = quality["data"]["degradation"] = quality["environment"]["cpu"] = HOSTILE
    quality["notices"] = [HOSTILE]
    store(results, "quality", quality)
    ladder = load("ladder", context.bundle, context.pairs)
    ladder["rows"][0]["label"] = ladder["environment"]["command"] = HOSTILE
    store(results, "ladder", ladder)
    document = report_of(results, context)
    page = Page(to_html(document))
    assert not page.named("script")
    assert HOSTILE in "".join(page.words)
    markdown = to_markdown(document)
    assert "<script" not in re.sub(r"^    .*$", "", markdown, flags=re.MULTILINE).replace("\\<", "")
    assert "](https" not in re.sub(r"^    .*$", "", markdown, flags=re.MULTILINE).replace("\\](", "")


def test_both_files_tell_the_same_numbers(results: Path, context: Context) -> None:
    document = report_of(results, context)
    page, markdown = Page(to_html(document)), to_markdown(document)
    plain = re.sub(r"\\(.)", r"\1", markdown)
    words = " ".join("".join(page.words).split())
    cells = [cell for table in tables(document) for row in table.rows for cell in row if cell]
    sentences = [sentence for found in document.answers for sentence in found.sentences]
    assert len(cells) > 100
    for text in (*cells, *sentences):
        shown = " ".join(text.replace("`", "").split())
        assert shown in words
        assert shown in plain.replace("`", "")


def test_images_are_ranked_by_the_ladder_and_made_by_the_bundle(results: Path, context: Context) -> None:
    document = report_of(results, context)
    strips = next(section for section in document.sections if section.key == "images").blocks
    titles = [getattr(strip, "title", "") for strip in strips]
    assert [title.partition(":")[0] for title in titles if title] == ["Best", "Median", "Worst"]
    labels = [panel.label for panel in strips[1].panels]  # type: ignore[union-attr]
    assert labels == ["Input", "Bicubic", "FP32", "FP16 (emulated)", "INT8", "True image"]


def test_images_that_are_not_the_measured_ones_are_said_not_to_be(results: Path, context: Context) -> None:
    words = to_markdown(report_of(results, context))
    assert "dB away from the measured one" in words, "the tiny bundle is not the one that was measured"


def test_a_result_of_other_images_is_said_to_be(results: Path, context: Context) -> None:
    content = load("quality", context.bundle, context.pairs)
    content["data"]["sha256"] = "0" * 64
    store(results, "quality", content)
    words = "3 images of 'made-up', which are not those named for this report"
    assert words in told(report_of(results, context), Question.WHERE)


def test_a_result_of_the_first_images_is_said_to_be(results: Path, context: Context) -> None:
    pairs = context.pairs
    first = Pairs(pairs.name, pairs.lr[:2], pairs.hr[:2], pairs.names[:2])
    store(results, "quality", load("quality", context.bundle, first))
    words = "2 images of 'made-up', the first of the 3 named for this report"
    assert words in told(report_of(results, context), Question.WHERE)


def test_the_same_results_give_the_same_bytes(results: Path, context: Context) -> None:
    assert to_html(report_of(results, context)) == to_html(report_of(results, context))


def test_a_folder_that_is_not_there_is_refused(context: Context, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no folder"):
        find_results(tmp_path / "none", TOPICS, context)


def test_the_command_writes_the_page_and_its_twin(
    results: Path, context: Context, pairs_folder: Path, tmp_path: Path
) -> None:
    folders = ["--bundle", context.bundle.folder, "--pairs", pairs_folder, "--results", results]
    out = tmp_path / "report.html"
    assert run(["report", *map(str, folders), "--out", str(out), "--threads", "1"]) == 0
    assert out.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# tiny 0.1: what was measured")
