"""Kinds of guidance: how a guide becomes a gradient that steers sampling, a class each, called as guidance(denoiser, x_t, step).

Each returns the denoiser's prediction and the gradient scale * grad_{x_t} log p(y | x_t), or None for no
guidance. Gradients are taken of the sum over the batch, so a sample does not depend on its batch.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.schedules import Array
from ppap.utils.arguments import has_shape
from ppap.utils.errors import ConfigError
from ppap.utils.registry import Registry

Sees = Literal["x_t", "x0_hat"]
"""What an expert looks at: x_t, as in the paper, or the diffusion network's estimate of x_0 in it."""

Objective = Callable[[Tensor], Tensor]
"""The objective that guidance raises: a guide's answers to one number a sample, (B,)."""

GuidanceCall = Callable[[Denoiser, Tensor, int], tuple[Prediction, Tensor | None]]
"""Guidance as samplers call it: with the denoiser, x_t (B, C, H, W) and the sampling step."""


class GuideAt(Protocol):
    """A guide that may differ with the noise, log(abar / (1 - abar)): images in [-1, 1] to the model's output."""

    def __call__(self, images: Tensor, log_snr: float) -> Tensor: ...


@runtime_checkable
class Goal(Protocol):
    """A guide, what it is to see in samples, and how strongly it pulls (`ppap.guides.goal.Goal`).

    Its guide looks at x_t, and of latents at the pictures that they decode to, unless `sees` says "x0_hat", or
    `sees_latents` is true.
    """

    @property
    def scale(self) -> float: ...

    def at(self, images: Tensor, log_snr: float) -> Tensor:
        """Return the guide's answers (B, ...) on images (B, C, H, W) in [-1, 1], or latents, with noise of this level."""

    def check(
        self, log_snrs: Iterable[float], betas: Array, autoencoder: Autoencoder | None = None, predicts: str = "eps"
    ) -> None:
        """Raise DataError if the guide knows noise or latents, and was not trained on one of these levels, or on these."""

    def targets(self, count: int, shape: tuple[int, int, int]) -> Tensor:
        """Return the target of each of `count` samples, pictures of the shape (C, H, W): (count, ...)."""

    def objective_for(self, targets: Tensor) -> Objective:
        """Return the objective that guidance raises on a batch with these targets (B, ...)."""


class Guidance(ABC):
    """One kind of guidance: what it does, and as class attributes what the rest of the package knows of it.

    A class of the user's own need not inherit this; it states these facts where they differ from the values here.
    """

    guided: ClassVar[bool] = True
    """A guide is used. Without one, all guides of a table share the samples."""
    experts: ClassVar[bool] = False
    """The guide is replaced by noise-aware experts, each for its own noise."""
    through_denoiser: ClassVar[bool] = False
    """The gradient goes through the diffusion network, which costs as much again."""
    sees_x_t: ClassVar[bool] = False
    """The guide is asked about x_t itself, so that its answers there can be shown."""
    drawn: ClassVar[bool] = True
    """Samples are drawn; otherwise real pictures that show the targets stand in for them, the best that can be."""

    def __init__(self, guide: GuideAt, objective: Objective, scale: float) -> None:
        self.guide, self.objective, self.scale = guide, objective, scale

    @abstractmethod
    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor | None]: ...


FACTS = ("guided", "experts", "through_denoiser", "sees_x_t", "drawn")


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
    """The guide sees x_t itself (paper, equation 5). With an off-the-shelf guide this is the naive row."""

    sees_x_t = True

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor | None]:
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


class MPGD(EstimateGuidance):
    """The estimate of x0 moves by scale times the gradient there: manifold-preserving guided diffusion (He et al. 2023,
    arXiv 2311.16424, without its autoencoder), where eps follows the estimate."""

    def weight(self, abar: float) -> float:
        """Undo what samplers do, which move x0 by (1 - abar) / sqrt(abar) times the gradient."""
        return abar**0.5 / (1 - abar)


class X0Gradient(Guidance):
    """The guide sees the one-step estimate of x0; its gradient goes through the U-Net (paper, section 3)."""

    through_denoiser = True

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor]:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            prediction = denoiser(x, step)
            score = self.objective(self.guide(prediction.x0, float(denoiser.schedule.log_snr[step])))
            gradient = _gradient(score, x)
        detached = Prediction(*(part.detach() for part in prediction))
        return detached, self.scale * gradient


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
        return _gradient(objective(guide(x, log_snr)), x)


def _gradient(scores: Tensor, x: Tensor) -> Tensor:
    gradient = torch.autograd.grad(scores.sum(), x, allow_unused=True)[0] if scores.requires_grad else None
    if gradient is None:
        raise ConfigError("guidance: what is to grow has no gradient for the images; it must come from them")
    return gradient


@dataclass(frozen=True)
class DecodedGoal:
    """A goal about pictures, asked about latents: its guide sees what they decode to."""

    goal: Goal
    autoencoder: Autoencoder

    @property
    def scale(self) -> float:
        return self.goal.scale

    def check(
        self, log_snrs: Iterable[float], betas: Array, autoencoder: Autoencoder | None = None, predicts: str = "eps"
    ) -> None:
        self.goal.check(log_snrs, betas, autoencoder, predicts)

    def targets(self, count: int, shape: tuple[int, int, int]) -> Tensor:
        return self.goal.targets(count, shape)

    def objective_for(self, targets: Tensor) -> Objective:
        return self.goal.objective_for(targets)

    def at(self, latents: Tensor, log_snr: float) -> Tensor:
        """Return the guide's answers (B, ...) on the pictures of latents (B, c, h, w)."""
        return self.goal.at(self.autoencoder.decode(latents), log_snr)


def decoding(goals: Sequence[Goal], autoencoder: Autoencoder | None) -> list[Goal]:
    """Return goals that can be asked about the images of a diffusion model, which may be latents."""
    if autoencoder is None:
        return list(goals)
    return [goal if getattr(goal, "sees_latents", False) else DecodedGoal(goal, autoencoder) for goal in goals]


def combined(goals: Sequence[Goal], targets: Sequence[Tensor]) -> tuple[GuideAt, Objective, float]:
    """Combine goals to a guide, objective and scale: of several goals, the gradient of scale 1 is the sum of theirs.

    `targets` are those of the batch, (B, ...) for each goal. The denoiser is asked once for all goals.
    """
    objectives = [goal.objective_for(wanted) for goal, wanted in zip(goals, targets, strict=True)]
    if len(goals) == 1:
        return goals[0].at, objectives[0], goals[0].scale

    def guide(images: Tensor, log_snr: float) -> Any:
        return [goal.at(images, log_snr) for goal in goals]

    def objective(answers: Any) -> Tensor:
        parts = zip(goals, objectives, answers, strict=True)
        return torch.stack([goal.scale * grows(answer) for goal, grows, answer in parts]).sum(0)

    return guide, objective, 1.0


def own_objective(named: str | Callable[..., Tensor], count: int, *targets: Tensor) -> Objective:
    """Make an objective of a function of the user's own, of answers (B, ...) and, if there are any, targets (B, ...).

    ConfigError if there is none of this name, or it does not return `count` numbers, one for each image of the batch.
    """
    own = OBJECTIVES.get(named)

    def objective(answers: Tensor) -> Tensor:
        scores: Tensor = own(answers, *targets)
        has_shape("the objective", scores, (count,))
        return scores

    return objective


def guidance_towards(kind: type[Guidance], goals: Sequence[Goal], targets: Sequence[Tensor]) -> GuidanceCall:
    """Make guidance of this kind towards all goals, whose `targets` are those of a batch; without goals, none."""
    if not kind.guided:
        return kind(None, _nothing, 0.0)  # type: ignore[arg-type]
    if not goals:
        return NoGuidance()
    sights = {getattr(goal, "sees", "x_t") for goal in goals}
    if len(sights) > 1:
        raise ConfigError("goals: some see x_t, others x0_hat; those of one kind guide together")
    if "x0_hat" in sights and isinstance(kind, type) and issubclass(kind, NoisyInputGuidance):
        kind = EstimateGuidance
    return kind(*combined(goals, targets))


def _nothing(answers: Tensor) -> Tensor:
    raise AssertionError("guidance without a guide has no objective")


def _of_user(name: str, kind: Any) -> type[Guidance]:
    """Return a class of the user's own with all facts; ConfigError if one is neither true nor false."""
    for fact in FACTS:
        value = getattr(kind, fact, getattr(Guidance, fact))
        if not isinstance(value, bool):
            raise ConfigError(f"guidance '{name}': {fact} is {value!r}; True or False was expected")
        setattr(kind, fact, value)
    return cast(type[Guidance], kind)


GUIDANCE: Registry[type[Guidance]] = Registry(
    "guidance",
    {
        "none": NoGuidance,
        "off_the_shelf": NoisyInputGuidance,
        "x0_gradient": X0Gradient,
        "x0_gradient_bounded": BoundedX0Gradient,
        "x0_estimate": EstimateGuidance,
        "mpgd": MPGD,
        "real": RealPictures,
        "experts": ExpertGuidance,
    },
    "class",
    _of_user,
)

OBJECTIVES: Registry[Callable[..., Tensor]] = Registry("objective", {}, "function", lambda name, function: function)
