"""Rivals of noise-aware experts that change the gradient of another kind of guidance, or the steps where it acts.

The other kind is an option, `of`: by default the one of the publication, of an off-the-shelf model. With "experts", or any
other of `ppap.diffusion.guidance.GRADIENTS`, one sees whether the two add. Of several goals each has a part in the gradient.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.guidance import GRADIENTS, Evaluations, Guidance, GuideAt, NoGuidance
from ppap.diffusion.schedules import Schedule
from ppap.utils.errors import ConfigError
from ppap.utils.registry import kind_of
from ppap.utils.settings import Count

Gradient = Annotated[str, *kind_of(GRADIENTS)]
NotNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Decay = Annotated[float, Field(ge=0, lt=1)]


@dataclass(kw_only=True)
class Changed(Guidance):
    """Guidance of another kind whose gradient, or the steps where it acts, a subclass changes."""

    of: Gradient = "off_the_shelf"

    def __post_init__(self) -> None:
        self.how = GRADIENTS.get(self.of)(self.guide, self.objective, self.scale)

    @classmethod
    def changes(cls) -> type[Guidance]:
        """Return the kind that it changes, whose facts it has."""
        return GRADIENTS.get(inspect.signature(cls).parameters["of"].default)

    def acts(self, schedule: Schedule, step: int) -> bool:
        """Say whether there is guidance in this step."""
        return True

    def changed(self, gradient: Tensor, prediction: Prediction, schedule: Schedule, step: int) -> Tensor:
        """Return the gradient (B, C, H, W) that takes the place of the other kind's."""
        return gradient

    def __call__(self, denoiser: Denoiser, x: Tensor, step: int) -> tuple[Prediction, Tensor | None]:
        if not self.acts(denoiser.schedule, step):
            return NoGuidance()(denoiser, x, step)
        prediction, gradient = self.how(denoiser, x, step)
        if gradient is None:
            return prediction, None
        return prediction, self.changed(gradient, prediction, denoiser.schedule, step)

    def evaluations(self, schedule: Schedule) -> Evaluations:
        """Count the evaluations of a sample; without guidance a step asks the diffusion network alone."""
        steps = len(schedule)
        acting = sum(self.acts(schedule, step) for step in range(steps))
        return Evaluations(steps, acting * self.how.through_denoiser, acting)


@dataclass(kw_only=True)
class Interval(Changed):
    """Guidance where low <= sigma < high alone, with sigma = sqrt(1 - abar) / sqrt(abar): a limited interval
    (Kynkäänniemi et al. 2024, arXiv 2404.07724).

    The default is theirs for classifier-free guidance on ImageNet 512; on ADM's linear schedule t is 83 to 352. With
    `outside` there is guidance everywhere else: what an interval is worth.
    """

    low: NotNegative = 0.283
    high: NotNegative = 1.609
    outside: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.low >= self.high:
            raise ConfigError(
                f"guidance 'interval': options: low: {self.low:g}; less than high, {self.high:g}, was expected"
            )

    def acts(self, schedule: Schedule, step: int) -> bool:
        inside = self.low <= math.exp(-float(schedule.log_snr[step]) / 2) < self.high
        return inside != self.outside


@dataclass(kw_only=True)
class EveryKthStep(Changed):
    """Guidance in every k-th step, from the first on, by k times the gradient: Compress Guidance (Dinh et al. 2024,
    arXiv 2408.11194), with steps at even distances."""

    stepwise = False

    k: Count = 2

    def __post_init__(self) -> None:
        self.how = GRADIENTS.get(self.of)(self.guide, self.objective, self.k * self.scale)

    def acts(self, schedule: Schedule, step: int) -> bool:
        return (len(schedule) - 1 - step) % self.k == 0


@dataclass(kw_only=True)
class AdamNormalised(Changed):
    """Adam's moments of the gradient g over the sampling steps, scale m / (sqrt(v) + 1e-8) (Belardi et al. 2026,
    arXiv 2603.16797): m and v, elementwise, are averages of g and g^2, corrected for their start at 0.

    The first step is the sign of g. The change has unit scale, so that scales of 0.001 to 0.03 are usual; of several goals,
    scales weigh one against another only.
    """

    stepwise = False

    beta1: Decay = 0.32
    beta2: Decay = 0.51
    memory: dict[str, Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.how = GRADIENTS.get(self.of)(self.guide, self.objective, 1.0)

    def changed(self, gradient: Tensor, prediction: Prediction, schedule: Schedule, step: int) -> Tensor:
        kept, beta1, beta2 = self.memory, self.beta1, self.beta2
        zero = torch.zeros_like(gradient)
        kept["steps"] = kept.get("steps", zero.new_zeros(())) + 1
        kept["m"] = beta1 * kept.get("m", zero) + (1 - beta1) * gradient
        kept["v"] = beta2 * kept.get("v", zero) + (1 - beta2) * gradient**2
        m, v = kept["m"] / (1 - beta1 ** kept["steps"]), kept["v"] / (1 - beta2 ** kept["steps"])
        return self.scale * m / (v.sqrt() + 1e-8)


@dataclass(kw_only=True)
class AveragedGradients(Changed):
    """The moving average of the gradients over the sampling steps, m <- decay m + (1 - decay) g, from the first g on, of
    an off-the-shelf model on the estimate of x0 (Vaeth et al. 2025, arXiv 2507.00687)."""

    stepwise = False

    of: Gradient = "x0_gradient"
    decay: Decay = 0.9
    memory: dict[str, Tensor] = field(default_factory=dict, init=False)

    def changed(self, gradient: Tensor, prediction: Prediction, schedule: Schedule, step: int) -> Tensor:
        before = self.memory.get("m", gradient)
        self.memory["m"] = self.decay * before + (1 - self.decay) * gradient
        return self.memory["m"]


@dataclass(kw_only=True)
class EntropyScaled(Changed):
    """The gradient of each sample, times log K / H: H is the entropy of the classifier's answer of K classes (Li et al. 2022,
    ECCV, arXiv 2206.11474).

    The factor is 1 where the classifier knows nothing, and at `most` this: theirs has no bound.
    """

    most: Positive = 10.0

    def __post_init__(self) -> None:
        def noting(answers: Tensor) -> Tensor:
            logits = _logits("entropy_scaled", answers).detach().float()
            self.entropy = torch.special.entr(logits.softmax(1)).sum(1) / math.log(logits.shape[1])
            return self.objective(answers)

        self.how = GRADIENTS.get(self.of)(self.guide, noting, self.scale)

    def changed(self, gradient: Tensor, prediction: Prediction, schedule: Schedule, step: int) -> Tensor:
        factor = 1 / self.entropy.clamp(min=1 / self.most)
        return factor[:, None, None, None] * gradient


@dataclass(kw_only=True)
class EluCD(Changed):
    """A classifier calibrated at sampling (Ma et al. 2023, arXiv 2310.11311): the gradient at the estimate of x0, for that in
    x_t as it is, of tau1 f_y - log sum_i exp(tau2 f_i), where f are its logits, with Softplus of `softplus` in place of
    ReLU.

    DDPM's mean moves by (Sigma + gamma sin(pi t / N) Sigma_max) scale g in theirs, where gamma is 0.3, t of N counts the
    steps and Sigma_max is the schedule's largest beta. That is Sigma times the gradient returned here, (1 + gamma
    sin(pi t / N) Sigma_max / Sigma) scale g. There is no Sigma in DDIM and in flows, whose code in theirs is broken: gamma
    is 0 by default, which is their step without that term in all samplers.
    """

    stepwise = False

    of: Gradient = "x0_unweighted"
    tau1: Positive = 1.0
    tau2: Positive = 0.5
    softplus: Positive = 3.0
    gamma: NotNegative = 0.0

    def __post_init__(self) -> None:
        def calibrated(answers: Tensor) -> Tensor:
            logits = _logits("elucd", answers)
            wanted = self.objective(answers) + logits.logsumexp(1)  # f_y, as the objective is log p(y)
            return self.tau1 * wanted - (self.tau2 * logits).logsumexp(1)

        self.how = GRADIENTS.get(self.of)(_Softened(self.guide, self.softplus), calibrated, self.scale)

    def changed(self, gradient: Tensor, prediction: Prediction, schedule: Schedule, step: int) -> Tensor:
        if not self.gamma:
            return gradient
        share = math.sin(math.pi * step / len(schedule)) * float(schedule.betas.max())
        return gradient * (1 + self.gamma * share / prediction.log_variance.exp())


class _Softened(TorchFunctionMode):
    """A guide whose ReLUs are Softplus of this beta: log(1 + exp(beta x)) / beta."""

    relus: ClassVar[set[Any]] = {F.relu, torch.relu, torch.relu_, Tensor.relu, Tensor.relu_}

    def __init__(self, guide: GuideAt, beta: float) -> None:
        super().__init__()
        self.guide, self.beta, self.sees = guide, beta, getattr(guide, "sees", "x_t")

    def __call__(self, images: Tensor, log_snr: float) -> Tensor:
        with self:
            return self.guide(images, log_snr)

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in self.relus:
            return F.softplus(args[0], self.beta)
        return function(*args, **(kwargs or {}))


def _logits(what: str, answers: Any) -> Tensor:
    """Return a classifier's answers (B, K); ConfigError if they are others."""
    if not isinstance(answers, Tensor) or answers.ndim != 2 or answers.shape[1] < 2:
        raise ConfigError(f"guidance '{what}': is of one classifier, whose answers are logits (B, classes)")
    return answers
