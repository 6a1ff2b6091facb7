"""Statistics over replicates: beside numbers computed by hand, and on simulated runs of known truth."""

import math

import numpy as np
import pytest

from ppap.evaluation.replicates import Interval, paired_interval, summary
from ppap.utils.errors import DataError

FIRST = {0: {11: 5.0, 12: 7.0}, 1: {21: 4.0, 22: 6.0}, 2: {31: 9.0, 32: 11.0}}
SECOND = {0: {11: 4.0, 12: 4.0}, 1: {21: 1.0, 22: 3.0}, 2: {31: 5.0, 32: 7.0}}


def test_a_summary_counts_each_replicate_once() -> None:
    """Means over seeds: 6, 5, 10, with variance 7; the variance over seeds is 2 in each replicate."""
    assert summary(FIRST) == pytest.approx((7, math.sqrt(7 / 3), math.sqrt(2)))
    assert summary({0: {11: 3.0}}) == (3.0, None, None)
    mean, error, over_seeds = summary({0: {11: 5.0, 12: 7.0}})
    assert (mean, error) == (6.0, None) and over_seeds == pytest.approx(math.sqrt(2))


def test_a_paired_difference_is_the_one_computed_by_hand() -> None:
    """Differences over seeds: (1 + 3) / 2, 3, 4, with variance 1; t = 4.302653 with two degrees of freedom."""
    half = 4.302653 / math.sqrt(3)
    assert paired_interval(FIRST, SECOND) == pytest.approx((3, 3 - half, 3 + half), rel=1e-6)
    mean, low, high = paired_interval(SECOND, FIRST)
    assert Interval(-mean, -high, -low) == pytest.approx(paired_interval(FIRST, SECOND))


def simulated(generator: np.random.Generator, truth: float) -> tuple[dict, dict]:
    """Two rows of five replicates with three seeds: networks of their own, and noise of networks and samples in common."""
    rows: tuple[dict, dict] = ({}, {})
    common = generator.normal(0, 3, (5, 1)) + generator.normal(0, 1, (5, 3))
    for row, mean in zip(rows, (truth, 0.0), strict=True):
        values = mean + common + generator.normal(0, 0.5, (5, 1)) + generator.normal(0, 0.5, (5, 3))
        row |= {r: dict(enumerate(map(float, of_seeds))) for r, of_seeds in enumerate(values)}
    return rows


def test_intervals_of_simulated_runs_hold_the_truth_as_often_as_they_say_and_pairing_makes_them_narrow() -> None:
    generator, runs = np.random.default_rng(0), 2000
    intervals = [paired_interval(*simulated(generator, 1.5)) for _ in range(runs)]
    held = np.mean([low <= 1.5 <= high for _, low, high in intervals])
    assert held == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / runs))
    assert np.median([high - low for _, low, high in intervals]) < 3  # unpaired: about 9


def test_the_standard_error_of_simulated_runs_is_the_deviation_of_their_means() -> None:
    generator = np.random.default_rng(1)
    found = [summary(simulated(generator, 0)[0]) for _ in range(2000)]
    variance = 3**2 + 0.5**2 + (1 + 0.5**2) / 3
    assert np.mean([s.error**2 for s in found]) == pytest.approx(variance / 5, rel=0.1)
    assert np.std([s.mean for s in found]) == pytest.approx(math.sqrt(variance / 5), rel=0.1)
    assert np.mean([s.over_seeds**2 for s in found]) == pytest.approx(1.25, rel=0.1)


@pytest.mark.parametrize("other", [{0: {11: 4.0, 12: 4.0}}, SECOND | {2: {31: 5.0, 99: 7.0}}, SECOND | {2: {31: 5.0}}])
def test_rows_that_are_no_pairs_are_refused(other: dict) -> None:
    with pytest.raises(DataError, match="rows of other replicates or sampling seeds"):
        paired_interval(FIRST, other)


def test_one_replicate_has_no_interval_and_none_no_mean() -> None:
    with pytest.raises(DataError, match="1 replicate"):
        paired_interval({0: FIRST[0]}, {0: SECOND[0]})
    with pytest.raises(DataError, match="no values"):
        summary({})
