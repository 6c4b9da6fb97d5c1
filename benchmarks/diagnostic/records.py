"""What was found of the judge's decisions, as data.

History of the format:
    edge-sr/diagnostic  1  first version
"""

from __future__ import annotations

from typing import Literal

from benchmarks.ladder.records import Source
from benchmarks.records import Check, DataFacts, Environment, Estimate, Record
from edge_sr.manifest import Preset

__all__ = [
    "DiagnosticResult",
    "Failure",
    "JudgeFacts",
    "Matrix",
    "PairResult",
    "RowResult",
    "Share",
]

Numbers = tuple[float, ...]
Counts = tuple[int, ...]


class JudgeFacts(Record):
    """The classifier, and whether it may judge.

    Attributes:
        digest: SHA-256 over its weights.
        parameters: How many.
        train_images, train_patients, val_images, val_patients: What it was trained on and chosen by.
        validation: Its figures there.
        auc: On the true test images; the interval is over patients.
        limit: The AUC from which on it may judge.
        is_valid: Whether it may.
    """

    digest: str
    parameters: int
    train_images: int
    train_patients: int
    val_images: int
    val_patients: int
    validation: dict[str, float]
    auc: Estimate
    limit: float
    is_valid: bool


class Matrix(Record):
    """Decisions of one seed, ill being positive."""

    true_positive: int
    false_positive: int
    true_negative: int
    false_negative: int


class Share(Record):
    """A rate, and its 95 % Wilson interval."""

    value: float
    low: float
    high: float


class RowResult(Record):
    """One kind of image under the judge.

    Attributes:
        key, label, note: What it is called, in files and in tables, and what it is.
        runs_on: What made the images, where a backend did.
        logits: One list a seed (one alone where nothing is drawn) of one value an image; above 0 it says
            pneumonia.
        matrices: One a seed.
        rates: Of the matrices' mean over seeds; null where there is nothing to be a share of.
        auc: The mean over seeds; the interval is over patients.
        auc_change: Less that of the true images.
        distance: From the true images in the judge's last features, mean over images and seeds.
    """

    key: str
    label: str
    note: str
    runs_on: dict[str, str]
    logits: tuple[Numbers, ...]
    matrices: tuple[Matrix, ...]
    rates: dict[str, Share | None]
    auc: Estimate
    auc_change: Estimate
    distance: float


class PairResult(Record):
    """Two rows, decision by decision; what is drawn, with the same seeds.

    Attributes:
        first, second: Keys of the rows; for another seed, the same.
        only_first, only_second: Images that one of the two alone decides rightly, one count a seed.
        p: McNemar's, exact, one a seed.
        holm: That of the first seed, adjusted for all pairs of the table; null outside of the family.
        accuracy_change: Of the second less the first, mean over seeds; the interval is over patients.
        discordance: Share of the images that exactly one decides rightly, mean over seeds, with Wilson's
            interval.
        images_needed: To see a difference of one point with 80 % power, at that discordance; and at the
            interval's upper end.
        detectable: The least difference that these images show with 80 % power.
        logit_drift, probability_drift: Mean absolute change, mean over seeds.
        logit_shift: Mean change: above 0, the second looks more ill.
    """

    first: str
    second: str
    only_first: Counts
    only_second: Counts
    p: Numbers
    holm: float | None
    accuracy_change: Estimate
    discordance: Share
    images_needed: tuple[int, int]
    detectable: float
    logit_drift: Estimate
    logit_shift: Estimate
    probability_drift: Estimate


class Failure(Record):
    """An image that is decided rightly where it is true, and wrongly as a row has it.

    Attributes:
        image: Its place among the images.
        key: The row's.
        seeds: With which it is.
    """

    image: int
    key: str
    seeds: Counts


class DiagnosticResult(Record):
    """Everything about the decisions on one set of pairs.

    Attributes:
        source: Where the images come from, in words.
        model_data: What the model was trained on, as its bundle has it.
        is_ill: 1 or 0, one an image.
        patients: Whose image it is, numbered from 0.
        rows, pairs, failures, verdicts: Empty but for the true images where the judge is not valid.
    """

    kind: Literal["edge-sr/diagnostic"] = "edge-sr/diagnostic"
    schema_version: Literal[1] = 1
    environment: Environment
    bundle: Source
    data: DataFacts
    source: str
    model_data: str
    is_ill: Counts
    patients: Counts
    judge: JudgeFacts
    preset: Preset
    seeds: Counts
    bootstrap: dict[str, int]
    rows: tuple[RowResult, ...]
    pairs: tuple[PairResult, ...]
    failures: tuple[Failure, ...]
    checks: tuple[Check, ...]
    verdicts: tuple[str, ...]
    notices: tuple[str, ...]

    def row(self, key: str) -> RowResult | None:
        """The row with this key; None where there is none."""
        return next((row for row in self.rows if row.key == key), None)
