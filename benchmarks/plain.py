"""The peer without a library: what a person would write in plain PyTorch, by the example of guided-diffusion.

Written anew after its `classifier_sample` (Dhariwal & Nichol 2021): coefficients in float64, put on the device for a
batch of steps each time; one function a formula; weights in half precision where the networks run so. Experts are as
many whole networks.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from benchmarks import networks
from benchmarks.setting import SCALE, Setting
from benchmarks.timing import Work, stepwise
from ppap.config.preset import Preset
from ppap.diffusion.schedules import Schedule
from ppap.experts import lora as adapters
from ppap.guides.guide import Guide
from ppap.utils.mixed_precision import hold_precision

Model = Callable[[Tensor, Tensor], Tensor]
"""A network of x_t (B, C, H, W) and timesteps of training (B,)."""

Score = Callable[[Tensor, Tensor], Tensor]
"""Images and timesteps of training (B,) to the scale times log p(y | images), (B,)."""


class Belief(NamedTuple):
    """The prediction of a step: the estimate of x_0, and the mean and log-variance of x_{t-1}."""

    x_start: Tensor
    mean: Tensor
    log_variance: Tensor


class GaussianDiffusion:
    """The reverse process on a respaced schedule; `i` (B,) counts its steps."""

    def __init__(self, schedule: Schedule) -> None:
        abar, previous = schedule.alphas_cumprod, schedule.alphas_cumprod_prev
        self.timesteps, self.abar, self.abar_prev = np.array(schedule.timesteps), abar, previous
        self.log_betas = np.log(schedule.betas)
        self.log_variance = schedule.posterior_log_variance_clipped
        self.recip, self.recipm1 = np.sqrt(1 / abar), np.sqrt(1 / abar - 1)
        self.rest = np.sqrt(1 - abar)
        self.of_x_start = schedule.betas * np.sqrt(previous) / (1 - abar)
        self.of_x = (1 - previous) * np.sqrt(1 - schedule.betas) / (1 - abar)

    def ddim_loop(self, model: Model, score: Score | None, of_x0: bool, x: Tensor) -> Iterator[Tensor]:
        """x_{t-1} after each step from the noise x; the last is x_0. `of_x0`: the score is of the estimate of x_0."""
        for step in reversed(range(len(self.timesteps))):
            i = torch.tensor([step] * len(x), device=x.device)
            x = self.ddim_sample(model, score, of_x0, x, i)
            yield x

    def ddim_sample(
        self, model: Model, score: Score | None, of_x0: bool, x: Tensor, i: Tensor, eta: float = 0.0
    ) -> Tensor:
        believed = self.believed(model, score, of_x0, x, i)
        eps = self.eps_from_x_start(x, i, believed.x_start)
        abar, previous = _extract(self.abar, i), _extract(self.abar_prev, i)
        sigma = eta * torch.sqrt((1 - previous) / (1 - abar)) * torch.sqrt(1 - abar / previous)
        mean = believed.x_start * torch.sqrt(previous) + torch.sqrt(1 - previous - sigma**2) * eps
        nonzero = (i != 0).float().view(-1, 1, 1, 1)
        return mean + nonzero * sigma * torch.randn_like(x)

    def believed(self, model: Model, score: Score | None, of_x0: bool, x: Tensor, i: Tensor) -> Belief:
        """With the gradient of the score."""
        t = torch.from_numpy(self.timesteps).to(i.device)[i]
        if score is None or not of_x0:
            with torch.no_grad():
                terms = self.p_mean_variance(model, x, i, t)
            return terms if score is None else self.condition_score(terms, cond_fn(score, x, t), x, i)
        with torch.enable_grad():
            x_in = x.detach().requires_grad_()
            terms = self.p_mean_variance(model, x_in, i, t)
            (gradient,) = torch.autograd.grad(score(terms.x_start, t).sum(), x_in)
        terms = Belief(*(part.detach() for part in terms))
        return self.condition_score(terms, gradient, x, i)

    def p_mean_variance(self, model: Model, x: Tensor, i: Tensor, t: Tensor) -> Belief:
        out = model(x, t).float()
        log_variance = _extract(self.log_variance, i)
        if out.shape[1] == 2 * x.shape[1]:  # learned, between the smallest and the largest
            out, share = out.chunk(2, dim=1)
            share = (share + 1) / 2
            log_variance = share * _extract(self.log_betas, i) + (1 - share) * log_variance
        x_start = self.x_start_from_eps(x, i, out).clamp(-1, 1)
        return Belief(x_start, self.posterior_mean(x_start, x, i), log_variance)

    def condition_score(self, terms: Belief, gradient: Tensor, x: Tensor, i: Tensor) -> Belief:
        eps = self.eps_from_x_start(x, i, terms.x_start) - _extract(self.rest, i) * gradient
        x_start = self.x_start_from_eps(x, i, eps)
        return Belief(x_start, self.posterior_mean(x_start, x, i), terms.log_variance)

    def x_start_from_eps(self, x: Tensor, i: Tensor, eps: Tensor) -> Tensor:
        return _extract(self.recip, i) * x - _extract(self.recipm1, i) * eps

    def eps_from_x_start(self, x: Tensor, i: Tensor, x_start: Tensor) -> Tensor:
        return (_extract(self.recip, i) * x - x_start) / _extract(self.recipm1, i)

    def posterior_mean(self, x_start: Tensor, x: Tensor, i: Tensor) -> Tensor:
        return _extract(self.of_x_start, i) * x_start + _extract(self.of_x, i) * x


def cond_fn(score: Score, x: Tensor, t: Tensor) -> Tensor:
    """The gradient of the score at x_t."""
    with torch.enable_grad():
        x_in = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(score(x_in, t).sum(), x_in)
    return gradient


def class_score(guides: list[Guide], classes: Tensor, total: int) -> Score:
    """Return the gradient of the guide that owns the timestep, where each of several owns as many of `total`."""

    def score(images: Tensor, t: Tensor) -> Tensor:
        guide = guides[int(t[0]) * len(guides) // total]
        logits = guide(images).float()
        return SCALE * F.log_softmax(logits, dim=-1)[range(len(logits)), classes]

    return score


def new_score(setting: Setting, name: str, experts: bool = False) -> Score:
    """Return the gradient of a guide of the preset towards the setting's classes."""
    guide = networks.new_guide(setting.preset, name)
    hold_precision(guide, setting.preset.runtime)
    guides = [copy.deepcopy(guide) for _ in range(networks.EXPERTS)] if experts else [guide]
    return class_score(guides, setting.classes, setting.preset.diffusion.timesteps)


def forward(setting: Setting) -> Work:
    """The diffusion network alone."""
    network = _new_diffusion(setting.preset)
    x = torch.randn(setting.batch, *setting.preset.dataset.shape, device=setting.device)
    t = torch.full((len(x),), setting.preset.diffusion.timesteps // 2, device=x.device)

    def steps() -> Iterator[None]:
        with torch.no_grad():
            while True:
                network(x, t)
                yield

    return lambda watch: stepwise(steps(), watch)


def drawing(setting: Setting, method: str, guide: str) -> Work:
    """Do what `ours.drawing` does."""
    network, preset = _new_diffusion(setting.preset), setting.preset
    diffusion = GaussianDiffusion(networks.ddim_schedule(preset))
    score = None if method == "none" else new_score(setting, guide, method == "experts")

    def batches() -> Iterator[Tensor]:
        while True:
            noise = torch.randn(setting.batch, *preset.dataset.shape, device=setting.device)
            x = noise
            for x in diffusion.ddim_loop(network, score, method == "x0_gradient", noise):
                yield x
            ((x + 1) * 127.5).clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()

    return lambda watch: stepwise(batches(), watch)


def training(setting: Setting, guide: str) -> Work:
    """Do what `ours.training` does: the same parameters of the same network, on the same loss."""
    preset, spec = setting.preset, setting.preset.guides[guide]
    network = networks.new_guide(preset, guide)
    adapters.attach(network.network, spec.adapter)
    network.to(setting.device).train()
    trained = [p for p in network.parameters() if p.requires_grad]
    training, tau = spec.experts, preset.experts.tau
    optimizer = torch.optim.AdamW(trained, lr=training.learning_rate, weight_decay=training.weight_decay)
    signal = networks.full_schedule(preset).alphas_cumprod
    abar = torch.tensor(signal, dtype=torch.float32, device=setting.device)
    x0, answers, _ = setting.examples()

    def steps() -> Iterator[None]:
        while True:
            t = torch.randint(len(abar) // networks.EXPERTS, (len(x0),), device=x0.device)
            a = abar[t].view(-1, 1, 1, 1)
            said = network(a.sqrt() * x0 + (1 - a).sqrt() * torch.randn_like(x0)).float()
            wanted = F.softmax(answers / tau, dim=1)
            loss = F.kl_div(F.log_softmax(said, dim=1), wanted, reduction="batchmean")
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield

    return lambda watch: stepwise(steps(), watch)


def _new_diffusion(preset: Preset) -> Model:
    return hold_precision(networks.new_diffusion(preset), preset.runtime)


def _extract(values: NDArray[np.float64], i: Tensor) -> Tensor:
    """One number a sample, (B, 1, 1, 1), out of an array of all steps."""
    return torch.from_numpy(values).to(i.device)[i].float().view(-1, 1, 1, 1)
