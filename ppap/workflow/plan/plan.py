"""The plan of a preset before it is run: jobs, hours, disk, and the longest chain of jobs."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from tabulate import tabulate

from ppap.workflow.layout import Layout
from ppap.workflow.plan import gpus
from ppap.workflow.plan.costs import Costs
from ppap.workflow.stages import STAGES, stage_of
from ppap.workflow.step import Step
from ppap.workflow.steps import jobs_of_all_runs

log = logging.getLogger(__name__)
Hours = float | None
"""Hours; None where they are not known."""


class Task(NamedTuple):
    """A job, its run, its stage, its hours, whether they were measured, and the bytes that it writes."""

    run: Layout
    job: Step
    stage: str
    hours: Hours
    measured: bool
    bytes: int | None


@dataclass(frozen=True)
class Stage:
    """One row of the plan. None is what is not known."""

    stage: str
    jobs: dict[str, int]
    hours: Hours
    longest_job_hours: Hours
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
    chain: list[tuple[str, Hours]]

    @property
    def chain_hours(self) -> Hours:
        return _total([hours for _, hours in self.chain])


def plan(layout: Layout, gpu_name: str, efficiency: float) -> Plan:
    """Plan a preset on a named GPU, at a share `efficiency` of its peak rate.

    Measured times come from Snakemake's benchmark files. A preset for the CPU has no others.
    """
    gpu, runtime = gpus.find(gpu_name), layout.preset.runtime
    precision = gpu.precision(runtime.precision)
    if runtime.device == "cpu":
        rate, unit, basis = None, "CPU", "measured times only"
    else:
        rate, unit = gpu.peak(precision) * efficiency, "GPU"
        basis = f"{gpu.name}, {precision}, {efficiency:.0%} of {gpu.tflops[precision]:g} TFLOP/s ({gpu.source})"
    log.info("building the networks of %s, to count their operations ...", layout.preset.name)
    costs = Costs(layout)
    tasks = [_task(run, job, costs, rate) for run, job in jobs_of_all_runs(layout)]
    sorted_tasks = {stage: [task for task in tasks if task.stage == stage] for stage in STAGES}
    rows = [_row(stage, each, bool(rate)) for stage, each in sorted_tasks.items() if each]
    return Plan(layout.preset.name, unit, basis, rows, _row("total", tasks, bool(rate)), _chain(tasks))


def _task(run: Layout, job: Step, costs: Costs, rate: float | None) -> Task:
    """Say what a job takes: as measured, else at `rate` operations a second; without a rate only nothing is known.

    A replicate's job that has not run yet takes what the same job of the preset's own run took.
    """
    cost = costs.of(job)
    measured = job.seconds(run) or job.seconds(costs.layout)
    counted = cost.flops / rate if rate else None if cost.flops else 0.0
    taken = counted if measured is None else measured
    hours = None if taken is None else taken / 3600
    return Task(run, job, stage_of(job, run), hours, measured is not None, cost.bytes)


def _row(name: str, tasks: list[Task], counted: bool) -> Stage:
    hours = [t.hours for t in tasks]
    sizes = [t.bytes for t in tasks if t.bytes is not None]
    measured, rest = sum(t.measured for t in tasks), "counted" if counted else "unknown"
    if measured == len(tasks):
        source = "measured"
    else:
        source = f"{measured} measured, {len(tasks) - measured} {rest}" if measured else rest
    return Stage(
        name,
        dict(Counter(t.job.rule() for t in tasks)),
        _total([t.hours for t in tasks if t.job.gpu or not counted]),
        None if None in hours else max(h for h in hours if h is not None),
        sum(sizes) if sizes else None,
        source,
    )


def _chain(tasks: list[Task]) -> list[tuple[str, Hours]]:
    """List stages and hours of the jobs that follow one another for the longest time."""
    ends: dict[Path, tuple[float, list[Task]]] = {}
    longest: tuple[float, list[Task]] = (0.0, [])
    for task in tasks:  # each after the ones it waits for
        before = (ends[path] for path in task.job.inputs(task.run) if path in ends)  # others are imported
        start, chain = max(before, key=lambda end: (end[0], len(end[1])), default=(0.0, []))
        end = (start + (task.hours or 0.0), [*chain, task])
        ends |= dict.fromkeys(task.job.outputs(task.run), end)
        longest = max(longest, end, key=lambda end: (end[0], len(end[1])))
    stages = dict.fromkeys(t.stage for t in longest[1])
    return [(stage, _total([t.hours for t in longest[1] if t.stage == stage])) for stage in stages]


def _total(hours: list[Hours]) -> Hours:
    known = [h for h in hours if h is not None]
    return sum(known) if len(known) == len(hours) else None


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the plan for programs; hours and bytes that are not known are null."""
    chain = [{"stage": stage, "hours": hours} for stage, hours in plan.chain]
    return asdict(plan) | {"chain": chain, "chain_hours": plan.chain_hours}


def as_text(plan: Plan) -> str:
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


def _hours(hours: Hours) -> str:
    if hours is None:
        return ""
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2f}"


def _size(size: int | None) -> str:
    if size is None:
        return ""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
