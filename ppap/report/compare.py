"""Comparison of two result folders: the differences of their rows, in units of the spread of both.

A row is a sample set: a sampler, a guide and a method; rows without guidance, which all guides share, count
once. Each side has a mean and a standard deviation s over sampling seeds. The unit of a metric's difference is

    sqrt(s_a^2 + s_b^2),   each s at least r |mean|, r the median of s / |mean| over all rows of both sides:

a standard deviation of three seeds is small by luck now and then. A row agrees if no metric differs by more than
LIMIT units. docs/comparing.md says where LIMIT comes from.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ppap.evaluation import measured
from ppap.evaluation.measured import Run
from ppap.report.paper import PRINTED
from ppap.report.titles import METHODS
from ppap.utils.errors import DataError
from ppap.utils.settings import UNGUIDED

# spreads; a rerun of the same code on another processor stays within (docs/comparing.md)
LIMIT = 4.0
ASSUMED = 0.02  # the relative spread, where neither side has several sampling seeds
# the least relative spread: rounding is no difference, not even beside seeds that give all but equal values
LEAST = 0.001


class Value(NamedTuple):
    """A metric of a row: its mean and standard deviation over sampling seeds (None for one seed)."""

    mean: float
    std: float | None


Row = Mapping[str, Value]


@dataclass(frozen=True)
class Results:
    """The rows of a result folder, and how many samples a seed they were computed from."""

    name: str
    rows: Mapping[Run, Row]
    samples: frozenset[int] = frozenset()


class Difference(NamedTuple):
    """The difference of a metric of a row between both sides, in spreads: positive if the first is larger."""

    metric: str
    first: Value
    second: Value
    spreads: float

    @property
    def agrees(self) -> bool:
        return abs(self.spreads) <= LIMIT


@dataclass(frozen=True)
class Comparison:
    """Two result folders, row by row; `missing` are the rows that one side lacks, by its name."""

    first: str
    second: str
    rows: Mapping[Run, list[Difference]]
    missing: Mapping[str, list[Run]]
    notes: list[str]

    @property
    def differing(self) -> dict[Run, list[Difference]]:
        """The rows that differ by more than their error bars allow, with the metrics that do."""
        each = {run: [d for d in row if not d.agrees] for run, row in self.rows.items()}
        return {run: row for run, row in each.items() if row}

    @property
    def largest(self) -> tuple[Run, Difference]:
        every = ((run, difference) for run, row in self.rows.items() for difference in row)
        return max(every, key=lambda pair: abs(pair[1].spreads))

    @property
    def agrees(self) -> bool:
        """True if both sides have the same rows, and all agree."""
        return not (self.differing or any(self.missing.values()))


def read(folder: Path, name: str = "") -> Results:
    """Read the rows in a folder's metrics/; DataError if there are none."""
    rows: dict[Run, Row] = {}
    samples = set()
    for path in sorted(folder.glob("metrics/*/*.json")):
        file = measured.read(path)
        samples.add(file.samples_per_seed)
        for method, metrics in file.methods.items():
            values = {name: Value(m.mean, m.std) for name, m in metrics.items()}
            rows[Run(file.sampler, file.guide, method)] = values
    if not rows:
        raise DataError(f"{folder}: no results (no metrics/SAMPLER/GUIDE.json)")
    return Results(name or str(folder), rows, frozenset(samples))


def compare(first: Results, second: Results) -> Comparison:
    """Compare two result folders; DataError if they have no row in common."""
    shared = sorted(first.rows.keys() & second.rows.keys(), key=_order)
    if not shared:
        raise DataError(f"{first.name} and {second.name} have no row in common")
    relative, notes = relative_spreads(first, second), []
    if not relative:
        notes.append(f"One sampling seed on both sides: a spread of {ASSUMED:.0%} is assumed.")
    if first.samples != second.samples:
        ours, theirs = (", ".join(f"{n:,}" for n in sorted(side.samples)) for side in (first, second))
        notes.append(f"{ours} samples a seed in {first.name}, {theirs} in {second.name}: FID depends on their number.")
    rows = {run: differences(first.rows[run], second.rows[run], relative) for run in shared}
    missing = {
        side.name: sorted(other.rows.keys() - side.rows.keys(), key=_order)
        for side, other in ((first, second), (second, first))
    }
    return Comparison(first.name, second.name, rows, missing, notes)


def relative_spreads(*sides: Results) -> dict[str, float]:
    """Compute by metric the median of std / mean over all rows, LEAST at least; nothing if no row has a spread."""
    relative: dict[str, list[float]] = {}
    for row in (row for side in sides for row in side.rows.values()):
        for metric, value in row.items():
            if value.std is not None and value.mean:
                relative.setdefault(metric, []).append(value.std / abs(value.mean))
    return {metric: max(statistics.median(values), LEAST) for metric, values in relative.items()}


def differences(first: Row, second: Row, relative: Mapping[str, float]) -> list[Difference]:
    """Compute metric by metric the difference of two rows, given the relative spreads of the results they are from."""

    def difference(metric: str) -> Difference:
        one, other = first[metric], second[metric]
        unit = math.hypot(*(max(v.std or 0, relative.get(metric, ASSUMED) * abs(v.mean)) for v in (one, other)))
        return Difference(metric, one, other, (one.mean - other.mean) / unit if unit else 0.0)

    known = [*PRINTED, *sorted(first.keys() - {*PRINTED})]
    return [difference(metric) for metric in known if metric in first and metric in second]


def _order(run: Run) -> tuple[object, ...]:
    """Sort guide by guide, sampler by sampler, the methods as in the tables."""
    methods = list(METHODS)
    place = methods.index(run.method) if run.method in methods else len(methods)
    return run.guide != UNGUIDED, run.guide, run.sampler, place, run.method
