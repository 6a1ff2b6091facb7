"""The step `train_expert`: noise-aware experts, each for its own range of timesteps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from ppap.config import Preset
from ppap.config.runs import banks, expert_steps, has_warm_start
from ppap.workflow.layout import Layout
from ppap.workflow.reads.experts import lesson_keys, student_keys
from ppap.workflow.step import Step

if TYPE_CHECKING:
    from ppap.workflow.plan.costs import Cost, Costs


@dataclass(frozen=True)
class TrainExpert(Step):
    """Of one expert of a guide and method; they are numbered from 1, which has the least noise."""

    message = "Training expert {wildcards.expert} of {wildcards.guide}, {wildcards.method}"
    resources = "train_expert"
    priority = 20

    guide: str
    method: str
    expert: int

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        methods = layout.preset.methods
        return [
            cls(guide, name, expert)
            for guide, name in banks(layout.preset)
            for expert in range(1, (methods[name].experts or 0) + 1)
        ]

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.expert(self.guide, self.method, self.expert)]

    def inputs(self, layout: Layout) -> list[Path]:
        supervision = layout.preset.methods[self.method].supervision
        lesson = layout.lesson(self.guide, str(supervision))
        start = layout.start(self.guide, self.method, self.expert)
        return [layout.model(self.guide), *lesson, *([start] if start else [])]

    def keys(self, preset: Preset) -> list[str]:
        method = preset.methods[self.method]
        own = ("guidance", "imported", "supervision", "experts", "trainable")
        share = ["experts.warm_share"] if has_warm_start(preset, method) else []
        return [
            *(f"methods.{self.method}.{key}" for key in own),
            *lesson_keys(preset, self.guide, str(method.supervision)),
            *student_keys(preset, self.guide, str(method.trainable)),
            *("experts.allocation", "experts.warm_start"),
            *share,
        ]

    def cost(self, costs: Costs) -> Cost:
        return costs.expert(self.guide, self.method)

    def fellows(self) -> tuple[str, ...]:
        return self.guide, self.method

    def length(self, preset: Preset) -> int:
        _, steps = expert_steps(preset, self.guide, preset.methods[self.method])
        return max(1, steps)

    def run(self, layout: Layout) -> None:
        from ppap.workflow.expert_training import train_expert

        mark = self.fingerprint(layout.preset)
        train_expert(layout, self.guide, self.method, self.expert, self.checkpoint(layout), mark)
