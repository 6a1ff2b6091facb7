"""The plan of a preset before it is run: jobs, hours, disk, and the longest chain of jobs."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from ppap.workflow.layout import Layout
from ppap.workflow.measured import seconds
from ppap.workflow.plan import gpus
from ppap.workflow.plan.costs import Costs
from ppap.workflow.stages import STAGES, stage_of
from ppap.workflow.step import Step
from ppap.workflow.steps import all_jobs

log = logging.getLogger(__name__)


class Task(NamedTuple):
    """A job with its stage, its files, its hours (None: unknown), whether they were measured, and what it writes."""

    job: Step
    stage: str
    inputs: list[Path]
    outputs: list[Path]
    hours: float | None
    measured: bool
    bytes: int | None


@dataclass(frozen=True)
class Stage:
    """One row of the plan. None is what is not known."""

    stage: str
    jobs: dict[str, int]
    hours: float | None
    longest_job_hours: float | None
    bytes: int | None
    source: str


@dataclass(frozen=True)
class Plan:
    """`unit` is GPU or CPU. `chain` is the stages and hours that a user with any number of GPUs waits for."""

    preset: str
    unit: str
    basis: str
    stages: list[Stage]
    total: Stage
    chain: list[tuple[str, float | None]]

    @property
    def chain_hours(self) -> float | None:
        return _total([hours for _, hours in self.chain])


def plan(layout: Layout, gpu_name: str, efficiency: float) -> Plan:
    """Plan a preset on a named GPU, at a share `efficiency` of its peak rate.

    Measured times come from Snakemake's benchmark files. A preset for the CPU has no others.
    """
    gpu = gpus.find(gpu_name)
    precision = gpus.precision(gpu, layout.preset.runtime.precision)
    rate = _rate(layout, gpu, efficiency)
    basis = f"{gpu.name}, {precision}, {efficiency:.0%} of {gpu.tflops.get(precision, 0):g} TFLOP/s"
    tasks = _tasks(layout, rate)
    rows = [
        _row(stage, [t for t in tasks if t.stage == stage], bool(rate))
        for stage in STAGES
        if any(t.stage == stage for t in tasks)
    ]
    unit, shown = ("GPU", f"{basis} ({gpu.source})") if rate else ("CPU", "measured times only")
    total = _row("total", tasks, bool(rate))
    return Plan(layout.preset.name, unit, shown, rows, total, _chain(tasks))


def _rate(layout: Layout, gpu: gpus.GPU, efficiency: float) -> float | None:
    """Return operations a second; None of a preset for the CPU."""
    runtime = layout.preset.runtime
    if runtime.device == "cpu":
        return None
    return gpus.peak(gpu, gpus.precision(gpu, runtime.precision)) * efficiency


def _tasks(layout: Layout, rate: float | None) -> list[Task]:
    """List every job, at so many operations a second; None: of which nothing is known but what was measured."""
    log.info("building the networks of %s, to count their operations ...", layout.preset.name)
    costs = Costs(layout)
    return [_task(job, costs, layout, rate) for job in all_jobs(layout)]


def _task(job: Step, costs: Costs, layout: Layout, rate: float | None) -> Task:
    cost, measured = job.cost(costs), seconds(layout.benchmark(job.name(layout)))
    taken = measured if measured is not None else cost.flops / rate if rate else None
    hours = None if taken is None else taken / 3600
    files = job.inputs(layout), job.outputs(layout)
    return Task(job, stage_of(job, layout), *files, hours, measured is not None, cost.bytes)


def _row(name: str, tasks: list[Task], counted: bool) -> Stage:
    hours = [t.hours for t in tasks]
    held = [t.hours for t in tasks if not (counted and not t.job.gpu)]
    longest = None if None in hours else max(h for h in hours if h is not None)
    sizes = [t.bytes for t in tasks if t.bytes is not None]
    return Stage(
        name,
        dict(Counter(t.job.rule() for t in tasks)),
        _total(held),
        longest,
        sum(sizes) if sizes else None,
        _source(sum(t.measured for t in tasks), len(tasks), counted),
    )


def _source(measured: int, jobs: int, counted: bool) -> str:
    if measured == jobs:
        return "measured"
    rest = "counted" if counted else "unknown"
    return f"{measured} measured, {jobs - measured} {rest}" if measured else rest


def _chain(tasks: list[Task]) -> list[tuple[str, float | None]]:
    """List stages and hours of the jobs that follow one another for the longest time."""
    ends: dict[Path, tuple[float, list[Task]]] = {}
    longest: tuple[float, list[Task]] = (0.0, [])
    for task in tasks:  # each after the ones it waits for
        before = (ends[path] for path in task.inputs if path in ends)  # others are imported
        start, chain = max(before, key=lambda end: (end[0], len(end[1])), default=(0.0, []))
        end = (start + (task.hours or 0.0), [*chain, task])
        ends |= dict.fromkeys(task.outputs, end)
        longest = max(longest, end, key=lambda end: (end[0], len(end[1])))
    stages = dict.fromkeys(t.stage for t in longest[1])
    return [(p, _total([t.hours for t in longest[1] if t.stage == p])) for p in stages]


def _total(hours: list[float | None]) -> float | None:
    known = [h for h in hours if h is not None]
    return sum(known) if len(known) == len(hours) else None


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan for programs; hours and bytes that are not known are null."""
    chain = [{"stage": stage, "hours": hours} for stage, hours in plan.chain]
    return asdict(plan) | {"chain": chain, "chain_hours": plan.chain_hours}


def as_text(plan: Plan) -> str:
    """Return the plan for people."""
    headers = ["stage", "jobs", f"{plan.unit} hours", "longest job (h)", "disk", "hours are"]
    rows = [
        [row.stage, f"{sum(row.jobs.values()):,}", _hours(row.hours), _hours(row.longest_job_hours),
         _size(row.bytes), row.source]
        for row in (*plan.stages, plan.total)
    ]  # fmt: skip
    align = ["left", *["right"] * 4, "left"]
    table = tabulate(rows, headers, "simple", disable_numparse=True, colalign=align)
    links = " > ".join(f"{stage} {_hours(hours)}".strip() for stage, hours in plan.chain)
    wait = f" = {_hours(plan.chain_hours)} hours" if plan.chain_hours is not None else ""
    return f"Preset {plan.preset}: {plan.basis}\n\n{table}\n\nLongest chain: {links}{wait}"


def _hours(hours: float | None) -> str:
    if hours is None:
        return ""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2f}"


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
