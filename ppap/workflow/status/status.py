"""The status of a preset: how many jobs of each phase are done, and the time that is left."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ppap.utils.heartbeat import Sign
from ppap.workflow.layout import Layout
from ppap.workflow.phases import PHASES
from ppap.workflow.status.jobs import Looker, Seen, State
from ppap.workflow.status.times import Left, Source, Times


class Here(NamedTuple):
    """A job at the time of a look, and what is left of it."""

    seen: Seen
    left: Left


@dataclass(frozen=True)
class Row:
    """Of a phase, or of all: jobs in each state, seconds of work left as far as known, jobs of unknown time."""

    phase: str
    jobs: dict[State, int]
    seconds: float
    sources: dict[Source, int]

    @property
    def total(self) -> int:
        return sum(self.jobs.values())

    @property
    def unknown(self) -> int:
        return self.sources.get(Source.unknown, 0)


@dataclass(frozen=True)
class Status:
    """`rows` are of the phases; `jobs` are those that are not done."""

    preset: str
    at: float
    rows: list[Row]
    total: Row
    jobs: list[Here]

    def of(self, state: State) -> list[Here]:
        return [job for job in self.jobs if job.seen.state is state]

    @property
    def is_done(self) -> bool:
        return not self.jobs

    @property
    def at_a_time(self) -> int:
        """How many jobs run now."""
        return self.total.jobs[State.running]

    @property
    def wait(self) -> float | None:
        """Seconds to the end if as many jobs go on running at a time as do now; None if none does.

        No less than the longest job takes. That jobs wait for one another is not reckoned with.
        """
        if not self.at_a_time:
            return None
        longest = max(job.left.seconds or 0.0 for job in self.jobs)
        return max(self.total.seconds / self.at_a_time, longest)


class Watcher:
    """Tells the status of a preset, again and again.

    `counted` are seconds of jobs by name, for those that nothing measured tells the time of.
    """

    def __init__(self, layout: Layout, counted: Mapping[str, float] | None = None) -> None:
        self.layout = layout
        self._looker, self._times = Looker(layout), Times(counted or {})

    def status(self) -> Status:
        seen = self._looker.look()
        self._times.renew(self._looker.jobs)
        here = [Here(each, self._times.left(each)) for each in seen]
        rows = [_row(phase, [h for h in here if h.seen.job.phase == phase]) for phase in PHASES]
        rest = [each for each in here if each.seen.state is not State.done]
        total = _row("total", here)
        shown = [row for row in rows if row.total]
        return Status(self.layout.preset.name, time.time(), shown, total, rest)


def _row(name: str, here: list[Here]) -> Row:
    left = [each.left for each in here if each.seen.state is not State.done]
    states = Counter(each.seen.state for each in here)
    return Row(
        name,
        {state: states[state] for state in State},
        sum(each.seconds for each in left if each.seconds is not None),
        dict(Counter(each.source for each in left)),
    )


def as_json(status: Status) -> dict[str, Any]:
    """The status for programs. Seconds are null where nothing is known; times are UNIX times."""
    return {
        "preset": status.preset,
        "at": status.at,
        "done": status.is_done,
        "jobs_at_a_time": status.at_a_time,
        "seconds_to_wait": status.wait,
        "phases": [_row_as_json(row) for row in status.rows],
        "total": _row_as_json(status.total),
        "jobs": [_job_as_json(job) for job in status.jobs],
    }


def _row_as_json(row: Row) -> dict[str, Any]:
    counts = {state.name: count for state, count in row.jobs.items()}
    sources = {source.name: count for source, count in row.sources.items()}
    return {
        "phase": row.phase,
        "jobs": row.total,
        **counts,
        "seconds_left": row.seconds,
        "jobs_of_unknown_time": row.unknown,
        "sources": sources,
    }


def _job_as_json(here: Here) -> dict[str, Any]:
    seen, log = here.seen, here.seen.job.log
    sign = seen.sign or Sign(False)
    return {
        "job": seen.job.name,
        "step": seen.job.step.rule(),
        "phase": seen.job.phase,
        "state": seen.state.name,
        "seconds_left": here.left.seconds,
        "source": here.left.source.name,
        "log": str(log) if log.exists() else None,
        "said": seen.said or None,
        "where": sign.where or None,
        "since": sign.since,
        "progress": sign.progress or None,
    }
