"""The time that jobs will take, told by jobs that Snakemake has measured."""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from statistics import mean
from typing import NamedTuple

from ppap.utils.errors import DataError
from ppap.workflow.plan import measured
from ppap.workflow.status.jobs import Job, Seen, State
from ppap.workflow.step import Step


class Source(enum.StrEnum):
    """Whence an estimate comes."""

    progress = "own progress"
    measured = "measured before"
    alike = "like measured jobs"
    """Jobs with the same names: other shards, experts, parts."""
    rough = "rough"
    """Jobs of the same step that share the first of their names: another method, say."""
    counted = "counted"
    unknown = "unknown"


class Left(NamedTuple):
    """Seconds to the end of a job, None if nothing tells, and whence they are known."""

    seconds: float | None
    source: Source


class Times:
    """Estimates from a preset's benchmark files; from counted `seconds` by name for jobs that nothing measured is like."""

    def __init__(self, counted: Mapping[str, float]) -> None:
        self.counted = counted
        self._read: dict[Path, tuple[float, float | None]] = {}
        self._measured: dict[str, float] = {}
        self._groups: dict[tuple[str, ...], list[float]] = {}

    def renew(self, jobs: Iterable[Job]) -> None:
        """Read the benchmarks that are new."""
        self._measured, self._groups = {}, {}
        for job in jobs:
            of_process = self._seconds(job.benchmark)
            if of_process is None:
                continue
            taken = of_process * job.share
            self._measured[job.name] = taken
            for group in _groups(job.step):
                self._groups.setdefault(group, []).append(taken)

    def left(self, seen: Seen) -> Left:
        """To the end of a job; nothing where it is done. What a checkpoint holds of a job is not deducted."""
        if seen.state is State.done:
            return Left(0.0, Source.measured)
        whole = self._whole(seen.job)
        sign = seen.sign
        if seen.state is not State.running or sign is None:
            return whole
        now = time.time()
        if sign.left is not None and sign.said is not None:
            return Left(max(0.0, sign.left - (now - sign.said)), Source.progress)
        if whole.seconds is None or sign.since is None:
            return whole
        return Left(max(0.0, whole.seconds - (now - sign.since)), whole.source)

    def _whole(self, job: Job) -> Left:
        if job.name in self._measured:
            return Left(self._measured[job.name], Source.measured)
        for number, group in enumerate(_groups(job.step)):
            if group in self._groups:
                return Left(mean(self._groups[group]), Source.rough if number else Source.alike)
        if job.name in self.counted:
            return Left(self.counted[job.name], Source.counted)
        return Left(None, Source.unknown)

    def _seconds(self, path: Path) -> float | None:
        """What a benchmark file says; a damaged one is as good as none."""
        try:
            changed = path.stat().st_mtime
        except OSError:
            return None
        if self._read.get(path, (None, None))[0] != changed:
            found = None
            with contextlib.suppress(DataError, OSError):
                found = measured.seconds(path)
            self._read[path] = changed, found
        return self._read[path][1]


def _groups(step: Step) -> list[tuple[str, ...]]:
    """What jobs alike are called, and then less and less alike: their step, with fewer and fewer of their names.

    Numbers are left out. The first name stays, since a step's jobs with another one have nothing in common: a
    sampler takes ten times as many steps as another.
    """
    numbers = {field.name for field in fields(step) if field.type == "int"}
    names = [str(getattr(step, name)) for name in step.wildcards() if name not in numbers]
    counts = range(len(names), min(1, len(names)) - 1, -1)
    return [(step.rule(), *names[:count]) for count in counts]
