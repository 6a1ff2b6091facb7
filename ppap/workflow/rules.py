"""Snakemake's rules, as the steps define them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from snakemake.io import directory, report

from ppap.workflow.layout import Layout
from ppap.workflow.step import Step
from ppap.workflow.steps import STEPS, runs_of

Wildcards = Any


def all_rules(layout: Layout, preset_file: str) -> Iterator[Rule]:
    """Make one rule for each step; of all replicates, if there are several."""
    return (Rule(step, runs_of(step, layout), preset_file) for step in STEPS)


class Rule:
    """The rule of a step; each attribute is what the directive of its name takes."""

    def __init__(self, step: type[Step], runs: list[Layout], preset_file: str) -> None:
        self.step, self.runs = step, {run.preset.name: run for run in runs}
        layout = runs[0]
        if len(runs) > 1:
            layout = replace(layout, preset=layout.preset.model_copy(update={"preset": "{run}"}))
        self.name, self.local = step.rule(), step.local
        self.message = step.message if len(runs) == 1 else f"{step.message}, {{wildcards.run}}"
        self.priority, self.retries = step.priority, step.retries
        asked = getattr(layout.preset.resources, step.resources or step.rule())
        self.threads = asked.threads
        self.resources = {
            "mem_mb": _each_attempt(asked.mem_mb),
            "runtime": _each_attempt(asked.runtime),
            "gpu": int(step.gpu and layout.preset.runtime.device != "cpu"),
        }
        pattern = step.pattern()
        self.output = [self._output(path) for path in pattern.outputs(layout)]
        self.log = str(layout.log(pattern.name(layout)))
        self.benchmark = str(layout.benchmark(pattern.name(layout)))
        self._numbers = {field.name for field in fields(step) if field.type == "int"}
        self.params, self.wildcard_constraints = self._params(preset_file), self._constraints()

    def _params(self, preset_file: str) -> dict[str, Any]:
        return {
            "command": self._command,
            "preset": Path(preset_file),  # Snakemake keeps no record of a Path: another one makes no job stale
            "arguments": self._of(lambda job: job.arguments()),
            "depends": lambda wildcards: self._job(wildcards).fingerprint(self._run(wildcards).preset),
        }

    def _constraints(self) -> dict[str, str]:
        jobs = list(self.step.jobs(next(iter(self.runs.values()))))
        named = {name: self._constraint(name, jobs) for name in self.step.wildcards()}
        return named | {"folder": "models|judges", "run": "|".join(map(re.escape, self.runs))}

    def input(self, wildcards: Wildcards) -> list[str]:
        """List what the job with these wildcards reads."""
        return [str(path) for path in self._job(wildcards).inputs(self._run(wildcards))]

    def _command(self, wildcards: Wildcards) -> str | list[str]:
        command, run = self.name.replace("_", "-"), self._run(wildcards).preset
        return ["--replicate", str(run.seed), command] if run.is_replicate else command

    def _run(self, wildcards: Wildcards) -> Layout:
        """Return the layout of the replicate that a job is of."""
        return self.runs[wildcards.get("run", next(iter(self.runs)))]

    def _output(self, path: Path) -> Any:
        if not path.suffix:
            return directory(str(path))
        if path.suffix != self.step.report:
            return str(path)
        return report(
            str(path),
            caption=f"../report/{self.name}.rst",
            category=f"{self.name.capitalize()}s",
            subcategory=self._of(lambda job: job.subcategory()),
            labels=self._of(lambda job: {self.name: " ".join(job.arguments()).replace("_", " ")}),
        )

    def _constraint(self, name: str, jobs: list[Step]) -> str:
        """Constrain a wildcard to numbers where its field is one, else to the names that the preset's jobs have there."""
        if name in self._numbers:
            return r"\d+"
        return "|".join(dict.fromkeys(re.escape(getattr(job, name)) for job in jobs)) or "nothing"

    def _job(self, wildcards: Wildcards) -> Step:
        named = {name: getattr(wildcards, name) for name in self.step.wildcards()}
        return self.step.of(self._run(wildcards), **{k: int(v) if k in self._numbers else v for k, v in named.items()})

    def _of(self, what: Callable[[Step], Any]) -> Callable[[Wildcards], Any]:
        return lambda wildcards: what(self._job(wildcards))


def _each_attempt(amount: int) -> Callable[[Wildcards, int], int]:
    """Ask for more each time that a failed job is tried again."""
    return lambda wildcards, attempt: amount * attempt
