"""Measures what the report lacks: each benchmark in a process of its own, as a reader would start it.

A process of its own leaves the times of the next one alone (threads, memory, caches of torch), puts the
command that repeats it into the result, and cannot end the others by failing.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.report_page.reading import Findings
from benchmarks.report_page.topics import Context
from benchmarks.rows import Track
from edge_sr.spec import Precision

__all__ = ["Job", "Measuring", "measure", "missing_jobs"]

ROOT = Path(__file__).parents[2]
CONTROL_IMAGES = 32  # that the naive control is calibrated with
LADDER = (Precision.FP32, Precision.FP16, Precision.INT8)
TIMED = (Precision.FP32, Precision.INT8)  # that of FP16 means nothing on a CPU
OWN_DATA = ("bench", "diagnostic", "roofline", "seams", "service", "peers")  # or none: never all of the pairs
QUICK = {
    "quality": "--limit 24 --seeds 2",
    "curve": "--limit 8",
    "diagnostic": "",
    "evidence": "--limit 8 --samples 4",
    "seams": "--limit 2",
    "ladder": "--limit 12 --seeds 2 --rounds 12",
    "loop": "--repeats 10",
    "peers": "--limit 2 --rounds 8 --imports 2",
    "roofline": "--rounds 6",
    "service": "--batch 1 --batch 4 --load 1.0 --clients 2 --seconds 5 --rounds 2",
    "bench": "--duration 10",
}
"""What makes each benchmark a matter of minutes on two cores. Few images and rounds give wide intervals."""

Arguments = list[str]


@dataclass(frozen=True)
class Measuring:
    """How what is missing is measured.

    Attributes:
        bundle, pairs, results: Folders.
        lpips: Folder of the LPIPS weights; None leaves LPIPS out, and what needs it.
        control: Folder of the same model, quantised naively; None makes one.
        labelled, judge: Labelled radiographs, and the folder of the classifier that is trained on them; None
            leaves out whether a diagnosis changes.
        degradation: How the small images were made, in words.
        threads: CPU threads; 0 for all cores.
    """

    bundle: Path
    pairs: Path
    results: Path
    lpips: Path | None = None
    control: Path | None = None
    labelled: Path | None = None
    judge: Path | None = None
    degradation: str = "not stated"
    threads: int = 0


@dataclass(frozen=True)
class Job:
    """A benchmark that is to be run.

    Attributes:
        topic: Whose result is missing.
        steps: One after the other, each the arguments of `python -m`.
        needs: What it cannot do without and does not have; empty where nothing is missing.
    """

    topic: str
    steps: tuple[Arguments, ...]
    needs: str = ""


def missing_jobs(findings: Findings, context: Context, how: Measuring, *, work: Path) -> list[Job]:
    """The benchmarks without a result of this bundle and these images; what is timed comes last.

    Args:
        findings: The results that there are, of the topics that apply.
        context: The bundle and the images.
        how: Folders and options.
        work: A folder for what is made on the way.
    """
    jobs = [*_scored(context, how), *_timed(context, how, work)]
    wanted = [job for job in jobs if job.topic in findings.found]
    return [job for job in wanted if not _has_result(findings, job, context)]


def measure(findings: Findings, context: Context, how: Measuring, *, track: Track) -> list[str]:
    """Runs them.

    Returns:
        What could not be measured and why, in sentences.
    """
    failures = []
    with tempfile.TemporaryDirectory(prefix="edge-sr-report-") as work:
        for job in track(missing_jobs(findings, context, how, work=Path(work)), "benchmarks"):
            if reason := job.needs or next(filter(None, map(_run, job.steps)), ""):
                failures.append(f"Asked for and not measured, {job.topic}: {reason}.")
    return failures


def _scored(context: Context, how: Measuring) -> Iterator[Job]:
    bundle, pairs = context.bundle, ["--pairs", str(how.pairs)]
    options = [*pairs, *_lpips(how), "--degradation", how.degradation]
    for precision in TIMED[: 1 if bundle.manifest.diffusion else None]:  # a ladder has the others
        if precision in bundle.precisions():
            chosen = [*options, "--precision", str(precision)]
            yield Job("quality", (_step("quality", context, chosen, how, suffix=f"-{precision}"),))
    no_lpips = "" if how.lpips else "it needs --lpips"
    yield Job("curve", (_step("curve", context, options, how),), no_lpips)
    no_judge = "" if how.labelled and how.judge else "it needs --labelled and --judge"
    labelled = ["--data", str(how.labelled), "--judge", str(how.judge), "--degradation", how.degradation]
    yield Job("diagnostic", (_step("diagnostic", context, labelled, how),), no_judge)
    yield Job("evidence", (_step("evidence", context, options, how),))
    large = ["--images", str(how.pairs / "hr_256")]
    yield Job("seams", (_step("seams", context, large, how),))


def _timed(context: Context, how: Measuring, work: Path) -> Iterator[Job]:
    bundle, control = context.bundle, how.control or work / "naive"
    missing = [str(p) for p in LADDER if p not in bundle.precisions()]
    options = ["--control", str(control), "--data", str(how.pairs), *_lpips(how)]
    options += ["--degradation", how.degradation]
    made = () if how.control else _naive(context, how, work, control)
    ladder = (*made, _step("ladder", context, options, how))
    yield Job("ladder", ladder, f"the bundle has no {', '.join(missing)} graphs" if missing else "")
    precisions = [p for p in TIMED if p in bundle.precisions()]
    for precision in precisions:
        step = _step("loop", context, ["--precision", str(precision)], how, suffix=f"-{precision}")
        yield Job("loop", (step,))
    yield Job("peers", (_step("peers", context, ["--pairs", str(how.pairs)], how),))
    yield Job("roofline", (_step("roofline", context, [], how),))
    default = ["--precision", str(bundle.manifest.default_precision)]
    yield Job("service", (_step("service", context, default, how),))
    yield Job("bench", (_bench(context, how, precisions),))


def _bench(context: Context, how: Measuring, precisions: Sequence[Precision]) -> Arguments:
    """What a device runs, with no torch; its precisions in turns."""
    options = ["--threads", str(how.threads)] if how.threads else []
    for precision in precisions:
        options += ["--precision", str(precision)]
    out = f"{_out('bench', context, how)}.json"
    return ["edge_sr", "bench", "--bundle", str(how.bundle), *options, *QUICK["bench"].split(), "--json", out]


def _naive(context: Context, how: Measuring, work: Path, control: Path) -> tuple[Arguments, ...]:
    """Makes the control of the small images of the pairs, as a user would who has no others."""
    recording, bundle = str(work / "recording.npz"), ["--bundle", str(how.bundle)]
    number = min(CONTROL_IMAGES, len(context.pairs.names))
    images = ["--images", str(how.pairs), "--count", str(number)]
    method = ["--method", "minmax", "--no-exclusions"]
    return (
        ["calibration", "record", *bundle, *images, "--out", recording],
        ["calibration", "quantize", *bundle, "--recording", recording, *method, "--out", str(control)],
    )


def _lpips(how: Measuring) -> Arguments:
    return ["--lpips", str(how.lpips)] if how.lpips else []


def _step(topic: str, context: Context, options: Arguments, how: Measuring, *, suffix: str = "") -> Arguments:
    out = _out(topic, context, how, suffix=suffix)
    common = ["--bundle", str(how.bundle), "--threads", str(how.threads), "--out", str(out)]
    return ["benchmarks", topic, *common, *options, *QUICK[topic].split()]


def _out(topic: str, context: Context, how: Measuring, *, suffix: str = "") -> Path:
    """A name that no result of another bundle has, nor one that was measured in full."""
    bundle = context.bundle
    return how.results / f"{topic}-{bundle.manifest.name}{suffix}-{bundle.digest[:8]}-quick"


def _has_result(findings: Findings, job: Job, context: Context) -> bool:
    """Whether there is one of these images; of what is measured of each precision, of this one."""
    return any(_is_it(found.record, job, context) for found in findings.found[job.topic])


def _is_it(record: Any, job: Job, context: Context) -> bool:
    if job.topic not in OWN_DATA and getattr(record, "data", None) and not context.covers(record.data):
        return False
    last = job.steps[-1]
    return job.topic not in ("quality", "loop") or str(record.bundle.precision) in last


def _run(arguments: Arguments) -> str:
    """Runs a command from the checkout; why it failed, empty where it did not."""
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode == 0:
        return ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    told = next((line for line in lines if line.startswith("error: ")), lines[-1] if lines else "")
    return told.removeprefix("error: ") or f"exit code {done.returncode}"
