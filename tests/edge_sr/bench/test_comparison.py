"""Two results: refused where they are not of the same thing, else a ratio, its interval and words."""

from __future__ import annotations

from typing import Any

import pytest

from edge_sr.bench.comparison import FIELDS, SAME, TOLD, compare, compare_rows, is_slower, verdict
from edge_sr.bench.records import Row
from edge_sr.errors import ResultError
from edge_sr.statistics import Ratio
from tests.edge_sr.bench.results import ENVIRONMENT, result_of, row_of


def other_value(name: str) -> Any:
    """Something else than `ENVIRONMENT` has."""
    return ENVIRONMENT[name] + 1 if isinstance(ENVIRONMENT[name], int) else "something else"


@pytest.mark.parametrize("name", SAME)
def test_another_environment_is_refused_by_field_with_both_values_unless_it_may_differ(name: str) -> None:
    one, two = result_of(), result_of(**{name: other_value(name)})
    ours = "unknown" if ENVIRONMENT[name] is None else str(ENVIRONMENT[name])
    with pytest.raises(ResultError) as caught:
        compare(one, two)
    assert f"{name} {ours} against {other_value(name)}" in caught.value.message
    assert f"{name} differs: {ours} against {other_value(name)}" in compare(one, two, across=[name]).notes


@pytest.mark.parametrize(
    ("name", "case", "values"),
    [
        ("precision", {"precision": "int8"}, "fp32 against int8"),
        ("size", {"size": 128}, "64 against 128"),
        ("batch", {"batch": 8}, "4 against 8"),
        ("threads", {"threads": 1}, "2 against 1"),
        ("steps", {"steps": 10}, "20 against 10"),
        ("sampler", {"sampler": "dpmpp_2m"}, "ddim against dpmpp_2m"),
    ],
)
def test_another_case_is_refused_by_field_with_both_values_unless_it_may_differ(
    name: str, case: dict[str, Any], values: str
) -> None:
    one, two = result_of(), result_of([row_of(**case)])
    with pytest.raises(ResultError, match=f"{name} {values}"):
        compare(one, two)
    (pair,) = compare(one, two, across=[name]).pairs
    assert pair.before.case != pair.after.case


def test_another_bundle_is_refused_unless_it_may_differ() -> None:
    one, two = result_of(), result_of(digest="cd" * 32)
    with pytest.raises(ResultError, match=r"bundle cxr-x4 1\.0 \(abab.*\) against cxr-x4 1\.0 \(cdcd"):
        compare(one, two)
    assert compare(one, two, across=["bundle"]).pairs


def test_every_difference_is_told_at_once() -> None:
    two = result_of([row_of(steps=10)], power_mode="MAXN_SUPER", driver="550", digest="cd" * 32)
    with pytest.raises(ResultError) as caught:
        compare(result_of(), two)
    for name in ("power_mode 15W against MAXN_SUPER", "driver 540.4.0 against 550", "bundle", "steps 20"):
        assert name in caught.value.message
    assert "--across" in caught.value.hint


@pytest.mark.parametrize("name", TOLD)
def test_what_may_always_differ_is_told(name: str) -> None:
    (note,) = compare(result_of(), result_of(**{name: other_value(name)})).notes
    assert note == f"{name} differs: {ENVIRONMENT[name]} against {other_value(name)}"
    assert name not in FIELDS


def test_rows_are_compared_by_case_whatever_their_order_and_lone_ones_are_told() -> None:
    one = result_of([row_of(0.4), row_of(0.2, precision="int8"), row_of(0.1, steps=4)])
    two = result_of([row_of(0.2, precision="int8"), row_of(0.4), row_of(0.3, size=128)])
    found = compare(one, two)
    assert [str(pair.before.case.precision) for pair in found.pairs] == ["fp32", "int8"]
    assert all(pair.before.case == pair.after.case for pair in found.pairs)
    assert [note.partition(" has ")[0] for note in found.notes] == ["only the first", "only the second"]


def test_rows_that_differ_only_in_what_may_differ_cannot_be_told_apart() -> None:
    one = result_of([row_of(), row_of(precision="int8")])
    with pytest.raises(ResultError, match="differ in precision alone"):
        compare(one, result_of(), across=["precision"])


def test_values_that_both_have_in_other_combinations_are_no_common_case() -> None:
    one = result_of([row_of(steps=10), row_of(precision="int8")])
    two = result_of([row_of(), row_of(precision="int8", steps=10)])
    with pytest.raises(ResultError, match="no case is in both"):
        compare(one, two)


def test_what_makes_a_result_doubtful_is_told_again() -> None:
    two = result_of().model_copy(update={"notices": ("unsteady",)})
    assert compare(result_of(), two).notes == ("second: unsteady",)


def test_a_result_against_itself_shows_no_difference() -> None:
    (pair,) = compare(result_of(), result_of()).pairs
    latency = pair.metrics[0]
    assert (latency.name, latency.ratio.value) == ("latency", 1.0)
    assert latency.ratio.low <= 1 <= latency.ratio.high
    assert "no difference seen" in verdict(latency.ratio, latency.samples)
    assert [m.name for m in pair.metrics][-1] == "batch 1"


def test_a_slower_loop_is_found_where_it_is() -> None:
    (pair,) = compare(result_of([row_of(0.1)]), result_of([row_of(0.12, seed=1)])).pairs
    metrics = {metric.name: metric for metric in pair.metrics}
    assert metrics["loop"].ratio.value == pytest.approx(1.2, rel=0.02)  # the samples are 1 % apart
    assert metrics["loop"].ratio.low > 1.15
    assert metrics["encode"].ratio == Ratio(1.0, 1.0, 1.0)
    assert (metrics["loop"].before, metrics["loop"].after) == pytest.approx((0.1, 0.12), rel=0.02)


def test_rows_of_one_run_are_compared_round_by_round() -> None:
    """What disturbed a round disturbed both, and says nothing of their ratio."""
    one = row_of(0.1, count=30)
    two = row_of(0.1, count=30)
    two["stages"] = {name: [2 * v for v in values] for name, values in two["stages"].items()}
    before, after = Row.model_validate(one), Row.model_validate(two)
    together, apart = (compare_rows(before, after, are_pairs=p).metrics[0].ratio for p in (True, False))
    assert (together.low, together.high) == pytest.approx((2, 2))
    assert apart.low < 2 < apart.high


@pytest.mark.parametrize(
    ("ratio", "samples", "words"),
    [
        (Ratio(0.5, 0.45, 0.55), 30, "50.0% faster"),
        (Ratio(1.2, 1.1, 1.3), 30, "20.0% slower"),
        (Ratio(1.02, 0.97, 1.06), 30, "no difference seen (up to 6.0% would not be)"),
        (Ratio(0.5, 0.45, 0.55), 9, "too few samples to tell (9, wants 10)"),
    ],
)
def test_a_ratio_is_put_into_words(ratio: Ratio, samples: int, words: str) -> None:
    assert verdict(ratio, samples) == words


def test_a_row_is_slower_only_where_the_whole_interval_is() -> None:
    (pair,) = compare(result_of([row_of(0.1)]), result_of([row_of(0.11, seed=1)])).pairs
    low, high = pair.metrics[0].ratio.low, pair.metrics[0].ratio.high
    assert is_slower(pair, limit=1.0)
    assert not is_slower(pair, limit=(low + high) / 2)  # undecided
    assert not is_slower(pair, limit=1.2)


def test_too_few_samples_do_not_pass_for_fast_enough() -> None:
    (pair,) = compare(result_of([row_of(count=9)]), result_of([row_of(count=40)])).pairs
    with pytest.raises(ResultError, match="9 samples cannot decide"):
        is_slower(pair, limit=1.05)
