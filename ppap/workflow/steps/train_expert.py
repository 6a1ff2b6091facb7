"""The step `train_expert`: noise-aware experts, each for its own range of timesteps."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ppap.config.preset import Preset
from ppap.config.rows import OF_EXPERTS
from ppap.config.runs import Learning, banks, expert_steps, has_warm_start, shared_start, warm_name
from ppap.experts.expert import Expert, Purpose, check_experts, read_expert
from ppap.utils.errors import ConfigError
from ppap.workflow.experts import purpose_of, train_and_write
from ppap.workflow.layout import Layout
from ppap.workflow.reads import lesson_keys, not_overridden, student_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class TrainExpert(Step):
    """Train one expert of a guide and method; they are numbered from 1, which has the least noise."""

    message = "Training expert {wildcards.expert} of {wildcards.guide}, {wildcards.method}"
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
        examples = layout.examples(self.guide, Learning.of(layout.preset.methods[self.method]))
        return [layout.model(self.guide), *examples, *layout.initialisation(self.guide, self.method, self.expert)]

    def keys(self, preset: Preset) -> list[str]:
        method = preset.methods[self.method]
        shared = [
            *lesson_keys(preset, self.guide, Learning.of(method)),
            *student_keys(preset.trained_for(self.method), self.guide, str(method.trainable)),
            *("experts.allocation", "experts.warm_start"),
            *(["experts.warm_share"] if has_warm_start(preset, self.method) else []),
        ]
        own = (f"methods.{self.method}.{key}" for key in ("experts_of", *OF_EXPERTS))
        return [*own, *not_overridden(preset, self.method, shared)]

    def run(self, layout: Layout) -> None:
        """Train the expert, from its initialisation if it has one; write what it changes of the guide.

        ConfigError if the preset's method has no such expert to train.
        """
        layout = layout.trained_for(self.method)
        preset, timesteps = layout.preset, self._timesteps(layout.preset)
        purpose = purpose_of(preset, self.guide, self.method, layout.model(self.guide))
        _, steps = expert_steps(preset, self.guide, self.method)
        if steps < 1:
            raise ConfigError(f"guides.{self.guide}.experts.steps: too few for each expert to have one")
        train_and_write(
            self,
            layout,
            self.guide,
            name=f"{self.guide}.{self.method}.{self.expert}",
            purpose=purpose,
            timesteps=timesteps,
            steps=steps,
            initialisation=self._initialisation(layout, purpose),
            learning=Learning.of(preset.methods[self.method]),
            trained_at=preset.methods[self.method].trained_at,
        )

    def _timesteps(self, preset: Preset) -> range:
        """Return the timesteps that the expert owns; ConfigError if there is none such to train."""
        spec = preset.methods[self.method]
        if spec.experts is None:
            raise ConfigError(f"methods.{self.method}: has no experts to train")
        if spec.experts_of:
            raise ConfigError(f"methods.{self.method}: its experts are those of {spec.experts_of}")
        if spec.imported:
            raise ConfigError(f"methods.{self.method}: its experts are imported, not trained")
        ranges = preset.ranges(self.method)
        if not 1 <= self.expert <= len(ranges):
            there = f"there are {len(ranges)}, counted from 1"
            raise ConfigError(f"methods.{self.method}: no expert '{self.expert}': {there}")
        return ranges[self.expert - 1]

    def _initialisation(self, layout: Layout, purpose: Purpose) -> Expert | None:
        """Read what the expert starts from: what all of the method share, or the expert before it."""
        preset = layout.preset
        for path in layout.initialisation(self.guide, self.method, self.expert):
            expert = read_expert(path)
            if has_warm_start(preset, self.method):
                name = warm_name(shared_start(preset, self.method))
                shared = purpose.model_copy(update={"method": name})
                check_experts([expert], shared, [range(preset.diffusion.timesteps)])
            else:
                check_experts([expert], purpose, [preset.ranges(self.method)[self.expert - 2]])
            return expert
        return None
