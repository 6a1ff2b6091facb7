"""Error bars that include training: means, standard errors and paired intervals over replicates.

A replicate is a whole run with seeds of its own: every network is trained anew, every image drawn anew. Replicates are
independent. Sampling seeds within one are not, for they share its networks: so a replicate counts once, by its mean over
sampling seeds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean, stdev, variance
from typing import NamedTuple

from scipy.special import stdtrit

from ppap.utils.errors import DataError

Values = Mapping[int, Mapping[int, float]]
"""A metric of one row: by the number of the replicate, then by sampling seed, of which each replicate has as many."""


class Summary(NamedTuple):
    """A mean, its standard error over replicates, and the standard deviation over the sampling seeds of one replicate.

    None is what one replicate, or one sampling seed, does not tell.
    """

    mean: float
    error: float | None
    over_seeds: float | None


class Interval(NamedTuple):
    """A mean, and the bounds of its confidence interval."""

    mean: float
    low: float
    high: float


def summary(values: Values) -> Summary:
    """Summarise a metric of a row; the deviation over seeds is pooled: the root of the replicates' mean variance.

    DataError if there are no values.
    """
    parts = [list(by_seed.values()) for by_seed in values.values()]
    if not parts or not all(parts):
        raise DataError("no values of any replicate")
    means = [fmean(part) for part in parts]
    several = all(len(part) > 1 for part in parts)
    error = stdev(means) / math.sqrt(len(means)) if len(means) > 1 else None
    return Summary(fmean(means), error, math.sqrt(fmean(map(variance, parts))) if several else None)


def paired_interval(first: Values, second: Values, confidence: float = 0.95) -> Interval:
    """Return the mean of first minus second, and Student's interval of this confidence over R replicates.

    Rows of one replicate share networks and noise. So differences are taken seed by seed, and averaged over the seeds of
    replicate r: these d_r are independent, and near to normal, as means of sets of images are. The interval is
    mean(d) ± t sqrt(var(d) / R), where t is the quantile of Student's distribution with R - 1 degrees of freedom.
    DataError unless both rows have the same replicates, two at least, with the same sampling seeds.
    """
    if {r: by_seed.keys() for r, by_seed in first.items()} != {r: by_seed.keys() for r, by_seed in second.items()}:
        raise DataError("rows of other replicates or sampling seeds: differences are taken within one preset")
    if len(first) < 2:
        raise DataError(f"{len(first)} replicate: a difference has an interval from two on")
    differences = [fmean(first[r][seed] - second[r][seed] for seed in first[r]) for r in first]
    mean, error = fmean(differences), stdev(differences) / math.sqrt(len(differences))
    half = stdtrit(len(differences) - 1, (1 + confidence) / 2) * error
    return Interval(mean, mean - half, mean + half)
