"""Processes: a job each, or several short ones of a step that follow one another, where a preset says so.

A process starts with its imports, which take longer than a small job. What it made before it was killed is made anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ppap.config import Preset
from ppap.workflow.keys import fingerprint
from ppap.workflow.layout import Layout
from ppap.workflow.phases import phase_of
from ppap.workflow.step import Step
from ppap.workflow.steps import STEPS


@dataclass(frozen=True)
class Process:
    """Jobs of one step, in their order; log, benchmark and fingerprint are of them all."""

    jobs: tuple[Step, ...]

    def name(self, layout: Layout) -> str:
        """That of its first job."""
        return self.jobs[0].name(layout)

    def outputs(self, layout: Layout) -> list[Path]:
        return [path for job in self.jobs for path in job.outputs(layout)]

    def inputs(self, layout: Layout) -> list[Path]:
        """What its jobs read, but for what one of them makes for another."""
        made = set(self.outputs(layout))
        read = dict.fromkeys(path for job in self.jobs for path in job.inputs(layout))
        return [path for path in read if path not in made]

    def keys(self, preset: Preset) -> list[str]:
        return [key for job in self.jobs for key in job.keys(preset)]

    def fingerprint(self, preset: Preset) -> str:
        return fingerprint(preset, self.keys(preset))

    def share(self, job: Step, preset: Preset) -> float:
        """The part of its time that one of its jobs takes, by their lengths."""
        if len(self.jobs) == 1:
            return 1.0
        return job.length(preset) / sum(each.length(preset) for each in self.jobs)


def processes(step: type[Step], layout: Layout) -> Iterator[Process]:
    """The jobs of a step in their order, those that have a process together as one."""
    most = getattr(layout.preset.resources, step.resources).together
    if most == 1:
        yield from (Process((job,)) for job in step.jobs(layout))
        return

    def common(job: Step) -> tuple[str, ...]:
        return phase_of(job, layout), *job.fellows()

    for _, fellows in itertools.groupby(step.jobs(layout), common):
        yield from _filled(list(fellows), most, layout.preset)


def all_processes(layout: Layout) -> Iterator[Process]:
    """Every process of the preset, each after the ones that it waits for."""
    for step in STEPS:
        yield from processes(step, layout)


def by_rule(step: type[Step], layout: Layout) -> dict[str, list[Process]]:
    """The step's processes by their rule: one for the step, or one for each process if any of them does several jobs."""
    found = list(processes(step, layout))
    if all(len(process.jobs) == 1 for process in found):
        return {step.rule(): found}
    return {f"{step.rule()}_{number}": [one] for number, one in enumerate(found, start=1)}


def rules_of(phase: str, layout: Layout) -> list[str]:
    """The rules of a phase's processes, and the rule that asks for all its files, which has the phase's name."""
    named = (pair for step in STEPS for pair in by_rule(step, layout).items())
    found = [
        rule
        for rule, each in named
        if any(phase_of(process.jobs[0], layout) == phase for process in each)
    ]
    return [*found, phase]


def _filled(jobs: list[Step], most: int, preset: Preset) -> Iterator[Process]:
    """Jobs one after the other, no longer than this together, unless one alone is."""
    chosen: list[Step] = []
    total = 0
    for job in jobs:
        length = job.length(preset)
        if chosen and total + length > most:
            yield Process(tuple(chosen))
            chosen, total = [], 0
        chosen.append(job)
        total += length
    yield Process(tuple(chosen))
