"""Score: a guide rates an image by one number, such as its beauty, or what people would prefer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppap.diffusion.guidance import Objective
from ppap.guides.tasks.losses import single
from ppap.guides.tasks.task import Score, Task

ENDLESS = torch.finfo(torch.float32).max
"""The target of samples whose number is raised; they are never there. Files of targets hold no infinity."""


@dataclass(eq=False, kw_only=True)
class Scoring(Task):
    """Answers, truths and targets are numbers (B,); a network may give (B, 1).

    Samples are guided to the number `target`; without one theirs is raised: the target is `ENDLESS`.
    """

    scores = (
        Score("score", "Score ↑", "Score: the number that an independent judge gives."),
        Score("score_error", "Score error ↓", "Score error: distance of the judge's number from the target, if there is one."),
    )  # fmt: skip
    said = "a number for each image"
    believed = "sigmoid of the score, or exp(-distance to the target)"
    maximised = "the score"
    own_look = True
    takes = ("target",)

    target: float | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    def fitted(self, answers: Tensor) -> Tensor:
        return answers[:, 0] if answers.shape[1:] == (1,) else answers

    def supervised(self, answers: Tensor, truths: Tensor) -> Tensor:
        """Return the mean squared error."""
        return F.mse_loss(single(answers), single(truths))

    def objective(self, targets: Tensor) -> Objective:
        """Return -1/2 the number's squared distance from the target; where that is +-`ENDLESS`, +-the number itself."""
        endless = is_endless(targets)
        wanted = torch.where(endless, 0, targets)

        def objective(answers: Tensor) -> Tensor:
            values = single(answers)
            return torch.where(endless, targets.sign() * values, -0.5 * (values - wanted).square())

        return objective

    @property
    def standing_target(self) -> Tensor:
        return torch.tensor(ENDLESS if self.target is None else float(self.target)).clamp(-ENDLESS, ENDLESS)

    def together(self, targets: Tensor) -> Tensor:
        """Take the mean (1,)."""
        return targets.mean(dim=0, keepdim=True)

    def belief(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Return exp(-distance to the target); where that is +-`ENDLESS`, the sigmoid of +-the number."""
        raised = (targets.sign() * answers).sigmoid()
        return torch.where(is_endless(targets), raised, (targets - answers).abs().neg().exp())

    def statistics(self, answers: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Return the numbers, and their distances from the targets unless these are endless."""
        error = {} if is_endless(targets).all() else {"score_error": (answers - targets).abs()}
        return {"score": answers} | error

    def draw(self, axis: Any, target: Tensor) -> None:
        text = {ENDLESS: "highest", -ENDLESS: "lowest"}.get(float(target), f"{float(target):g}")
        axis.text(0.5, 0.5, text, ha="center", va="center", transform=axis.transAxes)


def is_endless(targets: Tensor) -> Tensor:
    """Say which targets (...) are no number to reach but a way to go."""
    return targets.abs() >= ENDLESS
