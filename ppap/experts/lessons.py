"""Lessons: batches of clean images, each with what a student is to say of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ppap.data import datasets
from ppap.data.gathering import Images, pinned
from ppap.guides.tasks.task import Task
from ppap.utils.overlap import ahead
from ppap.workflow.artefacts import IMAGE, MIRROR

LARGE = 1 << 20
"""Bytes of a batch, which take about a millisecond to gather: as long as three wake-ups of a thread."""


class Lesson(NamedTuple):
    """A batch to learn from: clean images x0 (B, C, H, W) in [-1, 1], and the answers (B, ...) to give."""

    x0: Tensor
    answers: Tensor


LessonAt = Callable[[int], Lesson]
"""The lesson of each training step; its random numbers come from torch's global generator."""


class Answers(Protocol):
    """A teacher's answers (N, ...) on images, and on the mirror images."""

    def take(self, indices: Tensor, mirrored: Tensor) -> Tensor: ...


class AnswersInMemory:
    """Tensors as `Answers`: of the images, and of the mirror images if these are valid too."""

    def __init__(self, answers: Mapping[str, Tensor]) -> None:
        self.plain = answers[IMAGE]
        self.mirror = answers.get(MIRROR, self.plain)

    def take(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        return _chosen(mirrored, self.mirror[indices], self.plain[indices]).float()


class Choice(NamedTuple):
    """Which images a batch has, and which of them are mirrored: (B,) each."""

    indices: Tensor
    mirrored: Tensor


class Gathered(NamedTuple):
    """A batch as it is kept: uint8 (B, H, W, C), whether each is to be mirrored, and the answers on these."""

    images: Tensor
    mirrored: Tensor
    answers: Tensor


def of_truths(
    images: Tensor, truths: Tensor, task: Task, batch_size: int, mirror: bool
) -> LessonAt:
    """Random batches of images (N, C, H, W) in [-1, 1], with what is true of them (N, ...)."""

    def lesson(step: int) -> Lesson:
        chosen, coin = _choose(len(images), batch_size, mirror)
        true = truths[chosen]
        return Lesson(
            _chosen(coin, images[chosen].flip(-1), images[chosen]),
            _chosen(coin, task.mirrored(true), true),
        )

    return lesson


@dataclass(frozen=True)
class Teaching:
    """Random batches of images, with a teacher's answers on them: chosen, gathered, and made a lesson."""

    images: Images
    answers: Answers
    batch_size: int
    mirror: bool
    device: torch.device

    @property
    def is_large(self) -> bool:
        """Whether a batch is worth a thread."""
        return self.batch_size * self.images.take(torch.tensor([0])).nbytes >= LARGE

    def choose(self, generator: torch.Generator | None = None) -> Choice:
        """From torch's global generator, if none is given."""
        return _choose(len(self.images), self.batch_size, self.mirror, generator)

    def gather(self, choice: Choice) -> Gathered:
        images = torch.from_numpy(self.images.take(choice.indices))
        parts = (images, choice.mirrored, self.answers.take(*choice))
        return Gathered(*(pinned(part, self.device) for part in parts))

    def lesson(self, gathered: Gathered) -> Lesson:
        images, mirrored, answers = (p.to(self.device, non_blocking=True) for p in gathered)
        x0 = datasets.to_tensor(images)
        return Lesson(_chosen(mirrored, x0.flip(-1), x0), answers)


def of_a_teacher(teaching: Teaching) -> LessonAt:
    """The lesson of each step, gathered when it is asked for."""
    return lambda step: teaching.lesson(teaching.gather(teaching.choose()))


@contextmanager
def of_a_teacher_ahead(
    teaching: Teaching, seed_at: Callable[[int], int], steps: int
) -> Iterator[LessonAt]:
    """The same lessons, gathered by threads while earlier steps are at work.

    `seed_at` is the seed that the global generator is given at each step.
    """

    def gather(step: int) -> Gathered:
        return teaching.gather(teaching.choose(torch.Generator().manual_seed(seed_at(step))))

    with ahead(gather, steps) as gathered:

        def lesson(step: int) -> Lesson:
            teaching.choose()  # as the thread did: the step's other random numbers come after these
            return teaching.lesson(gathered(step))

        yield lesson


def _choose(
    count: int, batch_size: int, mirror: bool, generator: torch.Generator | None = None
) -> Choice:
    indices = torch.randint(count, (batch_size,), generator=generator)
    coin = torch.rand(batch_size, generator=generator)
    return Choice(indices, coin < (0.5 if mirror else 0.0))


def _chosen(coin: Tensor, mirrored: Any, plain: Any) -> Tensor:
    """Of each pair (B, ...) the mirrored one where the coin (B,) says so."""
    return torch.where(coin.to(plain.device).view(-1, *[1] * (plain.ndim - 1)), mirrored, plain)
