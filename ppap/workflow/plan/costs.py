"""Costs of a preset's jobs: FLOPs counted on its networks, bytes from their shapes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ppap.config.preset import Preset
from ppap.config.runs import Learning, Run, expert_steps, started, warm_steps
from ppap.config.sections import GuideConfig
from ppap.data.datasets import reference_images
from ppap.data.shards import LATENT
from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import Network
from ppap.diffusion.guidance import evaluations_of
from ppap.evaluation.evaluator import Extractor
from ppap.evaluation.features import describe_statistics
from ppap.experts import lora as adapters
from ppap.guides.guide import Guide
from ppap.utils import tensor_spec
from ppap.utils.settings import AUTOENCODER, DATASET, DIFFUSION, REFERENCE
from ppap.utils.tensor_spec import IMAGES, PREDICTED
from ppap.workflow import evaluator, stored_images
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from ppap.workflow.plan import flops

if TYPE_CHECKING:
    from ppap.workflow.step import Step
    from ppap.workflow.steps.download import Download
    from ppap.workflow.steps.estimate import Estimate
    from ppap.workflow.steps.features import Features
    from ppap.workflow.steps.figure import Figure
    from ppap.workflow.steps.generate import Generate
    from ppap.workflow.steps.label import Label
    from ppap.workflow.steps.pretrain import Pretrain
    from ppap.workflow.steps.reference_features import ReferenceFeatures
    from ppap.workflow.steps.sample import Sample
    from ppap.workflow.steps.train_expert import TrainExpert
    from ppap.workflow.steps.upsample_clean import UpsampleClean
    from ppap.workflow.steps.upsample_samples import UpsampleSamples
    from ppap.workflow.steps.warm_start import WarmStart

_CLASS = 8  # bytes of a class
_FLOAT = 4


class Cost(NamedTuple):
    """FLOPs on the accelerator, and bytes on disk (None: they depend on more than shapes)."""

    flops: int
    bytes: int | None


NOTHING = Cost(0, None)
"""The cost of a job that takes seconds, and whose files depend on more than shapes."""


@dataclass(frozen=True)
class NetworkCost:
    """The cost of one image: FLOPs of a call, and of a call with the gradient for the image; numbers in the answer."""

    forward: int
    with_gradient: int
    answer: int
    stored: int


class Costs:
    """The costs of a preset's jobs, a method a step; every network is counted once."""

    def __init__(self, layout: Layout) -> None:
        self.preset, self.layout = layout.preset, layout
        self.image, self.pixels = self.preset.dataset.shape, math.prod(self.preset.dataset.shape)
        self.x_t = self.preset.drawn_shape
        self._latent = math.prod(self.x_t) * np.dtype(LATENT).itemsize  # bytes
        self._guides: dict[str, NetworkCost] = {}
        self._experts: dict[tuple[str, str, int, str], tuple[int, int]] = {}

    # -- of the jobs of each step ----------------------------------------------------------------

    def of(self, job: Step) -> Cost:
        """Return the cost of a job; next to nothing where its step has no method here."""
        cost: Cost = getattr(self, job.rule(), lambda job: NOTHING)(job)
        return cost

    def download(self, job: Download) -> Cost:
        """Count a network's bytes in float32, whatever its publisher keeps it in. The size of data is unknown."""
        model = job.model
        if model in (REFERENCE, DATASET):
            return NOTHING
        if model == DIFFUSION:
            second = self.upsampler.stored if self.preset.diffusion.upsampling else 0
            return Cost(0, self.diffusion.stored + second)
        if model in self.preset.evaluator.judged_by:
            judges = flops.on_meta(lambda: evaluator.new_networks(self.layout))
            return Cost(0, flops.stored_bytes(judges[model]))
        return Cost(0, self.guide(model).stored)

    def pretrain(self, job: Pretrain) -> Cost:
        model, shape = job.model, self.image
        training = self.preset.training(model)
        assert training is not None
        if model == DIFFUSION:
            network = flops.on_meta(lambda: models.new_diffusion(self.layout))
            call: flops.Call = _at_some_timestep(network)
            shape = self.x_t
        elif model == AUTOENCODER:
            autoencoder = flops.on_meta(lambda: Autoencoder(models.new_autoencoder(self.layout)))
            network, call = autoencoder.requires_grad_(True), lambda x: autoencoder.decode(autoencoder.encode(x))
        else:
            call = self._new_guide(model).train()
            network = call.network
        step = flops.with_weight_gradient(call, (training.batch_size, *shape), network)
        return Cost(training.steps * step, flops.stored_bytes(network))

    def generate(self, job: Generate) -> Cost:
        count, steps = self.layout.clean_sizes[job.shard], len(self.preset.schedule(self.preset.clean_images.sampler))
        size = self._latent if self.preset.diffusion.latent_space else self.pixels
        return Cost(count * steps * self.diffusion.forward, count * size)

    def estimate(self, job: Estimate) -> Cost:
        count = self.layout.clean_sizes[job.shard] * self.preset.clean_images.estimates
        return Cost(count * self.diffusion.forward, count * self._latent)

    def upsample_clean(self, job: UpsampleClean) -> Cost:
        return self._upsampled(self.layout.clean_sizes[job.shard])

    def upsample_samples(self, job: UpsampleSamples) -> Cost:
        return self._upsampled(self.layout.sample_sizes[job.shard])

    def _upsampled(self, count: int) -> Cost:
        upsampling = self.preset.diffusion.upsampling
        assert upsampling is not None
        steps = len(upsampling.schedule(self.preset.diffusion.timesteps, self.preset.module_folders))
        pixels = math.prod(self.preset.finished_shape)
        return Cost(count * steps * self.upsampler.forward, count * pixels)

    def label(self, job: Label) -> Cost:
        count = self.layout.label_sizes[job.part] * (2 if self.preset.mirrored else 1)
        network = self.guide(job.guide)
        number = _FLOAT if self.preset.runtime.precision == "float32" else _FLOAT // 2
        return Cost(count * (network.forward + self.decoder.forward), count * network.answer * number)

    def warm_start(self, job: WarmStart) -> Cost:
        preset, learning = started(self.preset, job.start)
        step, stored = self._expert(preset, job.guide, learning)
        return Cost(warm_steps(preset, job.guide) * step, stored)

    def train_expert(self, job: TrainExpert) -> Cost:
        learning = Learning.of(self.preset.methods[job.method])
        step, stored = self._expert(self.preset.trained_for(job.method), job.guide, learning)
        return Cost(expert_steps(self.preset, job.guide, job.method)[1] * step, stored)

    def sample(self, job: Sample) -> Cost:
        count = self.layout.sample_sizes[job.shard]
        return Cost(count * self._sampled_image(job.drawn), count * (self.pixels + _CLASS))

    def reference_features(self, job: ReferenceFeatures) -> Cost:
        """Count the real images of data that has been downloaded, or is built in."""
        if self.preset.evaluator.compared_with:
            path = self.layout.model(REFERENCE)
        else:
            path = self.layout.model(DATASET)
            if not self.preset.dataset.facts.downloaded or path.exists():
                return self._extracted(len(stored_images.real(self.layout, "train").images))
        if not path.exists():
            return NOTHING
        return self._extracted(len(tensor_spec.read(path, reference_images(), {"model": REFERENCE})[IMAGES]))

    def features(self, job: Features) -> Cost:
        """Count the features of a job's methods, the answers of judges, and the archives of the samples."""
        count, guides = self.preset.sampling.total * len(job.methods), job.against
        judges = [judge for guide in guides if (judge := self.preset.judge(guide))]
        judged = count * sum(self.guide(judge).forward for judge in judges)
        extracted = self._extracted(count)
        beside = _CLASS + self.pixels + _CLASS + sum(map(self._statistics, guides))
        return Cost(extracted.flops + judged, (extracted.bytes or 0) + count * beside)

    def figure(self, job: Figure) -> Cost:
        kind, guide = job.kind(self.preset)
        return kind.cost(self, guide)

    study_figure = figure

    def drawn(self, count: int, runs: Sequence[Run]) -> Cost:
        """Count the samples of each of these runs that a figure draws for itself."""
        return Cost(count * sum(map(self._sampled_image, runs)), None)

    # -- networks --------------------------------------------------------------------------------

    @cached_property
    def diffusion(self) -> NetworkCost:
        network = flops.on_meta(lambda: models.new_diffusion(self.layout))
        return self._network(_at_some_timestep(network), network, self.x_t)

    @cached_property
    def decoder(self) -> NetworkCost:
        """The network that decodes one latent; nothing where there are none."""
        autoencoder = flops.on_meta(lambda: models.untrained_autoencoder(self.layout))
        if autoencoder is None:
            return NetworkCost(0, 0, 0, 0)
        return self._network(autoencoder.decode, autoencoder, self.x_t)

    @cached_property
    def upsampler(self) -> NetworkCost:
        """The second stage of a cascade, of one finished image."""
        model = self.preset.diffusion
        network = flops.on_meta(lambda: model.source.build_upsampler(model))
        small = flops.on_meta(lambda: torch.zeros(1, *self.image))
        shape = (1, *self.preset.finished_shape)
        call = _at_some_timestep(network.upsampling(small))
        return NetworkCost(flops.forward(call, shape), 0, 0, flops.stored_bytes(network))

    @cached_property
    def extractor(self) -> Extractor:
        return evaluator.untrained_extractor(self.layout)

    @cached_property
    def evaluation(self) -> tuple[int, dict[str, Tensor]]:
        """The evaluator's FLOPs for one image, and its answers."""
        with torch.device(self.preset.evaluator.tried_on):
            image = torch.zeros((1, *self.preset.finished_shape), dtype=torch.uint8)
        return flops.of_call(lambda: self.extractor(image))

    def guide(self, name: str) -> NetworkCost:
        if name not in self._guides:
            guide = self._new_guide(name)
            self._guides[name] = self._network(guide, guide)
        return self._guides[name]

    def _network(self, call: flops.Call, network: nn.Module, image: tuple[int, int, int] | None = None) -> NetworkCost:
        network.eval().requires_grad_(False)
        shape = (1, *(image or self.image))
        return NetworkCost(
            flops.forward(call, shape),
            flops.with_input_gradient(call, shape),
            call(torch.empty(shape, device="meta")).numel(),
            flops.stored_bytes(network),
        )

    def _expert(self, preset: Preset, guide: str, learning: Learning) -> tuple[int, int]:
        """Return FLOPs of a training step, and bytes of the finished expert, by what the preset says of experts."""
        step, stored = self._student(guide, preset.guides[guide], learning.trainable)
        beside = self.decoder.forward if learning.view == "decoder" else 0
        beside += self.diffusion.forward if learning.sees == "x0_hat" and learning.estimates == "fresh" else 0
        return step + preset.guides[guide].experts.batch_size * beside, stored

    def _student(self, guide: str, spec: GuideConfig, trainable: str) -> tuple[int, int]:
        key = guide, str(spec.adapter), spec.experts.batch_size, trainable
        if key not in self._experts:
            student = self._new_guide(guide).train()
            student.network.requires_grad_(True)
            if trainable == "adapter":
                flops.on_meta(lambda: adapters.attach(student.network, spec.adapter))
            step = flops.with_weight_gradient(student, (spec.experts.batch_size, *self.image), student.network)
            statistics = sum(b.numel() for b in student.network.buffers() if b.is_floating_point())
            changed = adapters.trainable_parameters(student.network) + statistics
            self._experts[key] = step, _FLOAT * changed
        return self._experts[key]

    def _sampled_image(self, run: Run) -> int:
        """Return FLOPs of one sample of a run."""
        kind = self.preset.guidance(run.method)
        if not kind.drawn:
            return 0
        steps, decoding = len(self.preset.schedule(run.sampler)), self.decoder.forward
        if not kind.guided:
            return steps * self.diffusion.forward + decoding
        asked = evaluations_of(kind, self.preset.schedule(run.sampler))
        backward = self.diffusion.with_gradient - self.diffusion.forward
        seen = 0 if self.preset.methods[run.method].view == "linear" else self.decoder.with_gradient
        guiding = asked.guide * (self.guide(run.guide).with_gradient + seen)
        return asked.denoiser * self.diffusion.forward + asked.denoiser_backward * backward + guiding + decoding

    def _extracted(self, count: int) -> Cost:
        taken, said = self.evaluation
        size = sum(value.numel() * value.element_size() for value in said.values())
        return Cost(count * taken, count * size)

    def _statistics(self, guide: str) -> int:
        """Return bytes of what is said of one sample, held against a guide's targets."""
        _, said = self.evaluation
        seen = self.extractor.says_classes or PREDICTED in said
        of_pictures = self.preset.task(guide).of_pictures
        if not (self.preset.judge(guide) if of_pictures else seen):
            return 0
        parts = describe_statistics(self.preset.task_of(guide), 1).values()
        return sum(math.prod(s.shape) * getattr(torch, s.dtypes[0]).itemsize for s in parts)

    def _new_guide(self, name: str) -> Guide:
        return flops.on_meta(lambda: models.new_guide(self.layout, name))


def _at_some_timestep(network: Network) -> flops.Call:
    return lambda x: network(x, torch.zeros(len(x), device=x.device))
