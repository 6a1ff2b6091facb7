"""Goals of guidance in a batch: what their guides see, and one guide and one objective out of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.guidance import Guidance, GuidanceCall, GuideAt, NoGuidance, Objective, Sees
from ppap.diffusion.schedules import Array
from ppap.utils.arguments import has_shape
from ppap.utils.errors import ConfigError
from ppap.utils.registry import Registry

OBJECTIVES: Registry[Callable[..., Tensor]] = Registry("objective", {}, "function", lambda name, function: function)


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


class CombinedGuide:
    """The guides of goals as one, whose answers are a list if there are several; `sees` is what all of them look at.

    ConfigError if they do not look at the same.
    """

    def __init__(self, goals: Sequence[Goal]) -> None:
        sights: list[Sees] = [getattr(goal, "sees", "x_t") for goal in goals]
        if len(set(sights)) > 1:
            raise ConfigError("goals: some see x_t, others x0_hat; those of one kind guide together")
        self.goals, self.sees = goals, sights[0]

    def __call__(self, images: Tensor, log_snr: float) -> Any:
        answers = [goal.at(images, log_snr) for goal in self.goals]
        return answers if len(answers) > 1 else answers[0]


def combined(goals: Sequence[Goal], targets: Sequence[Tensor]) -> tuple[GuideAt, Objective, float]:
    """Combine goals to a guide, objective and scale: of several goals, the gradient of scale 1 is the sum of theirs.

    `targets` are those of the batch, (B, ...) for each goal. The denoiser is asked once for all goals.
    """
    objectives = [goal.objective_for(wanted) for goal, wanted in zip(goals, targets, strict=True)]
    if len(goals) == 1:
        return CombinedGuide(goals), objectives[0], goals[0].scale

    def objective(answers: Any) -> Tensor:
        parts = zip(goals, objectives, answers, strict=True)
        return torch.stack([goal.scale * grows(answer) for goal, grows, answer in parts]).sum(0)

    return CombinedGuide(goals), objective, 1.0


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
    return kind(*combined(goals, targets)) if goals else NoGuidance()


def _nothing(answers: Tensor) -> Tensor:
    raise AssertionError("guidance without a guide has no objective")
