"""What the report is not, where its numbers come from, and what its words mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.report_page.blocks import Block, Command, Items, Prose, Section, Table
from benchmarks.report_page.numbers import typeset
from benchmarks.report_page.reading import Findings
from benchmarks.report_page.topics import Context, Found, Topic

__all__ = [
    "limits_section",
    "missing_section",
    "sources_section",
    "targets",
    "targets_section",
    "words_section",
]

BENCH_VERSIONS = ("edge_sr", "python", "numpy", "backend_version", "jetpack", "cuda", "driver", "tensorrt")
WORDS = (
    "PSNR, dB: how near an image is to the true one, pixel by pixel. More is nearer; 1 dB more is about a "
    "tenth less error.",
    "SSIM: the same of structure, from 0 to 1.",
    "LPIPS: how different two images look to a network that was trained on judgements of people, on "
    "photographs. Less is nearer; it can be pleased by detail that is not true.",
    "95 % interval: where the mean would lie for other images like these. Where it reaches across zero, the "
    "difference may be none.",
    "Seed: the start of the random noise that an image is made from. Another seed makes another image, "
    "equally likely.",
    "FP32, FP16, INT8: numbers of 32, 16 and 8 bits. Fewer bits are faster and smaller, and round more.",
    "Median, 99 of 100: half, or 99 of 100, of the images took that long or less.",
)


def targets(found: Sequence[tuple[Topic[Any], Found[Any]]]) -> list[tuple[str, Any]]:
    """Every claim that the results were held against: the file, and the check."""
    return [(each.name, check) for _, each in found for check in getattr(each.record, "checks", ())]


def missing_section(
    absent: Sequence[Topic[Any]], findings: Findings, context: Context, *, also: Sequence[str]
) -> Section:
    """What was not measured, each with what measures it, in a line."""
    lines = [_missing(topic, findings) for topic in absent if context.applies(topic)]
    if others := [topic.name for topic in absent if not context.applies(topic)]:
        told = f"`python -m benchmarks` {', '.join(others)}: they take models with a loop; this one has none."
        lines.append(told)
    return Section("missing", "What was not measured", (Items((*lines, *also)),))


def _missing(topic: Topic[Any], findings: Findings) -> str:
    others = [f" {out.name} is {out.reason}." for out in findings.left_out if out.topic == topic.name]
    return f"{topic.what[0].upper()}{topic.what[1:]}: `{topic.command}`.{''.join(others)}"


def targets_section(found: Sequence[tuple[Topic[Any], Found[Any]]]) -> Section:
    """All of them."""
    rows = [
        (
            check.claim,
            typeset(f"{check.value:.4g}"),
            typeset(f"{check.limit:.4g}"),
            "yes" if check.holds else "no",
            name,
        )
        for name, check in targets(found)
    ]
    head = ("claim", "measured", "limit", "holds", "from")
    return Section("targets", "Targets", (Table("What the results were held against.", head, tuple(rows)),))


def limits_section(context: Context) -> Section:
    """What the bundle says of itself."""
    manifest = context.bundle.manifest
    trained = f"Trained on: {manifest.provenance.data}."
    blocks = (Prose(f"Intended use: {manifest.intended_use}"), Prose(trained), Items(manifest.limits))
    return Section("limits", "Intended use and limits", blocks)


def sources_section(
    found: Sequence[tuple[Topic[Any], Found[Any]]], findings: Findings, *, command: str, digest: str
) -> Section:
    """The machine and the command behind every number, and what was not used."""
    machines = list(
        dict.fromkeys(_machine(each.record) for _, each in found if hasattr(each.record, "environment"))
    )
    rows = tuple(_source(each, machines) for _, each in found)
    head = ("file", "bundle", "commit", "machine", "threads", "load")
    blocks: list[Block] = [
        Prose(
            f"The bundle's digest is {digest}. Every figure above is from one of these "
            "files, from the bundle, or of the images that are shown."
        ),
        Table("Where the figures come from; load is the machine's, over the last minute.", head, rows),
        Items(tuple(f"Machine {number}: {machine}" for number, machine in enumerate(machines, 1))),
        Prose("To measure the same again, with your own folders:"),
        *[Command(_command(topic, each.record)) for topic, each in found],
        Prose("To make this page:"),
        Command(command),
    ]
    if findings.left_out:
        blocks.append(Prose("In the folder of results, and not used:"))
        blocks.append(Items(tuple(f"{out.name}: {out.reason}" for out in findings.left_out)))
    return Section("sources", "Where the figures come from", tuple(blocks))


def _command(topic: Topic[Any], record: Any) -> str:
    """That which made a result, as it says; or that of its topic."""
    return str(record.environment.command) if _has_command(record) else topic.command


def _has_command(record: Any) -> bool:
    return hasattr(getattr(record, "environment", None), "command")


def _machine(record: Any) -> str:
    """The machine and its software; that of `edge-sr bench` is a record of its own."""
    made = record.environment
    versions = getattr(made, "versions", None) or {
        name: str(getattr(made, name)) for name in BENCH_VERSIONS if getattr(made, name)
    }
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"{made.cpu}, {made.cores} cores, {made.system}; {told}."


def _source(found: Found[Any], machines: Sequence[str]) -> tuple[str, ...]:
    record = found.record
    if not hasattr(record, "environment"):
        return found.name, "known by its plan", *["–"] * 4
    made, number = record.environment, str(machines.index(_machine(record)) + 1)
    digest = record.bundle.digest[:12]
    if not _has_command(record):
        return found.name, digest, "–", number, "–", "–"
    commit = made.commit[:12] + made.commit[40:]
    load = "–" if made.load is None else str(made.load)
    return found.name, digest, commit, number, str(made.threads), load


def words_section() -> Section:
    """What the measures are."""
    return Section("words", "Words", (Items(WORDS),))
