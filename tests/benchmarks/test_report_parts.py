"""The parts of the report: whose a result is, numbers, charts, the front, sensitivity, what is run."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks.__main__ import cli as benchmarks
from benchmarks.environment import environment
from benchmarks.pairs import read_pairs
from benchmarks.records import Estimate, to_json
from benchmarks.report_page.assembling import TOPICS, assemble
from benchmarks.report_page.blocks import Document, Question, Table
from benchmarks.report_page.charts import SERIES, THEME, chart
from benchmarks.report_page.html import STYLE
from benchmarks.report_page.identity import earlier_digests
from benchmarks.report_page.markdown import to_markdown
from benchmarks.report_page.measuring import Measuring, measure, missing_jobs
from benchmarks.report_page.numbers import brief, interval, milliseconds, plain, signed, span, typeset
from benchmarks.report_page.reading import Findings, find_results
from benchmarks.report_page.sections.front import Point, front_of
from benchmarks.report_page.topics import Context
from benchmarks.rows import Track
from calibration.__main__ import cli as calibration
from edge_sr.bundle import Bundle, write_manifest
from edge_sr.cli import cli as edge_sr
from edge_sr.manifest import Calibration, QualityRow
from edge_sr.spec import Precision
from tests.benchmarks.report_made_up import bench, peers, roofline, service
from tests.benchmarks.report_records import load, store
from tests.edge_sr.bench.results import row_of
from tests.fakes import write_tiny_bundle

QUALITY = QualityRow(
    data="made up", degradation="cubic", row="default", metrics={"psnr_db": 30.0}, source="none"
)
CALIBRATION = Calibration(
    method="mse", set_digest="0" * 64, images_asked=1, images_used=1, sampler="ddim", steps=1, timesteps=(0,),
    seed=0, excluded={"step/unet.conv_in": "alone in INT8 it changes the image by 0.599 gray levels"},
)  # fmt: skip


@pytest.fixture
def tiny(tmp_path: Path) -> Bundle:
    return write_tiny_bundle(tmp_path / "tiny", precisions=("fp32", "fp16", "int8"), tile=64)


@pytest.fixture
def context(tiny: Bundle, pairs_folder: Path) -> Context:
    return Context(tiny, read_pairs(pairs_folder, tiny))


def rewritten(bundle: Bundle, **changes: Any) -> Bundle:
    """The bundle with another manifest."""
    write_manifest(bundle.folder, bundle.manifest.model_copy(update=changes))
    return Bundle.open(bundle.folder)


def test_a_bundle_knows_itself_before_its_quality_was_written_into_it(tiny: Bundle) -> None:
    assert tiny.digest in earlier_digests(rewritten(tiny, quality=(QUALITY,)))


def test_a_bundle_knows_itself_before_it_was_quantised(tmp_path: Path) -> None:
    before = write_tiny_bundle(tmp_path / "tiny", precisions=("fp32",))
    graphs = {
        part: files | {Precision.INT8: files[Precision.FP32]}
        for part, files in before.manifest.graphs.items()
    }
    after = rewritten(
        before, graphs=graphs, calibration=CALIBRATION, default_precision=Precision.INT8, quality=(QUALITY,)
    )
    assert before.digest in earlier_digests(after)


def test_a_bundle_with_other_weights_or_presets_is_another_model(tiny: Bundle, tmp_path: Path) -> None:
    known = earlier_digests(tiny)
    other = write_tiny_bundle(tmp_path / "other", precisions=("fp32", "fp16", "int8"), tile=64, seed=1)
    diffusion = tiny.diffusion.model_copy(update={"default": "odd"})
    assert other.digest not in known
    assert rewritten(tiny, diffusion=diffusion).digest not in known


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (plain(-0.0004, 3), "0.000"),
        (plain(-1.5, 1), "−1.5"),
        (signed(0.25, 2), "+0.25"),
        (signed(-0.25, 2), "−0.25"),
        (signed(0.0001, 2), "0.00"),
        (brief(1234.5), "1234"),
        (brief(0.0123456), "0.0123"),
        (brief(0), "0"),
        (milliseconds(417.2), "417 ms"),
        (milliseconds(3204), "3.20 s"),
        (span(Estimate(mean=-0.3, low=-0.4, high=-0.2), 1, factor=-1), "0.2 to 0.4"),
        (interval(Estimate(mean=0.5, low=-0.25, high=1.25), 2, is_change=True), "+0.50 [−0.25, +1.25]"),
        (typeset("costs -0.5 dB in cxr-4, 1-2 **bold**"), "costs −0.5 dB in cxr-4, 1-2 bold"),
    ],
)
def test_a_number_is_printed_with_what_is_known_of_it(text: str, wanted: str) -> None:
    assert text == wanted


def test_the_front_has_what_nothing_beats_in_both() -> None:
    def point(label: str, ratio: float, gain: float) -> Point:
        return Point(label, 100 * ratio, ratio, gain, "#0072b2", is_ours=True)

    slow_equal, best, fast, beaten = (
        point("slow and equal", 2.0, 0.0002),
        point("best", 1.0, 0.0),
        point("fast", 0.5, -0.5),
        point("beaten", 0.7, -0.6),
    )
    assert front_of([slow_equal, best, fast, beaten]) == [fast, best]


def test_a_chart_is_a_drawing_in_the_pages_colours_with_identifiers_of_its_own() -> None:
    drawn = [
        chart(lambda axes: axes.plot([1, 2], "o-", color=SERIES[0]), key=key, alt="A & B", caption="")
        for key in ("one", "two")
    ]
    first, second = (ElementTree.fromstring(each.svg) for each in drawn)
    names = [{e.attrib["id"] for e in root.iter() if "id" in e.attrib} for root in (first, second)]
    assert names[0]
    assert not names[0] & names[1]
    assert first.findtext("{http://www.w3.org/2000/svg}title") == "A & B"
    assert "var(--blue)" in drawn[0].svg
    assert not re.search(r"#[0-9a-f]{6}\b", drawn[0].svg), "every colour follows the theme"
    assert "<style" not in drawn[0].svg


def test_letters_that_mean_something_to_matplotlib_are_drawn_as_they_are() -> None:
    found = chart(lambda axes: axes.set_title("$x^2$ <b>"), key="one", alt="a", caption="")
    assert "$x^2$ &lt;b&gt;" in found.svg


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_words_and_lines_stand_out_from_the_paper(theme: int) -> None:
    found = re.findall(r":root \{(.*?)\}", STYLE.read_text(), re.DOTALL)[theme]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", found))

    def contrast(one: str, other: str) -> float:
        high, low = sorted((luminance(colours[one]), luminance(colours[other])), reverse=True)
        return (high + 0.05) / (low + 0.05)

    for name in ("ink", "pale", "accent"):
        assert contrast(name, "paper") >= 4.5
    for name in ("warn", "good", "bad"):
        assert contrast(f"on-{name}", name) >= 4.5
    for name in set(THEME.values()) - {"grid", "band"}:
        assert contrast(name, "paper") >= 3
    assert contrast("ink", "band") >= 4.5


def sensitivity_tables(folder: Path, reason: str) -> None:
    """A plan that leaves a layer out for a reason; its table of layers has a column more than is read."""
    plan = {
        "name": "1 left out", "excluded": {"step": {"unet.conv_in": reason}}, "image_error": 1.0,
        "latent_error": 0.1, "speedup": 2.0, "psnr_db": None,
    }  # fmt: skip
    (folder / "sensitivity-plans.json").write_text(json.dumps([plan]))
    rows = [
        {"component": "step", "layer": layer, "kind": "Conv", "image_error": error, "work_share": 0.1}
        for layer, error in (("unet.conv_out", 0.1), ("unet.conv_in", 0.6))
    ]
    with (folder / "sensitivity-layers.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_sensitivity_belongs_to_the_bundle_whose_plan_it_has(
    context: Context, pairs_folder: Path, tmp_path: Path
) -> None:
    own = Context(rewritten(context.bundle, calibration=CALIBRATION), context.pairs)
    sensitivity_tables(tmp_path, next(iter(CALIBRATION.excluded.values())))
    (found,) = find_results(tmp_path, TOPICS, own).found["sensitivity"]
    assert [layer.layer for layer in found.record.layers] == ["unet.conv_in", "unet.conv_out"]
    assert found.record.chosen == "1 left out"


def test_sensitivity_of_another_run_that_left_the_same_layers_out_is_said_to_be(
    context: Context, tmp_path: Path
) -> None:
    own = Context(rewritten(context.bundle, calibration=CALIBRATION), context.pairs)
    for reason, is_of_bundle in ((next(iter(CALIBRATION.excluded.values())), True), ("another", False)):
        sensitivity_tables(tmp_path, reason)
        (found,) = find_results(tmp_path, TOPICS, own).found["sensitivity"]
        assert found.record.is_of_bundle is is_of_bundle
        told = to_markdown(report(own, tmp_path))
        assert ("The figures here are not those in the bundle" in told) is not is_of_bundle


def test_sensitivity_of_a_plan_with_other_layers_is_left_out(context: Context, tmp_path: Path) -> None:
    excluded = {"step/unet.conv_out": "another layer"}
    calibration = CALIBRATION.model_copy(update={"excluded": excluded})
    own = Context(rewritten(context.bundle, calibration=calibration), context.pairs)
    sensitivity_tables(tmp_path, "any")
    (out,) = find_results(tmp_path, TOPICS, own).left_out
    assert out.topic == "sensitivity"
    assert out.reason.startswith("of another model")


def test_without_tables_the_bundle_itself_says_what_it_leaves_out(context: Context, tmp_path: Path) -> None:
    own = Context(rewritten(context.bundle, calibration=CALIBRATION), context.pairs)
    told = to_markdown(report(own, tmp_path))
    assert "| unet.conv\\_in | step | alone in INT8 it changes the image by 0.599 gray levels |" in told


def report(context: Context, folder: Path) -> Document:
    made = environment(["report"], threads=1)
    return assemble(find_results(folder, TOPICS, context), context, made, date="2026-01-31")


def jobs(findings: Findings, context: Context, folder: Path, **options: Any) -> list[str]:
    how = Measuring(context.bundle.folder, folder, folder, lpips=folder, **options)
    return [job.topic for job in missing_jobs(findings, context, how, work=folder)]


SCORED = ["quality", "curve", "diagnostic", "evidence", "seams"]
TIMED = ["ladder", "loop", "loop", "peers", "roofline", "service", "bench"]


def test_all_that_is_missing_is_measured_and_what_is_timed_comes_last(
    context: Context, tmp_path: Path
) -> None:
    findings = find_results(tmp_path, TOPICS, context)
    assert jobs(findings, context, tmp_path) == SCORED + TIMED


def test_what_has_a_result_of_these_images_is_not_measured_again(context: Context, tmp_path: Path) -> None:
    store(tmp_path, "quality", load("quality", context.bundle, context.pairs))
    store(tmp_path, "loop", load("loop", context.bundle, context.pairs))
    stale = load("ladder", context.bundle, context.pairs)
    stale["data"]["sha256"] = "0" * 64
    store(tmp_path, "ladder", stale)
    findings = find_results(tmp_path, TOPICS, context)
    assert jobs(findings, context, tmp_path) == [*SCORED[1:], "ladder", "loop", *TIMED[3:]]


def test_a_quick_result_takes_no_name_that_another_bundle_or_a_full_one_has(
    context: Context, tmp_path: Path
) -> None:
    how = Measuring(context.bundle.folder, tmp_path, tmp_path)
    found = missing_jobs(find_results(tmp_path, TOPICS, context), context, how, work=tmp_path / "work")
    names = [Path(step[-1] if step[0] == "edge_sr" else step[step.index("--out") + 1]).name
             for job in found for step in job.steps[-1:]]  # fmt: skip
    assert len(set(names)) == len(names)
    assert all(name.removesuffix(".json").endswith(f"-{context.bundle.digest[:8]}-quick") for name in names)


def test_every_command_that_measures_is_one_that_its_program_takes(
    context: Context, pairs_folder: Path, tmp_path: Path
) -> None:
    programs: dict[str, Any] = {"benchmarks": benchmarks, "calibration": calibration, "edge_sr": edge_sr}
    how = Measuring(
        context.bundle.folder, pairs_folder, tmp_path, lpips=tmp_path, labelled=tmp_path, judge=tmp_path,
        threads=1,
    )  # fmt: skip
    found = missing_jobs(find_results(tmp_path, TOPICS, context), context, how, work=tmp_path)
    steps = [step for job in found for step in job.steps]
    assert {step[0] for step in steps} == set(programs)
    for program, name, *arguments in steps:
        command = programs[program].commands[name]
        command.make_context(name, arguments)  # raises where an option is unknown or its value is refused


def test_of_a_plain_network_only_what_it_has_is_measured_and_told(pairs_folder: Path, tmp_path: Path) -> None:
    plain_ = write_tiny_bundle(tmp_path / "plain", precisions=("fp32", "int8"), tile=64, family="regression")
    context = Context(plain_, read_pairs(pairs_folder, plain_))
    topics = list(filter(context.applies, TOPICS))
    assert jobs(find_results(tmp_path, topics, context), context, tmp_path) == ["quality", "quality", "bench"]
    told = to_markdown(report(context, tmp_path))
    assert "in one pass" in told
    assert "they take models with a loop; this one has none" in told
    assert "`python -m benchmarks diagnostic` takes models with a loop" in told


def test_precisions_that_were_judged_and_timed_apart_stand_on_the_front_without_a_ladder(
    pairs_folder: Path, tmp_path: Path
) -> None:
    plain_ = write_tiny_bundle(tmp_path / "plain", precisions=("fp32", "int8"), tile=64, family="regression")
    context = Context(plain_, read_pairs(pairs_folder, plain_))
    for precision, gain in (("fp32", 0.0), ("int8", -0.02)):
        quality = load("quality", plain_, context.pairs)
        quality["bundle"]["precision"] = precision
        model = next(row for row in quality["rows"] if row["key"] == "model")
        seeds = model["values"]["psnr_db"]
        model["values"]["psnr_db"] = [[value + gain for value in seed] for seed in seeds]
        model["statistics"]["psnr_db"]["mean"] += gain
        store(tmp_path, f"quality-{precision}", quality)
    store(tmp_path, "bench", bench(plain_, rows=[row_of(0.2), row_of(0.1, precision="int8")]))
    document = report(context, tmp_path)
    front = next(section for section in document.sections if section.key == "front")
    (table,) = (block for block in front.blocks if isinstance(block, Table))
    assert [(row[0], row[3], row[4]) for row in table.rows] == [
        ("INT8", "−0.020", "yes"), ("FP32", "0.000", "yes")
    ]  # fmt: skip
    int8 = next(a for a in document.answers if a.question is Question.INT8_IMAGE)
    assert int8.verdict and int8.verdict.word == "yes"
    assert int8.sentences == (
        "INT8 less FP32 on the same images: −0.020 dB of PSNR (95 % interval −0.020 to −0.020).",
    )


def test_a_control_is_made_where_none_is_named(context: Context, tmp_path: Path) -> None:
    findings = find_results(tmp_path, TOPICS, context)
    for control, programs in (
        (None, ["calibration", "calibration", "benchmarks"]),
        (tmp_path, ["benchmarks"]),
    ):
        how = Measuring(context.bundle.folder, tmp_path, tmp_path, control=control)
        found = next(j for j in missing_jobs(findings, context, how, work=tmp_path) if j.topic == "ladder")
        assert [step[0] for step in found.steps] == programs


def store_made_up(folder: Path, context: Context) -> None:
    """A result each of what is timed, but the ladder and the loop."""
    bundle = context.bundle
    records = {
        "peers": peers(bundle, context.pairs), "roofline": roofline(bundle), "service": service(bundle)
    }  # fmt: skip
    for name, record in records.items():
        store(folder, name, json.loads(to_json(record)))
    store(folder, "bench", bench(bundle))


def test_what_cannot_be_measured_says_why_and_stops_nothing(
    bundle: Bundle, pairs_folder: Path, tmp_path: Path, quietly: Track
) -> None:
    context = Context(bundle, read_pairs(pairs_folder, bundle, limit=1))
    for name in ("quality", "evidence", "seams"):
        store(tmp_path, name, load(name, bundle, context.pairs))
    store_made_up(tmp_path, context)
    how = Measuring(bundle.folder, tmp_path / "none", tmp_path, threads=1)
    failures = measure(find_results(tmp_path, TOPICS, context), context, how, track=quietly)
    assert failures == [
        "Asked for and not measured, curve: it needs --lpips.",
        "Asked for and not measured, diagnostic: it needs --labelled and --judge.",
        "Asked for and not measured, ladder: the bundle has no fp16, int8 graphs.",
    ]
    made = find_results(tmp_path, TOPICS, context).found["loop"]
    assert [found.record.bundle.digest for found in made] == [bundle.digest]


def test_a_benchmark_that_fails_gives_its_own_reason(
    context: Context, tmp_path: Path, quietly: Track
) -> None:
    for name in ("quality", "evidence", "seams", "ladder", "loop"):
        store(tmp_path, name, load(name, context.bundle, context.pairs))
    store_made_up(tmp_path, context)
    how = Measuring(context.bundle.folder, tmp_path / "none", tmp_path, lpips=tmp_path, threads=1)
    failures = measure(find_results(tmp_path, TOPICS, context), context, how, track=quietly)
    told = next(failure for failure in failures if "curve" in failure)
    assert "hr_256" in told or "none" in told, told
