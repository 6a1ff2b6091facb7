"""Jobs of a preset as they are seen from outside: done, stale, running, failed, stopped or still to do."""

from __future__ import annotations

import enum
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ppap.utils import heartbeat
from ppap.utils.heartbeat import Sign
from ppap.workflow.layout import SIGN, Layout
from ppap.workflow.phases import PHASES, phase_of
from ppap.workflow.processes import Process, all_processes
from ppap.workflow.status.records import Records
from ppap.workflow.step import Step

_TAIL = 4096  # bytes of a log in which its last line is


class State(enum.StrEnum):
    done = "done"
    stale = "stale"
    """Its files are there, but older than what they were made of, or made under other values of the preset."""
    running = "running"
    failed = "failed"
    stopped = "stopped"
    """By a signal, or killed: it resumes from its checkpoint, if it has one."""
    to_do = "to do"


class Job(NamedTuple):
    """A job, with what is known of it for good; paths of files are strings, of which there may be many.

    `share` is the part of its process' time that it takes; that has a log and a benchmark for all its jobs, and
    `fellows` are the signs that these give.
    """

    step: Step
    name: str
    phase: str
    outputs: list[str]
    inputs: list[str]
    process: Process
    log: Path
    benchmark: Path
    share: float
    sign: str
    fellows: list[str]


class Seen(NamedTuple):
    """A job at the time of a look, with its sign and the last line of its log where these matter."""

    job: Job
    state: State
    sign: Sign | None = None
    said: str = ""


def jobs_of(layout: Layout) -> list[Job]:
    """All jobs of a preset, phase by phase."""
    found = [
        Job(
            step,
            step.name(layout),
            phase_of(step, layout),
            _named(step.outputs(layout)),
            _named(step.inputs(layout)),
            process,
            layout.log(process.name(layout)),
            layout.benchmark(process.name(layout)),
            process.share(step, layout.preset),
            str(layout.sign(step.name(layout))),
            _named([layout.sign(fellow.name(layout)) for fellow in process.jobs]),
        )
        for process in all_processes(layout)
        for step in process.jobs
    ]
    order = list(PHASES)
    return sorted(found, key=lambda job: order.index(job.phase))


class Looker:
    """Looks at a preset's files, again and again."""

    def __init__(self, layout: Layout) -> None:
        self.layout, self.jobs = layout, jobs_of(layout)
        self._records = Records(layout.preset)
        self._files: dict[str, float] = {}
        self._signs: dict[str, Sign | None] = {}
        self._unsettled: set[str] = set()

    def look(self) -> list[Seen]:
        """Every job as it is now. Nothing is run or asked; each folder is listed once."""
        self._files = dict(_listed(self.layout.root))
        unfinished = (path for path, _ in _listed(self.layout.unfinished))
        self._signs = {
            path: heartbeat.read(Path(path)) for path in unfinished if path.endswith(SIGN)
        }
        self._unsettled = set()
        return [self._settled(self._seen(job)) for job in self.jobs]

    def _seen(self, job: Job) -> Seen:
        sign = self._signs.get(job.sign)
        if sign and sign.alive:
            return Seen(job, State.running, sign)
        if all(path in self._files for path in job.outputs):
            return Seen(job, State.stale if self._is_stale(job) else State.done)
        return self._unmade(job, sign)

    def _settled(self, seen: Seen) -> Seen:
        """Remember the files of jobs that are not done: what was made of them is stale."""
        if seen.state is not State.done:
            self._unsettled.update(seen.job.outputs)
        return seen

    def _is_stale(self, job: Job) -> bool:
        made = [self._files[path] for path in job.outputs if Path(path).suffix]
        newest = max((self._files.get(path, 0.0) for path in job.inputs), default=0.0)
        if not made or newest > min(made) or not self._unsettled.isdisjoint(job.inputs):
            return True
        changed = self._files[job.outputs[0]]
        return self._records.made_otherwise(job.process, job.outputs[0], changed)

    def _unmade(self, job: Job, sign: Sign | None) -> Seen:
        """A job without its files. Snakemake writes a benchmark when a process has succeeded, after its log."""
        if any(sign.alive for fellow in job.fellows if (sign := self._signs.get(fellow))):
            return Seen(job, State.to_do)
        logged = self._files.get(str(job.log), 0.0)
        measured = self._files.get(str(job.benchmark), 0.0)
        said = last_line(job.log) if logged > measured else ""
        if said.startswith("ppap: ") and ": stopped by SIG" not in said:
            return Seen(job, State.failed, None, said)
        if sign is not None or ": stopped by SIG" in said:
            return Seen(job, State.stopped, sign, said)
        return Seen(job, State.failed if said else State.to_do, None, said)


def last_line(log: Path) -> str:
    """The last line of a log that is not empty, without characters that a terminal would obey."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]
    return "".join(filter(str.isprintable, lines[-1])) if lines else ""


def _named(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


def _listed(folder: Path) -> Iterator[tuple[str, float]]:
    """Everything below a folder, and when it was changed; nothing of what vanishes meanwhile."""
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        try:
            yield entry.path, entry.stat().st_mtime
            deeper = entry.is_dir()
        except OSError:
            continue
        if deeper:
            yield from _listed(Path(entry.path))
