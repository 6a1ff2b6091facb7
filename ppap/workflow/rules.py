"""Snakemake's rules, as the steps define them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

from snakemake.io import directory, report

from ppap.graph.layout import Layout
from ppap.graph.step import Step

Wildcards = Any
OfJob = Callable[[Wildcards], Any]


class Rule:
    """A step as a rule: each attribute is what the directive of its name takes."""

    def __init__(self, step: type[Step], layout: Layout, preset_file: str) -> None:
        self.step, self.layout = step, layout
        self.name = step.rule()
        self.message, self.priority, self.retries = step.message, step.priority, step.retries
        pattern = step.pattern()
        self.output = [self._output(path) for path in pattern.outputs(layout)]
        self.log = str(layout.log(pattern.name(layout)))
        self.benchmark = str(layout.benchmark(pattern.name(layout)))
        asked = getattr(layout.preset.resources, step.resources)
        self.threads = asked.threads
        self.resources = {
            "mem_mb": _each_attempt(asked.mem_mb),
            "runtime": _each_attempt(asked.runtime),
            "gpu": int(step.gpu and layout.preset.runtime.device != "cpu"),
        }
        self.params = {
            "step": step.command(),
            "preset": preset_file,
            "arguments": self._of(lambda job: job.arguments()),
            "depends": self._of(lambda job: job.fingerprint(layout.preset)),
        }

    def input(self, wildcards: Wildcards) -> list[str]:
        return [str(path) for path in self._job(wildcards).inputs(self.layout)]

    @property
    def wildcard_constraints(self) -> dict[str, str]:
        """A number where a field is one, else one of the names that the preset's jobs have there."""
        jobs = list(self.step.jobs(self.layout))
        found = {
            field.name: r"\d+"
            if field.type == "int"
            else _any_of(getattr(j, field.name) for j in jobs)
            for field in fields(self.step)
            if field.name in self.step.wildcards()
        }
        return found | {"folder": "models|judges"}

    def _job(self, wildcards: Wildcards) -> Step:
        named = {name: getattr(wildcards, name) for name in self.step.wildcards()}
        numbers = {field.name for field in fields(self.step) if field.type == "int"}
        values = {name: int(v) if name in numbers else v for name, v in named.items()}
        return self.step.of(self.layout, **values)

    def _of(self, what: Callable[[Step], Any]) -> OfJob:
        return lambda wildcards: what(self._job(wildcards))

    def _output(self, path: Path) -> Any:
        shown = self.step.report
        if not path.suffix:
            return directory(str(path))
        if shown is None or path.suffix != shown.suffix:
            return str(path)
        return report(
            str(path),
            caption=f"../report/{shown.caption}",
            category=shown.category,
            subcategory=self._of(lambda job: job.subcategory()),
            labels=self._of(lambda job: job.labels()),
        )


def _each_attempt(amount: int) -> Callable[[Wildcards, int], int]:
    """A job that failed asks for more when it is tried again."""
    return lambda wildcards, attempt: amount * attempt


def _any_of(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in dict.fromkeys(names)) or "nothing"
