"""The step `warm_start`: the start that all experts of a guide share, trained on all timesteps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ppap.config.preset import Preset
from ppap.config.runs import Learning, banks, has_warm_start, warm_name, warm_steps
from ppap.workflow.experts import purpose, train_and_write
from ppap.workflow.layout import Layout
from ppap.workflow.reads import lesson_keys, student_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class WarmStart(Step):
    """Train the shared start of all methods that learn the same parameters from the same supervision."""

    message = "Training the shared start of {wildcards.guide}'s experts, {wildcards.start}"
    resources = "train_expert"
    priority = 30

    guide: str
    start: str
    """What the experts have in common (`ppap.config.runs.Learning`), such as teacher_adapter."""

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        pairs = ((guide, layout.preset.methods[name]) for guide, name in banks(layout.preset))
        shared = ((guide, method) for guide, method in pairs if has_warm_start(layout.preset, method))
        starts = (cls(guide, Learning.of(method).name) for guide, method in shared)
        return list(dict.fromkeys(starts))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.warm(self.guide, warm_name(self.start))]

    def inputs(self, layout: Layout) -> list[Path]:
        return [layout.model(self.guide), *layout.examples(self.guide, Learning.named(self.start))]

    def keys(self, preset: Preset) -> list[str]:
        method = Learning.named(self.start)
        lesson, student = lesson_keys(preset, self.guide, method), student_keys(preset, self.guide, method.trainable)
        return [*lesson, *student, "experts.warm_share"]

    def run(self, layout: Layout) -> None:
        preset, name = layout.preset, warm_name(self.start)
        method, weights = Learning.named(self.start), layout.model(self.guide)
        train_and_write(
            self,
            layout,
            self.guide,
            name=f"{self.guide}.{name}",
            purpose=purpose(preset, self.guide, name, method, weights),
            timesteps=range(preset.diffusion.timesteps),
            steps=warm_steps(preset, self.guide),
            stored=method.estimates == "stored",
        )
