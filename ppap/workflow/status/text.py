"""The status of a preset in lines for people, coloured where the console has colours."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from rich.text import Text
from tabulate import tabulate

from ppap.utils.progress import duration
from ppap.workflow.status.jobs import State
from ppap.workflow.status.status import Here, Row, Status
from ppap.workflow.status.times import Source

LONGEST = 10
"""Jobs of one state that are listed."""

_COLOURS = {
    State.failed: "red",
    State.running: "cyan",
    State.stopped: "yellow",
    State.stale: "yellow",
}
"""A phase has the colour of the first state that any of its jobs is in."""


def as_text(status: Status) -> Text:
    """A table of the phases, the time left, and the jobs that run, failed, or were stopped."""
    lines = [
        Text(f"Preset {status.preset}: {summary(status)}", "bold"),
        Text(),
        *_table(status),
        *_listed(status, State.running, "Running:", _running),
        *_listed(status, State.failed, "Failed:", _failed),
        *_listed(status, State.stopped, "Stopped, and will resume:", _stopped),
        *_stale(status),
    ]
    return Text("\n").join(lines)


def as_lines(status: Status) -> Text:
    """A line for the preset and one for each running job, for a log."""
    clock = time.strftime("%H:%M:%S", time.localtime(status.at))
    jobs = [f"{clock}   {_running(job)}" for job in status.of(State.running)]
    return Text("\n".join([f"{clock} {status.preset}: {summary(status)}", *jobs]))


def summary(status: Status) -> str:
    """Such as "3 of 8 jobs done, 2 running, 3 to do; about 5 min of work left, 3 min with 2 jobs at a time"."""
    row = status.total
    counts = [f"{row.jobs[State.done]:,} of {row.total:,} jobs done"]
    counts += [f"{n:,} {state}" for state, n in row.jobs.items() if n and state is not State.done]
    return "; ".join(filter(None, (", ".join(counts), _left(status))))


def _left(status: Status) -> str:
    row = status.total
    if status.is_done:
        return ""
    unfinished = sum(row.sources.values())
    if row.unknown == unfinished:
        return "nothing like them was measured, so no time can be told"
    told = f"{'at least' if row.unknown else 'about'} {duration(row.seconds)} of work left"
    if status.wait is not None and status.at_a_time > 1:
        told += f", {duration(status.wait)} with {status.at_a_time} jobs at a time as now"
    return f"{told} ({row.unknown:,} jobs of unknown time)" if row.unknown else told


def _table(status: Status) -> Iterator[Text]:
    rows = [*status.rows, status.total]
    used = [s for s in State if s in (State.done, State.to_do) or status.total.jobs[s]]
    headers = ["phase", "jobs", *used, "work left", "estimated from"]
    cells = [
        [row.phase, f"{row.total:,}", *(_count(row, state) for state in used), _work(row), _sources(row)]
        for row in rows
    ]  # fmt: skip
    align = ["left", *["right"] * (len(headers) - 2), "left"]
    table = tabulate(cells, headers, "simple", disable_numparse=True, colalign=align)
    head, rule, *lines = table.splitlines()
    yield from (Text(head, "bold"), Text(rule))
    for line, row in zip(lines, rows, strict=True):
        yield Text(line.rstrip(), _colour(row))


def _count(row: Row, state: State) -> str:
    return f"{row.jobs[state]:,}" if row.jobs[state] or state is State.done else ""


def _colour(row: Row) -> str:
    if row.jobs[State.done] == row.total:
        return "green"
    return next((colour for state, colour in _COLOURS.items() if row.jobs[state]), "")


def _work(row: Row) -> str:
    if not row.sources or row.unknown == sum(row.sources.values()):
        return ""
    return duration(row.seconds) + ("+" if row.unknown else "")


def _sources(row: Row) -> str:
    if len(row.sources) == 1:
        return next(iter(row.sources))
    return ", ".join(
        f"{row.sources[source]:,} {source}" for source in Source if source in row.sources
    )


def _listed(
    status: Status, state: State, title: str, line: Callable[[Here], str]
) -> Iterator[Text]:
    jobs = status.of(state)
    if not jobs:
        return
    yield from (Text(), Text(title, _COLOURS[state]))
    yield from (Text(f"  {line(job)}") for job in jobs[:LONGEST])
    if len(jobs) > LONGEST:
        yield Text(f"  ... and {len(jobs) - LONGEST:,} more (--json has them all)")


def _running(job: Here) -> str:
    sign = job.seen.sign
    assert sign is not None
    since = (
        "" if sign.since is None else f"at work for {duration(max(0, time.time() - sign.since))}"
    )
    about = ", ".join(filter(None, (_clean(sign.where), since)))
    told = _clean(sign.progress)
    return f"{job.seen.job.name}: {told} ({about})" if told else f"{job.seen.job.name}: {about}"


def _failed(job: Here) -> str:
    return f"{job.seen.job.name}: {job.seen.said.removeprefix('ppap: ')}\n    {job.seen.job.log}"


def _stopped(job: Here) -> str:
    sign = job.seen.sign
    if sign is None:
        return f"{job.seen.job.name}: {job.seen.said.removeprefix('ppap: ')}"
    at = f" at {_clean(sign.progress)}" if sign.progress else ""
    return f"{job.seen.job.name}: killed{at} ({_clean(sign.where)})"


def _stale(status: Status) -> Iterator[Text]:
    if status.total.jobs[State.stale]:
        yield from (
            Text(),
            Text(
                "Stale: files older than what they were made of, or made under other values of the preset. "
                "`snakemake -n` says for sure.",
                _COLOURS[State.stale],
            ),
        )


def _clean(text: str) -> str:
    return "".join(filter(str.isprintable, text))
