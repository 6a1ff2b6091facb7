"""Kinds of guidance: how a guide becomes a gradient that steers sampling, a class each, called as guidance(denoiser, x_t, step).

Each returns the denoiser's prediction and the gradient scale * grad_{x_t} log p(y | x_t), or None for no
guidance. Gradients are taken of the sum over the batch, so a sample does not depend on its batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.schedules import Schedule
from ppap.utils.errors import ConfigError
from ppap.utils.registry import Registry

Sees = Literal["x_t", "x0_hat"]
"""An expert's input: x_t, as in the paper, or the diffusion network's estimate of x_0 from it."""

Objective = Callable[[Tensor], Tensor]
"""The objective that guidance raises: a guide's answers to one number a sample, (B,)."""

GuidanceCall = Callable[[Denoiser, Tensor, int], tuple[Prediction, Tensor | None]]
"""Guidance as samplers call it: with the denoiser, x_t (B, C, H, W) and the sampling step."""


class GuideAt(Protocol):
    """A guide that may differ with the noise, log(abar / (1 - abar)): images in [-1, 1] to the model's output.

    Experts that look at the estimate of x_0 have an attribute `sees`, "x0_hat".
    """

    def __call__(self, images: Tensor, log_snr: float) -> Tensor: ...


class Evaluations(NamedTuple):
    """The evaluations of networks that one sample takes, by which kinds of guidance are compared.

    They are counted forward through the diffusion network, backward through it, and forward and backward through the guide.
    """

    denoiser: int
    denoiser_backward: int
    guide: int


@dataclass
class Guidance(ABC):
    """One kind of guidance: what it does, and as class attributes what the rest of the package knows of it.

    A class of the user's own need not inherit this; it states these facts where they differ from the values here.
    """

    guide: GuideAt
    objective: Objective
    scale: float

    guided: ClassVar[bool] = True
    """A guide is used. Without one, all guides of a table share the samples."""
    experts: ClassVar[bool] = False
    """The guide is replaced by noise-aware experts, each for its own noise."""
    through_denoiser: ClassVar[bool] = False
    """The gradient goes through the diffusion network, which costs as much again."""
    sees_x_t: ClassVar[bool] = False
    """The guide is asked about x_t itself, so that its answers there can be shown."""
    stepwise: ClassVar[bool] = True
    """A step depends on x_t and its noise alone; if not, on the steps before it, or on their number."""
    drawn: ClassVar[bool] = True
    """Samples are drawn; otherwise real pictures that show the targets stand in for them, the best that can be."""

    @abstractmethod
    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor | None]: ...

    def evaluations(self, schedule: Schedule) -> Evaluations:
        """Count the evaluations of a sample, if a step asks each network once."""
        steps = len(schedule)
        return Evaluations(steps, steps * self.through_denoiser, steps * self.guided)


def evaluations_of(kind: Any, schedule: Schedule) -> Evaluations:
    """Count the evaluations of a sample by a kind; those of a kind of the user's own follow from its facts."""
    own = getattr(kind, "evaluations", Guidance.evaluations)
    if own is Guidance.evaluations:
        return Guidance.evaluations(kind, schedule)
    return kind(None, None, 1.0).evaluations(schedule)  # its options matter


FACTS = ("guided", "experts", "through_denoiser", "sees_x_t", "stepwise", "drawn")


class NoGuidance(Guidance):
    """Unconditional sampling."""

    guided = False

    def __init__(self, guide: GuideAt | None = None, objective: Objective | None = None, scale: float = 0.0) -> None:
        """Take, and leave, what other kinds of guidance need."""

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, None]:
        with torch.no_grad():
            return denoiser(x, step), None


class RealPictures(NoGuidance):
    """Held-out real pictures that show the targets stand in for samples: nothing is drawn."""

    guided, drawn = True, False


class NoisyInputGuidance(Guidance):
    """The guide sees x_t itself (paper, equation 5). With an off-the-shelf guide this is the naive row.

    Experts of the denoised estimate see that, as in `EstimateGuidance`.
    """

    sees_x_t = True

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor | None]:
        if getattr(self.guide, "sees", "x_t") == "x0_hat":
            return EstimateGuidance(self.guide, self.objective, self.scale)(denoiser, x, step)
        with torch.no_grad():
            prediction = denoiser(x, step)
        log_snr = float(denoiser.schedule.log_snr[step])
        if log_snr == -math.inf:  # of pure noise a guide can say nothing
            return prediction, None
        return prediction, self.scale * gradient_of(self.guide, self.objective, x, log_snr)


class ExpertGuidance(NoisyInputGuidance):
    """The expert of this noise sees x_t: the single and the multi-experts rows (paper, equation 6)."""

    experts = True


class EstimateGuidance(Guidance):
    """The guide sees the one-step estimate of x0; its gradient is taken there, not through the diffusion network.

    In place of the Jacobian d x0_hat / d x_t stands what it is for a Gaussian x0 of variance 1, sqrt(abar). Experts of the
    denoised estimate guide in this way.
    """

    def weight(self, abar: float) -> float:
        """Return the number that stands in the Jacobian's place, at this signal power."""
        return abar**0.5

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor | None]:
        with torch.no_grad():
            prediction = denoiser(x, step)
        abar, log_snr = float(denoiser.schedule.alphas_cumprod[step]), float(denoiser.schedule.log_snr[step])
        if not abar:  # the estimate is the same whatever the noise
            return prediction, None
        gradient = gradient_of(self.guide, self.objective, prediction.x0, log_snr)
        return prediction, self.scale * self.weight(abar) * gradient


class UnweightedEstimateGuidance(EstimateGuidance):
    """The gradient at the estimate stands for that in x_t as it is: the Jacobian is taken for 1."""

    def weight(self, abar: float) -> float:
        return 1.0


@dataclass(kw_only=True)
class MPGD(EstimateGuidance):
    """The estimate of x0 moves by scale times the gradient there: manifold-preserving guided diffusion (He et al. 2023,
    arXiv 2311.16424, without its autoencoder).

    `eps` then "follows" the estimate, or "stays", as in the authors' code, where it is the network's own; here it is that
    of the clipped x0. The gradient is in the estimate then, and none is left for the sampler: DDIM's step moves by
    sqrt(abar') scale grad_{x0} log p, at any eta, and DDPM's by c1 scale grad_{x0} log p, with c1 of Ho et al. 2020,
    equation 7.
    """

    eps: Literal["follows", "stays"] = "follows"

    def weight(self, abar: float) -> float:
        """Undo what samplers do, which move x0 by (1 - abar) / sqrt(abar) times the gradient."""
        return abar**0.5 / (1 - abar)

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor | None]:
        prediction, gradient = super().__call__(denoiser, x, step)
        if self.eps == "follows" or gradient is None:
            return prediction, gradient
        moved = gradient / self.weight(float(denoiser.schedule.alphas_cumprod[step]))
        return prediction._replace(x0=prediction.x0 + moved), None


class X0Gradient(Guidance):
    """The guide sees the one-step estimate of x0; its gradient goes through the U-Net (paper, section 3)."""

    through_denoiser = True

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            prediction = denoiser(x, step)
            score = self.objective(self.guide(prediction.x0, float(denoiser.schedule.log_snr[step])))
            gradient = derivative(score, x)
        return detached(prediction), self.scale * gradient


class BoundedX0Gradient(X0Gradient):
    """The x0-gradient, smaller where noise is large: times sqrt(abar) (sqrt(abar) + sqrt(1 - abar)).

    So a flow's velocity moves by sigma / ((1 - sigma)^2 + sigma^2) times the gradient, in place of sigma / (1 - sigma),
    which has no bound.
    """

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor]:
        prediction, gradient = super().__call__(denoiser, x, step)
        abar = float(denoiser.schedule.alphas_cumprod[step])
        return prediction, abar**0.5 * (abar**0.5 + (1 - abar) ** 0.5) * gradient


def gradient_of(guide: GuideAt, objective: Objective, x: Tensor, log_snr: float) -> Tensor:
    """Return the gradient of the objective of a guide's answers on images (B, C, H, W) for these, like them."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        return derivative(objective(guide(x, log_snr)), x)


def derivative(scores: Tensor, x: Tensor) -> Tensor:
    """Return the gradient of scores (B,) for the x (B, C, H, W) that they were computed of; ConfigError if there is none."""
    gradient = torch.autograd.grad(scores.sum(), x, allow_unused=True)[0] if scores.requires_grad else None
    if gradient is None:
        raise ConfigError("guidance: what is to grow has no gradient for the images; it must come from them")
    return gradient


def detached(prediction: Prediction) -> Prediction:
    """Return the prediction without what autograd knows of it."""
    return Prediction(*(part.detach() for part in prediction))


GRADIENTS: Registry[type[Guidance]] = Registry(
    "guidance",
    {
        "off_the_shelf": NoisyInputGuidance,
        "x0_gradient": X0Gradient,
        "x0_gradient_bounded": BoundedX0Gradient,
        "x0_estimate": EstimateGuidance,
        "x0_unweighted": UnweightedEstimateGuidance,
        "mpgd": MPGD,
        "experts": ExpertGuidance,
    },
)
"""The kinds that are a gradient, by name: other kinds may change it."""
