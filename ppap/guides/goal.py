"""Goals of guidance: a guide, what it is to see in samples, and how strongly it pulls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ppap.diffusion.guidance import Wish
from ppap.experts.bank import ExpertBank
from ppap.guides.guide import Guide
from ppap.guides.tasks.task import Task
from ppap.utils.errors import ConfigError
from ppap.workflow.target_files import target_in


@dataclass(frozen=True)
class Goal:
    """What a guide, or a bank of experts, is to see in samples.

    `target` is a class; or a tensor as the guide's task takes its targets, one for all samples or one for each
    (N, ...); or a file: a depth or label map (.npy, grey .png), or a picture, which the guide itself looks at.
    `scale` multiplies the gradient (the paper's s, equation 5).
    """

    guide: Guide | ExpertBank
    target: int | Tensor | str | Path
    scale: float = 1.0

    @property
    def task(self) -> Task:
        """Of the guide; ConfigError if it has none."""
        return self._network.own_task

    def targets(self, count: int, shape: tuple[int, int, int]) -> Tensor:
        """The target of each of `count` samples whose shape is (C, H, W): (count, ...).

        ConfigError if a target is none of the task's; DataError if a file holds none.
        """
        found = self._read(shape)
        wanted = self.task.target_shape
        found = found[None] if tuple(found.shape) == wanted else found
        if tuple(found.shape[1:]) != wanted or len(found) not in (1, count):
            raise ConfigError(
                f"guide '{self._network.name}': a target is {tuple(found.shape)}; {wanted} was expected, or "
                f"{(count, *wanted)}, one for each sample"
            )
        if not found.is_floating_point():
            self._check_numbers(found)
        return found.expand(count, *wanted)

    def wish(self, targets: Tensor) -> Wish:
        """For a batch with these targets."""
        return Wish(self.guide.at, self.task.objective(targets), self.scale)

    @property
    def _network(self) -> Guide:
        return self.guide.guide if isinstance(self.guide, ExpertBank) else self.guide

    def _read(self, shape: tuple[int, int, int]) -> Tensor:
        if isinstance(self.target, Tensor):
            return self.target
        if isinstance(self.target, int):
            return torch.tensor(self.target)
        path = Path(self.target)
        if not path.is_file():
            raise ConfigError(f"{path}: no such file, which guide '{self._network.name}' needs")
        return target_in(path, shape, self.task, self._network)[0]

    def _check_numbers(self, found: Tensor) -> None:
        """Of classes and labels: there must be such ones."""
        known = self.task.shape[0]
        if len(found) and not (int(found.min()) >= 0 and int(found.max()) < known):
            raise ConfigError(
                f"guide '{self._network.name}': knows 0 to {known - 1}, not {int(found.max())}"
            )


def wishes(goals: Sequence[Goal], targets: Sequence[Tensor], chosen: Tensor) -> list[Wish]:
    """For the samples of a batch, which are some of all: the goals with their targets (N, ...)."""
    return [
        goal.wish(each[chosen.to(each.device)].to(chosen.device))
        for goal, each in zip(goals, targets, strict=True)
    ]
