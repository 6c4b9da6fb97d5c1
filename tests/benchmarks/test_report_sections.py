"""The sections of the report that take other runtimes, the diagnostic check, a device and the service."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from benchmarks.environment import environment
from benchmarks.pairs import read_pairs
from benchmarks.records import to_json
from benchmarks.report_page.assembling import NO_GPU, TOPICS, assemble
from benchmarks.report_page.blocks import Answer, Document, Question, Table
from benchmarks.report_page.html import to_html
from benchmarks.report_page.markdown import to_markdown
from benchmarks.report_page.reading import find_results
from benchmarks.report_page.topics import Context
from tests.benchmarks import report_made_up as made_up
from tests.benchmarks.report_records import load, store
from tests.fakes import write_tiny_bundle


@pytest.fixture(scope="module")
def context(pairs_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Context:
    bundle = write_tiny_bundle(tmp_path_factory.mktemp("tiny") / "tiny", tile=64)
    return Context(bundle, read_pairs(pairs_folder, bundle))


def report_of(context: Context, folder: Path, **records: BaseModel | dict[str, Any]) -> Document:
    for name, record in records.items():
        content = json.loads(to_json(record)) if isinstance(record, BaseModel) else record
        store(folder, name, content)
    findings = find_results(folder, TOPICS, context)
    assert findings.left_out == ()
    return assemble(findings, context, environment(["report"], threads=1), date="2026-01-31")


def answer(document: Document, question: Question) -> Answer:
    return next(found for found in document.answers if found.question is question)


def told(document: Document, question: Question) -> str:
    return " ".join(answer(document, question).sentences)


def test_runtimes_are_sorted_into_slower_and_faster_than_ours(context: Context, tmp_path: Path) -> None:
    words = told(
        report_of(context, tmp_path, peers=made_up.peers(context.bundle, context.pairs)), Question.AGAINST
    )
    assert "the same weights in 6 other runtimes: edge-sr is faster than 5 of them beyond doubt" in words
    assert "Faster than edge-sr: OpenVINO, NNCF INT8 0.90 times (0.87 to 0.93)." in words
    assert "No difference beyond doubt" not in words


def test_other_runtimes_stand_on_the_front_beside_the_precisions(context: Context, tmp_path: Path) -> None:
    ladder = load("ladder", context.bundle, context.pairs)
    for row in ladder["rows"]:
        if row["speedup"]:
            row["speedup"] = {"mean": 1.9, "low": 1.8, "high": 2.0}
    document = report_of(context, tmp_path, ladder=ladder, peers=made_up.peers(context.bundle, context.pairs))
    front = next(section for section in document.sections if section.key == "front")
    table = next(block for block in front.blocks if isinstance(block, Table))
    rows = {row[0]: row for row in table.rows}
    assert rows["OpenVINO, NNCF INT8"][3:] == ("−0.700", "yes")
    assert rows["PyTorch, eager"][-1] == "no"
    assert "FP32" in rows


def test_a_difference_that_is_not_seen_is_not_said_to_be_none(context: Context, tmp_path: Path) -> None:
    found = answer(
        report_of(context, tmp_path, diagnostic=made_up.diagnostic(context.bundle, context.pairs)),
        Question.INT8_DIAGNOSIS,
    )
    assert found.verdict
    assert (found.verdict.word, found.verdict.tone) == ("no change shown", "open")
    assert found.sentences[0].startswith("INT8 against FP32: ")
    assert "No difference is shown, which does not show that there is none" in found.sentences[0]


def test_a_diagnosis_that_int8_makes_worse_is_a_bad_yes(context: Context, tmp_path: Path) -> None:
    record = made_up.diagnostic(context.bundle, context.pairs, worse=8.0)
    found = answer(report_of(context, tmp_path, diagnostic=record), Question.INT8_DIAGNOSIS)
    assert found.verdict
    assert (found.verdict.word, found.verdict.tone) == ("yes", "bad")
    assert "INT8 is worse." in found.sentences[0]


def test_of_a_judge_that_may_not_judge_nothing_is_concluded(context: Context, tmp_path: Path) -> None:
    record = made_up.diagnostic(context.bundle, context.pairs, is_valid=False)
    document = report_of(context, tmp_path, diagnostic=record)
    found = answer(document, Question.INT8_DIAGNOSIS)
    assert found.verdict
    assert found.verdict.word == "not settled"
    assert len(found.sentences) == 1
    assert found.sentences[0].endswith("No conclusion is drawn.")
    assert "INT8 against FP32" not in to_markdown(document)


@pytest.mark.parametrize(("backend", "is_gpu"), [("tensorrt", True), ("onnxruntime", False)])
def test_without_a_result_from_a_gpu_that_is_said(
    context: Context, tmp_path: Path, backend: str, is_gpu: bool
) -> None:
    document = report_of(context, tmp_path, bench=made_up.bench(context.bundle, backend=backend))
    assert (NO_GPU in answer(document, Question.UNMEASURED).sentences) is not is_gpu


def test_a_device_is_told_with_its_times(context: Context, tmp_path: Path) -> None:
    document = report_of(context, tmp_path, bench=made_up.bench(context.bundle))
    words = told(document, Question.FAST)
    assert re.match(
        r"NVIDIA Jetson Orin Nano, fp32, 20 ddim steps, 64x64, 2 threads: 10\d ms from pixels to pixels",
        words,
    )
    assert "power mode 15W, tensorrt" in told(document, Question.WHERE)


def test_the_service_says_what_a_batch_gains(context: Context, tmp_path: Path) -> None:
    words = to_markdown(report_of(context, tmp_path, service=made_up.service(context.bundle)))
    assert "| open, 0.80 | 4 | 5.28 | 1.20 \\[0.90, 1.30\\] | 2 % | 300 ms | 900 ms | 1.6 | 1.2 |" in words


def test_a_stage_is_held_against_the_machines_own_peak(context: Context, tmp_path: Path) -> None:
    words = to_markdown(report_of(context, tmp_path, roofline=made_up.roofline(context.bundle)))
    assert "| step, FP32 | 20.0 ms | 1.00 | 0 % | 10.0 ms | 50 % | 62 % |" in words
    assert "200 billion operations a second in FP32, 800 in INT8" in words
    assert "- step, fp32: half of its time is products" in words


def test_all_of_them_make_one_page(context: Context, tmp_path: Path) -> None:
    bundle, pairs = context.bundle, context.pairs
    document = report_of(
        context,
        tmp_path,
        peers=made_up.peers(bundle, pairs),
        diagnostic=made_up.diagnostic(bundle, pairs),
        bench=made_up.bench(bundle),
        service=made_up.service(bundle),
        roofline=made_up.roofline(bundle),
    )
    page = to_html(document)
    for title in (
        "Other runtimes",
        "Does it change a diagnosis?",
        "On the device",
        "As a service, under load",
        "Against the machine's limit",
    ):
        assert f">{html.escape(title)}</h2>" in page
        assert f"## {title}" in to_markdown(document)
