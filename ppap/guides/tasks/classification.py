"""Classification: a guide says of an image which class it shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from ppap.diffusion.guidance import Objective
from ppap.guides.tasks.losses import kl, single
from ppap.guides.tasks.task import Score, Settings, Task

Reduction = Literal["sum", "reference"]
HIT = "hit"


class Classification(Task):
    """Answers are logits (B, K), truths and targets classes (B,)."""

    scores = (
        Score(
            "target_rate",
            "Target class ↑",
            "Target class: how often an independent classifier sees the class that was asked for.",
            1, 100, "%", "Accuracy ↑",
        ),
    )  # fmt: skip
    said = "a number for each class"
    believed = "p(target class | x_t)"
    maximised = "log p({target} | x_t)"
    of_pictures = False
    outputs = "classes"
    distils_with = ("tau", "reduction")

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.data.classes,)

    @property
    def target_shape(self) -> tuple[int, ...]:
        return ()

    def supervised(self, answers: Tensor, truths: Tensor) -> Tensor:
        """Return the cross-entropy."""
        return F.cross_entropy(single(answers), truths)

    def distillation(self, student: Tensor, teacher: Tensor, settings: Settings) -> Tensor:
        return class_kl(student, teacher, settings.tau, settings.reduction)

    def objective(self, targets: Tensor) -> Objective:
        """Return log p(y | x)."""
        return class_log_probability(targets)

    def target_of(self, answers: Tensor) -> Tensor:
        """Take the likeliest class."""
        return answers.argmax(dim=1)

    def belief(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Return p(y | x)."""
        return answers.softmax(dim=1).gather(1, targets[:, None])[:, 0]

    def statistics(self, answers: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return hits(answers.argmax(dim=1), targets)

    def scored(self, statistics: Mapping[str, Tensor]) -> dict[str, float]:
        """Say how often the evaluator sees the target class."""
        return {"target_rate": float(statistics[HIT].double().mean())}


def hits(predicted: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Say whether the predicted classes (B,) are those that samples were guided to."""
    return {HIT: (predicted == targets).byte()}


def class_log_probability(y: Tensor) -> Objective:
    """Return log p(y | x) of a classifier, for classes y (B,)."""

    def objective(logits: Tensor) -> Tensor:
        return F.log_softmax(single(logits), dim=-1).gather(1, y[:, None])[:, 0]

    return objective


def class_kl(student: Tensor, teacher: Tensor, tau: float = 0.25, reduction: Reduction = "sum") -> Tensor:
    """Return KL(softmax(teacher / tau) || softmax(student)) of logits (B, K), averaged over the batch.

    "sum" sums over the K classes; "reference" averages over them too, as the authors' code does.
    """
    loss = kl(student, teacher, tau).sum() / len(student)
    return loss / student.shape[1] if reduction == "reference" else loss
