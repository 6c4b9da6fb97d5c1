"""The judge's decisions as Markdown: the verdict first, then what it rests on."""

from __future__ import annotations

from benchmarks.diagnostic.counts import RATES
from benchmarks.diagnostic.records import DiagnosticResult, PairResult, RowResult, Share
from benchmarks.diagnostic.words import pair_label, percent, points
from benchmarks.ladder.rungs import FP32
from benchmarks.records import Estimate
from benchmarks.report import CAUTION, check_table, footer, markdown_table
from benchmarks.rows import describe

__all__ = ["RATE_LABELS", "diagnostic_report"]

RATE_LABELS = {
    "accuracy": "accuracy",
    "precision": "precision",
    "recall": "recall",
    "specificity": "specificity",
    "false_negative_rate": "missed (FNR)",
    "false_positive_rate": "invented (FPR)",
}
PAIR_NOTES = (
    "- differ: decisions that are not the same, mean over seeds, with Wilson's interval.",
    "- alone right, p: images that one of the two alone decides rightly; McNemar's exact p; one a seed.",
    "- p, Holm: {tested} pairs are tested on the same images, and one such p in twenty is below 0.05 by "
    "chance. So the first seed alone is tested, its p adjusted for all of these tests (Holm 1979); the "
    "rest is there to be read.",
    "- accuracy: its change, mean over seeds, with an interval over patients. An interval of nothing says "
    "that no decision differs here, not that none would.",
    "- least seen: the least difference that so many images show at 5 % with 80 % power, given how often "
    "the two differ.",
    "- one point takes: so many images, given how often the two differ, and at that interval's upper end.",
)
SHOWN_FAILURES = 12  # names a row


def diagnostic_report(result: DiagnosticResult) -> str:
    """All of it; of an invalid judge, only that it is."""
    bundle, made = result.bundle, result.environment
    backend = next((row.runs_on for row in result.rows if row.key == FP32), {})
    lines = [
        f"# Does {bundle.name} {bundle.version} change a diagnosis? {result.data.name}",
        "",
        *[f"- {verdict}" for verdict in result.verdicts],
        "",
        *check_table(result.checks),
        *_judge(result),
        *_rows(result),
        *_told(result),
        *_matrices(result),
        *_pairs(result),
        *_drift(result),
        *_failures(result),
        *_limits(result),
        *footer(made, digest=bundle.digest, backend=backend),
        "",
        CAUTION,
    ]
    return "\n".join(lines) + "\n"


def _judge(result: DiagnosticResult) -> list[str]:
    judge, ill = result.judge, sum(result.is_ill)
    return [
        "## The judge",
        "",
        f"A ResNet-18 of {judge.parameters / 1e6:.1f} M parameters for 256x256 pixels (weights "
        f"{judge.digest[:12]}), trained to tell pneumonia from normal on {judge.train_images} true images of "
        f"{judge.train_patients} patients and chosen by {judge.val_images} of {judge.val_patients} others "
        f"(AUC there {judge.validation['auc']:.3f}); it has seen no enlarged image. It judges {ill} images "
        f"with pneumonia and {len(result.is_ill) - ill} without, of {max(result.patients) + 1} patients whom "
        "neither it nor its choice has seen. It says pneumonia from a probability of one half on.",
        "",
        f"- The images: {result.source}. How the LR images were made: {result.data.degradation}.",
        f"- The super-resolution model was trained on: {result.model_data}. It runs as "
        f"{describe(result.preset)}.",
        "",
    ]


def _rows(result: DiagnosticResult) -> list[str]:
    cells = [[r.label, _estimate(r.auc), *[_share(r.rates[n]) for n in RATES]] for r in result.rows]
    return [
        "## Decisions",
        "",
        f"Means over {len(result.seeds)} seeds where something is drawn. AUC with a bootstrap interval over "
        "patients; rates with Wilson's interval for so many images, whatever the number of seeds.",
        "",
        *markdown_table(["", "AUC", *[RATE_LABELS[name] for name in RATES]], cells),
        "",
        *[f"- {row.label}: {row.note}" for row in result.rows],
        "",
    ]


def _told(result: DiagnosticResult) -> list[str]:
    """How to read the rows of a class-guided model; nothing for any other."""
    if not any(row.key.startswith("wrong-") for row in result.rows):
        return []
    return [
        "Told the true class means: as somebody would tell it who knew the diagnosis already. Told the wrong "
        "one: as somebody who errs, or who tells every image the same. What such a model is told appears in "
        "its output, so that a finding there is no evidence of one in the patient: **guidance by label is no "
        "way to enlarge an image that will be read**, and a better rate under the true class is no gain, "
        "since the label that it takes is what the reading is for.",
        "",
    ]


def _estimate(found: Estimate) -> str:
    return f"{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _share(found: Share | None) -> str:
    return "none" if found is None else f"{found.value:.3f} [{found.low:.3f}, {found.high:.3f}]"


def _matrices(result: DiagnosticResult) -> list[str]:
    cells = [
        [f"{row.label}, seed {seed}" if len(row.matrices) > 1 else row.label, *map(str, counts)]
        for row in result.rows
        for seed, counts in enumerate(_cells(row))
    ]
    head = ["", "ill, found", "ill, missed", "healthy, cleared", "healthy, alarmed"]
    return ["Confusion matrices:", "", *markdown_table(head, cells), ""]


def _cells(row: RowResult) -> list[tuple[int, int, int, int]]:
    return [(m.true_positive, m.false_negative, m.true_negative, m.false_positive) for m in row.matrices]


def _pairs(result: DiagnosticResult) -> list[str]:
    if not result.pairs:
        return []
    tested = sum(pair.holm is not None for pair in result.pairs)
    head = ["second against first", "differ, %", "first alone right", "second alone right", "p", "p, Holm"]
    head += ["accuracy", "least seen", "one point takes"]
    return [
        "## Pairs",
        "",
        *[note.format(tested=tested) for note in PAIR_NOTES],
        "",
        *markdown_table(head, [_pair(pair, result) for pair in result.pairs]),
        "",
    ]


def _pair(pair: PairResult, result: DiagnosticResult) -> list[str]:
    (low, high), share = pair.images_needed, pair.discordance
    return [
        pair_label(pair, result.rows),
        f"{100 * share.value:.1f} [{100 * share.low:.1f}, {100 * share.high:.1f}]",
        ", ".join(map(str, pair.only_first)),
        ", ".join(map(str, pair.only_second)),
        ", ".join(f"{p:.2g}" for p in pair.p),
        "" if pair.holm is None else f"{pair.holm:.2g}",
        points(pair.accuracy_change),
        f"{100 * pair.detectable:.1f} points",
        f"{low:,} to {high:,}",
    ]


def _drift(result: DiagnosticResult) -> list[str]:
    if not result.pairs:
        return []
    cells = [
        [
            pair_label(p, result.rows),
            _two(p.logit_drift),
            _two(p.logit_shift, sign="+"),
            _estimate(p.probability_drift),
        ]
        for p in result.pairs
    ]
    apart = ", ".join(f"{row.label} {row.distance:.4f}" for row in result.rows)
    return [
        "## Drift of the score",
        "",
        "Mean absolute change, mean change of the logit (above 0: looks more ill), means over images and "
        "seeds [95 % interval over patients].",
        "",
        *markdown_table(["", "logit, absolute", "logit", "probability, absolute"], cells),
        "",
        f"Distance from the true images in the judge's last features (one less the cosine): {apart}.",
        "",
    ]


def _two(found: Estimate, sign: str = "") -> str:
    mean, low, high = (f"{value:{sign}.2f}" for value in (found.mean, found.low, found.high))
    return f"{mean} [{low}, {high}]"


def _failures(result: DiagnosticResult) -> list[str]:
    if not result.judge.is_valid:
        return []
    lines = ["## Right on the true image, wrong on the output", ""]
    for row in result.rows[1:]:
        found = [f for f in result.failures if f.key == row.key]
        named = [f"{result.data.images[f.image]}{_which(f.seeds, row)}" for f in found[:SHOWN_FAILURES]]
        missed = sum(result.is_ill[f.image] for f in found)
        more = f", and {len(found) - SHOWN_FAILURES} more" if len(found) > SHOWN_FAILURES else ""
        told = f": {', '.join(named)}{more}" if named else ""
        lines.append(f"- {row.label}, any seed: {len(found)}, of which ill {missed}{told}")
    return [*lines, ""]


def _which(seeds: tuple[int, ...], row: RowResult) -> str:
    if len(row.matrices) == 1:
        return ""
    return f" (seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))})"


def _limits(result: DiagnosticResult) -> list[str]:
    images, patients = len(result.is_ill), max(result.patients) + 1
    share = percent(1 - patients / images)
    return [
        "## What this does not show",
        "",
        "- The judge is one small network and two labels. What it decides from is not known; no radiologist "
        "has looked at these outputs, and no other finding is judged.",
        f"- {images} images of {patients} patients: Wilson's intervals and McNemar's test take images as "
        f"independent, which those that share a patient ({share} of them are not the first) are not.",
        "- A model that was trained on other patients than these, of another age or from another hospital, "
        "may do better or worse on its own: see above what either has seen.",
        *[f"- {notice}" for notice in result.notices],
        "",
    ]
