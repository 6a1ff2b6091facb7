"""Goals of guidance in a batch: what their guides see, and one guide and one objective out of several."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


class CombinedGuide:
    """The guides of goals as one, whose answers are a list if there are several; `sees` is what all of them look at.

    Of latents they see what the `autoencoder` decodes, each for itself, but those with a view of latents. ConfigError
    if they do not look at the same.
    """

    def __init__(self, goals: Sequence[Goal], autoencoder: Autoencoder | None = None) -> None:
        sights: list[Sees] = [getattr(goal, "sees", "x_t") for goal in goals]
        if len(set(sights)) > 1:
            raise ConfigError("goals: some see x_t, others x0_hat; those of one kind guide together")
        self.goals, self.autoencoder, self.sees = goals, autoencoder, sights[0]

    def __call__(self, images: Tensor, log_snr: float) -> Any:
        answers = [goal.at(self._seen_by(goal, images), log_snr) for goal in self.goals]
        return answers if len(answers) > 1 else answers[0]

    def _seen_by(self, goal: Goal, images: Tensor) -> Tensor:
        if self.autoencoder is None or getattr(goal, "sees_latents", False):
            return images
        return self.autoencoder.decode(images)


def combined(
    goals: Sequence[Goal], targets: Sequence[Tensor], autoencoder: Autoencoder | None = None
) -> tuple[GuideAt, Objective, float]:
    """Combine goals to a guide, objective and scale: of several goals, the gradient of scale 1 is the sum of theirs.

    `targets` are those of the batch, (B, ...) for each goal. The denoiser is asked once for all goals.
    """
    guide = CombinedGuide(goals, autoencoder)
    objectives = [goal.objective_for(wanted) for goal, wanted in zip(goals, targets, strict=True)]
    if len(goals) == 1:
        return guide, objectives[0], goals[0].scale

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


def guidance_towards(
    kind: type[Guidance], goals: Sequence[Goal], targets: Sequence[Tensor], autoencoder: Autoencoder | None = None
) -> GuidanceCall:
    """Make guidance of this kind towards all goals, whose `targets` are those of a batch; without goals, none."""
    if not kind.guided:
        return kind(None, None, 0.0)  # type: ignore[arg-type]
    return kind(*combined(goals, targets, autoencoder)) if goals else NoGuidance()
