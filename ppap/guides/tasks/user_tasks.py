"""Tasks of the user's own: their answers are checked, and errors name them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppap.diffusion.guidance import Objective
from ppap.guides.tasks.kinds import Data
from ppap.guides.tasks.task import Settings, Task
from ppap.utils import user_code
from ppap.utils.errors import UserCodeError

Wanted = tuple[int, ...]


class UserTask(Task):
    """What a class of the user's own does; UserCodeError where it fails, or answers with another shape."""

    def __init__(self, name: str, found: type[Task], data: Data) -> None:
        super().__init__(data)
        self.name = name
        with self._running():
            self.own = found(data)
            self._shape, self._target_shape = tuple(self.own.shape), tuple(self.own.target_shape)
        self.scores, self.said, self.believed = found.scores, found.said, found.believed
        self.maximised = found.maximised

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    @property
    def target_shape(self) -> tuple[int, ...]:
        return self._target_shape

    def fitted(self, answers: Tensor) -> Tensor:
        with self._running():
            return self.own.fitted(answers)

    def mirrored(self, truths: Tensor) -> Tensor:
        with self._running():
            return self._checked("mirrored", self.own.mirrored(truths), truths.shape)

    def truth(self, images: Tensor, known: Mapping[str, Tensor], name: str) -> Tensor:
        with self._running():
            found = self.own.truth(images, known, name)
            return self._checked("truth", found, self._targets(len(found)))

    def supervised(self, answers: Tensor, truths: Tensor) -> Tensor:
        with self._running():
            return self._checked("supervised", self.own.supervised(answers, truths), ())

    def distillation(self, student: Tensor, teacher: Tensor, settings: Settings) -> Tensor:
        with self._running():
            found = self.own.distillation(student, teacher, settings)
            return self._checked("distillation", found, ())

    def objective(self, targets: Tensor) -> Objective:
        with self._running():
            own = self.own.objective(targets)

        def objective(answers: Tensor) -> Tensor:
            with self._running():
                return self._checked("the objective", own(answers), (len(answers),))

        return objective

    def target_of(self, answers: Tensor) -> Tensor:
        with self._running():
            wanted = self._targets(len(answers))
            return self._checked("target_of", self.own.target_of(answers), wanted)

    def read_target(self, path: Path) -> Tensor | None:
        with self._running():
            found = self.own.read_target(path)
            return found if found is None else self._checked("read_target", found, self._targets(1))

    def belief(self, answers: Tensor, targets: Tensor) -> Tensor:
        with self._running():
            return self._checked("belief", self.own.belief(answers, targets), (len(answers),))

    def statistics(self, answers: Tensor, targets: Tensor) -> dict[str, Tensor]:
        with self._running():
            found = self.own.statistics(answers, targets)
            for name, value in found.items():
                wanted = (len(answers), *value.shape[1:])
                self._checked(f"statistics, {name},", value, wanted)
        return found

    def scored(self, statistics: Mapping[str, Tensor]) -> dict[str, float]:
        with self._running():
            found = {name: float(value) for name, value in self.own.scored(statistics).items()}
        names = [score.name for score in self.scores]
        if sorted(found) != sorted(names):
            raise UserCodeError(
                f"task '{self.name}': scored gives {', '.join(found) or 'nothing'}; "
                f"{', '.join(names)} was expected, as in scores"
            )
        return found

    def draw(self, axis: Any, target: Tensor) -> None:
        with self._running():
            self.own.draw(axis, target)

    def _running(self) -> AbstractContextManager[None]:
        return user_code.running(self.name, "task", torch.OutOfMemoryError)

    def _targets(self, count: int) -> Wanted:
        return (count, *self._target_shape)

    def _checked(self, what: str, found: Any, wanted: Wanted) -> Tensor:
        """What the class answered, which is a tensor of this shape."""
        if isinstance(found, Tensor) and tuple(found.shape) == tuple(wanted):
            return found
        shown = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UserCodeError(
            f"task '{self.name}': {what} gives {shown}; a tensor {tuple(wanted)} was expected"
        )
