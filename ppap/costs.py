"""What each job of a preset computes and writes: FLOPs counted on its networks, bytes from their shapes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ppap import adapters, datasets, flops, models
from ppap.config import Config, Training
from ppap.guides import Guide, features_and_logits
from ppap.jobs import Job
from ppap.runs import WARM, Layout, Run, expert_steps, group, table_runs
from ppap.schedules import Schedule

_TARGET = 8  # bytes of a target class
_FLOAT = 4


class Cost(NamedTuple):
    """FLOPs on the accelerator, and bytes on disk (None: they depend on more than shapes)."""

    flops: int
    bytes: int | None


@dataclass(frozen=True)
class NetworkCost:
    """Of one image: FLOPs of a call, and of a call with the gradient for the image; numbers in the answer."""

    forward: int
    with_gradient: int
    answer: int
    stored: int


class Costs:
    """The costs of a preset's jobs; every network is counted once."""

    def __init__(self, config: Config) -> None:
        self.config, self.layout = config, Layout(config)
        data = config.dataset
        self.image = (data.channels, data.image_size, data.image_size)
        self.pixels = data.channels * data.image_size**2
        self._guides: dict[str, NetworkCost] = {}
        self._experts: dict[tuple[str, str], tuple[int, int]] = {}

    def of(self, job: Job) -> Cost:
        """The cost of a job that `jobs.all_jobs` lists."""
        rules: dict[str, Callable[..., Cost]] = {
            "pretrain": self._pretrain,
            "generate": self._generate,
            "label": self._label,
            "warm_start": self._train_expert,
            "train_expert": self._train_expert,
            "sample": self._sample,
            "reference_features": self._reference_features,
            "features": self._features,
            "metrics": lambda **_: Cost(0, None),
            "table": lambda **_: Cost(0, None),
            "figure": self._figure,
        }
        return rules[job.rule](**job.wildcards)

    # -- rules -----------------------------------------------------------------------------------

    def _pretrain(self, model: str) -> Cost:
        config = self.config
        if model == models.DIFFUSION:
            network = flops.on_meta(lambda: models.new_diffusion(config))
            call, training = _at_some_timestep(network), config.diffusion.train
        else:
            guide = flops.on_meta(lambda: models.new_guide(config, model)).train()
            spec = config.evaluator if model == models.EVALUATOR else config.guides[model]
            network, call, training = guide.network, guide, spec.train
        step = self._step(call, network, training)
        return Cost(training.steps * step, flops.stored_bytes(network))

    def _generate(self, shard: int) -> Cost:
        count = self.layout.clean_sizes[shard]
        steps = self._steps(self.config.clean_images.sampler)
        return Cost(count * steps * self.diffusion.forward, count * self.pixels)

    def _label(self, guide: str) -> Cost:
        count = self.config.clean_images.count * (2 if self.config.dataset.mirror else 1)
        network = self.guide(guide)
        number = _FLOAT if self.config.runtime.precision == "float32" else 2
        return Cost(count * network.forward, count * network.answer * number)

    def _train_expert(self, guide: str, method: str, part: str) -> Cost:
        spec = self.config.methods[method]
        warm, each = expert_steps(self.config, guide, spec)
        step, stored = self._expert(guide, spec.trainable or "all")
        return Cost((warm if part == WARM else each) * step, stored)

    def _sample(self, run: Run, shard: int) -> Cost:
        count = self.layout.sample_sizes[shard]
        return Cost(count * self._sampled_image(run), count * (self.pixels + _TARGET))

    def _reference_features(self) -> Cost:
        return self._extracted(len(datasets.load(self.config.dataset, "train").images))

    def _features(self, sampler: str, guide: str) -> Cost:
        """The features of all methods, and the archives of their samples."""
        count = self.config.sampling.total * len(group(self.config, sampler, guide))
        extracted = self._extracted(count)
        archives = count * (self.pixels + _TARGET)
        return Cost(extracted.flops, (extracted.bytes or 0) + count * _TARGET + archives)

    def _figure(self, figure: str) -> Cost:
        """The confidence curves are drawn from samples of their own; the other figures cost next to nothing."""
        if figure != "confidence":
            return Cost(0, None)
        config, drawn = self.config, ("off_the_shelf", "experts")
        runs = [r for r in table_runs(config, "main") if r.sampler == config.figures.sampler]
        guided = [r for r in runs if config.methods[r.method].guidance in drawn]
        return Cost(config.figures.samples * sum(map(self._sampled_image, guided)), None)

    # -- networks --------------------------------------------------------------------------------

    @cached_property
    def diffusion(self) -> NetworkCost:
        network = flops.on_meta(lambda: models.new_diffusion(self.config))
        return self._network(_at_some_timestep(network), network)

    @cached_property
    def evaluator(self) -> NetworkCost:
        """Its answer is the features and the logits."""
        guide = flops.on_meta(lambda: models.new_guide(self.config, models.EVALUATOR))

        def call(images: Tensor) -> Tensor:
            return torch.cat(features_and_logits(guide.network, guide.prepare(images)), dim=1)

        return self._network(call, guide)

    def guide(self, name: str) -> NetworkCost:
        if name not in self._guides:
            guide = flops.on_meta(lambda: models.new_guide(self.config, name))
            self._guides[name] = self._network(guide, guide)
        return self._guides[name]

    def _network(self, call: flops.Call, network: nn.Module) -> NetworkCost:
        network.eval().requires_grad_(False)
        shape = (1, *self.image)
        return NetworkCost(
            flops.forward(call, shape),
            flops.with_input_gradient(call, shape),
            call(torch.empty(shape, device="meta")).numel(),
            flops.stored_bytes(network),
        )

    def _expert(self, guide: str, trainable: str) -> tuple[int, int]:
        """FLOPs of a training step, and bytes of the finished expert."""
        if (guide, trainable) not in self._experts:
            spec = self.config.guides[guide]
            student: Guide = flops.on_meta(lambda: models.new_guide(self.config, guide)).train()
            student.network.requires_grad_(True)
            if trainable == "adapter":
                flops.on_meta(lambda: adapters.attach(student.network, spec.adapter))
            step = self._step(student, student.network, spec.experts)
            statistics = sum(b.numel() for b in student.network.buffers() if b.is_floating_point())
            changed = adapters.trainable_parameters(student.network) + statistics
            self._experts[guide, trainable] = step, _FLOAT * changed
        return self._experts[guide, trainable]

    def _step(self, call: flops.Call, network: nn.Module, training: Training) -> int:
        return flops.with_weight_gradient(call, (training.batch_size, *self.image), network)

    def _sampled_image(self, run: Run) -> int:
        """FLOPs of one sample of a run."""
        kind = self.config.methods[run.method].guidance
        if kind == "none":
            return self._steps(run.sampler) * self.diffusion.forward
        unet = self.diffusion.with_gradient if kind == "x0_gradient" else self.diffusion.forward
        return self._steps(run.sampler) * (unet + self.guide(run.guide).with_gradient)

    def _extracted(self, count: int) -> Cost:
        return Cost(count * self.evaluator.forward, count * self.evaluator.answer * _FLOAT)

    def _steps(self, sampler: str) -> int:
        chosen, diffusion = self.config.samplers[sampler], self.config.diffusion
        return len(
            Schedule.respaced(
                diffusion.noise_schedule, diffusion.timesteps, chosen.kind, chosen.steps
            )
        )


def _at_some_timestep(network: nn.Module) -> flops.Call:
    return lambda x: network(x, torch.zeros(len(x), device=x.device))
