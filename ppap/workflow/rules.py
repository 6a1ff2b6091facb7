"""Snakemake's rules, as the steps define them."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from snakemake.io import directory, report

from ppap.workflow.layout import Layout
from ppap.workflow.processes import Process, by_rule
from ppap.workflow.step import Step
from ppap.workflow.steps import STEPS

Wildcards = Any


def all_rules(layout: Layout, preset_file: str) -> Iterator[Rule]:
    """One for each step; where jobs of a step share processes, one for each of its processes."""
    for step in STEPS:
        for name, found in by_rule(step, layout).items():
            if name == step.rule():
                yield StepRule(step, layout, preset_file)
            else:
                yield ProcessRule(found[0], name, layout, preset_file)


class Rule(ABC):
    """Each attribute is what the directive of its name takes."""

    name: str
    message: str
    output: list[Any]
    log: str
    benchmark: str
    params: dict[str, Any]
    wildcard_constraints: dict[str, str]

    def __init__(self, step: type[Step], layout: Layout, preset_file: str) -> None:
        self.step, self.layout, self.preset_file = step, layout, preset_file
        self.priority, self.retries, self.local = step.priority, step.retries, step.local
        asked = getattr(layout.preset.resources, step.resources)
        self.threads = asked.threads
        self.resources = {
            "mem_mb": _each_attempt(asked.mem_mb),
            "runtime": _each_attempt(asked.runtime),
            "gpu": int(step.gpu and layout.preset.runtime.device != "cpu"),
        }

    @abstractmethod
    def input(self, wildcards: Wildcards) -> list[str]: ...

    def _place(self, name: str) -> None:
        """Where what the process says, and what is measured of it, lie."""
        self.log, self.benchmark = str(self.layout.log(name)), str(self.layout.benchmark(name))

    def _output(self, path: Path, labels: Any, subcategory: Any) -> Any:
        shown = self.step.report
        if not path.suffix:
            return directory(str(path))
        if shown is None or path.suffix != shown.suffix:
            return str(path)
        return report(
            str(path),
            caption=f"../report/{shown.caption}",
            category=shown.category,
            subcategory=subcategory,
            labels=labels,
        )


class StepRule(Rule):
    """Of all jobs of a step, which have a process each."""

    def __init__(self, step: type[Step], layout: Layout, preset_file: str) -> None:
        super().__init__(step, layout, preset_file)
        self.name, self.message = step.rule(), step.message
        pattern = step.pattern()
        self._place(pattern.name(layout))
        labels = self._of(lambda job: job.labels()), self._of(lambda job: job.subcategory())
        self.output = [self._output(path, *labels) for path in pattern.outputs(layout)]
        self.params = {
            "command": step.command(),
            "preset": preset_file,
            "arguments": self._of(lambda job: job.arguments()),
            "depends": self._of(lambda job: job.fingerprint(layout.preset)),
        }
        self.wildcard_constraints = self._names() | {"folder": "models|judges"}

    def input(self, wildcards: Wildcards) -> list[str]:
        return [str(path) for path in self._job(wildcards).inputs(self.layout)]

    def _names(self) -> dict[str, str]:
        """A number where a field is one, else one of the names that the preset's jobs have there."""
        jobs = list(self.step.jobs(self.layout))
        return {
            field.name: r"\d+"
            if field.type == "int"
            else _any_of(getattr(j, field.name) for j in jobs)
            for field in fields(self.step)
            if field.name in self.step.wildcards()
        }

    def _job(self, wildcards: Wildcards) -> Step:
        named = {name: getattr(wildcards, name) for name in self.step.wildcards()}
        numbers = {field.name for field in fields(self.step) if field.type == "int"}
        values = {name: int(v) if name in numbers else v for name, v in named.items()}
        return self.step.of(self.layout, **values)

    def _of(self, what: Callable[[Step], Any]) -> Callable[[Wildcards], Any]:
        return lambda wildcards: what(self._job(wildcards))


class ProcessRule(Rule):
    """Of one process, which does several jobs of a step."""

    def __init__(self, process: Process, name: str, layout: Layout, preset_file: str) -> None:
        first, *others = process.jobs
        super().__init__(type(first), layout, preset_file)
        self.process, self.name = process, name
        message = first.message.format(wildcards=first)
        self.message = f"{message} (and {len(others)} more)" if others else message
        self._place(process.name(layout))
        self.output = [
            self._output(path, job.labels(), job.subcategory())
            for job in process.jobs
            for path in job.outputs(layout)
        ]
        self.params = {
            "command": "do",
            "preset": preset_file,
            "arguments": [job.name(layout) for job in process.jobs],
            "depends": process.fingerprint(layout.preset),
        }
        self.wildcard_constraints = {}

    def input(self, wildcards: Wildcards) -> list[str]:
        return [str(path) for path in self.process.inputs(self.layout)]


def _each_attempt(amount: int) -> Callable[[Wildcards, int], int]:
    """A process that failed asks for more when it is tried again."""
    return lambda wildcards, attempt: amount * attempt


def _any_of(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in dict.fromkeys(names)) or "nothing"
