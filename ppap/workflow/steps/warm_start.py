"""The step `warm_start`: the start that all experts of a guide share, trained on all timesteps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from ppap.config.preset import Preset
from ppap.config.runs import OWN, Learning, banks, has_warm_start, shared_start, started, warm_name, warm_steps
from ppap.workflow.experts import purpose, train_and_write
from ppap.workflow.layout import Layout
from ppap.workflow.reads import lesson_keys, not_overridden, student_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class WarmStart(Step):
    """Train the shared start of all methods that learn the same parameters from the same supervision."""

    message = "Training the shared start of {wildcards.guide}'s experts, {wildcards.start}"
    resources = "train_expert"
    priority = 30

    guide: str
    start: str
    """The `Learning` that experts share, such as teacher_adapter; of_METHOD where a method has a start of its own."""

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        preset = layout.preset
        having = ((guide, method) for guide, method in banks(preset) if has_warm_start(preset, method))
        return list(dict.fromkeys(cls(guide, shared_start(preset, method)) for guide, method in having))

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.warm(self.guide, warm_name(self.start))]

    def inputs(self, layout: Layout) -> list[Path]:
        _, learning = started(layout.preset, self.start)
        return [layout.model(self.guide), *layout.examples(self.guide, learning)]

    def keys(self, preset: Preset) -> list[str]:
        varied, learning = started(preset, self.start)
        lesson, student = (
            lesson_keys(preset, self.guide, learning),
            student_keys(varied, self.guide, learning.trainable),
        )
        keys, method = [*lesson, *student, "experts.warm_share"], self.start.removeprefix(OWN)
        if method == self.start:
            return keys
        own = [f"methods.{method}.{key}" for key in ("overrides", *Learning._fields)]
        return [*own, *not_overridden(preset, method, keys)]

    def run(self, layout: Layout) -> None:
        (preset, learning), name = started(layout.preset, self.start), warm_name(self.start)
        layout, weights = replace(layout, preset=preset), layout.model(self.guide)
        train_and_write(
            self,
            layout,
            self.guide,
            name=f"{self.guide}.{name}",
            purpose=purpose(preset, self.guide, name, learning, weights),
            timesteps=range(preset.diffusion.timesteps),
            steps=warm_steps(preset, self.guide),
            learning=learning,
        )
