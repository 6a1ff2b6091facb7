"""Ways to turn a model into a guidance gradient: one class each, all called as guidance(denoiser, x_t, step).

Each returns the denoiser's prediction and the gradient scale * grad_{x_t} log p(y | x_t), or None for no
guidance. Gradients are taken of the sum over the batch, so a sample does not depend on its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ppap.diffusion.denoiser import Denoiser, Prediction

Objective = Callable[[Tensor], Tensor]
"""What is to grow: model output to one number a sample, (B,)."""


class Guidance(Protocol):
    def __call__(
        self, denoiser: Denoiser, x: Tensor, step: int
    ) -> tuple[Prediction, Tensor | None]: ...


class GuideAt(Protocol):
    """A guide that may differ from timestep to timestep: images in [-1, 1] to the model's output."""

    def __call__(self, images: Tensor, timestep: int) -> Tensor: ...


class Wish(NamedTuple):
    """One guide, what is to grow of its answers, and how strongly."""

    guide: GuideAt
    objective: Objective
    scale: float


def together(wishes: Sequence[Wish]) -> Wish:
    """Several wishes as one of scale 1, whose gradient is the sum of theirs: the denoiser is asked once for all."""

    def guide(images: Tensor, timestep: int) -> Any:
        return [wish.guide(images, timestep) for wish in wishes]

    def objective(answers: Any) -> Tensor:
        parts = zip(wishes, answers, strict=True)
        return torch.stack([wish.scale * wish.objective(answer) for wish, answer in parts]).sum(0)

    return Wish(guide, objective, 1.0)


def gradient_of(guide: GuideAt, objective: Objective, x: Tensor, timestep: int) -> Tensor:
    """grad_{x_t} of the objective of a guide's answers on x_t (B, C, H, W), like x_t."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(guide(x, timestep)).sum(), x)
    return gradient


class NoGuidance:
    """Unconditional sampling."""

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, None]:
        with torch.no_grad():
            return denoiser(x, step), None


class NoisyInputGuidance:
    """The guide sees x_t itself (paper, equation 5).

    With an off-the-shelf guide this is the naive row; with noise-aware ones the single and the
    multi-experts rows (paper, equation 6).
    """

    def __init__(self, guide: GuideAt, objective: Objective, scale: float) -> None:
        self.guide, self.objective, self.scale = guide, objective, scale

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor]:
        with torch.no_grad():
            prediction = denoiser(x, step)
        timestep = denoiser.schedule.timesteps[step]
        return prediction, self.scale * gradient_of(self.guide, self.objective, x, timestep)


class X0Gradient:
    """The guide sees the one-step estimate of x0; its gradient goes through the U-Net (paper, section 3)."""

    def __init__(self, guide: GuideAt, objective: Objective, scale: float) -> None:
        self.guide, self.objective, self.scale = guide, objective, scale

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            prediction = denoiser(x, step)
            score = self.objective(self.guide(prediction.x0, denoiser.schedule.timesteps[step]))
            (gradient,) = torch.autograd.grad(score.sum(), x)
        detached = Prediction(*(part.detach() for part in prediction))
        return detached, self.scale * gradient
