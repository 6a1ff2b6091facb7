"""Lessons: batches of clean images, each with what a student is to say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ppap.data import datasets
from ppap.graph.artefacts import IMAGE, MIRROR
from ppap.tasks.task import Task


class Lesson(NamedTuple):
    """A batch to learn from: clean images x0 (B, C, H, W) in [-1, 1], and the answers (B, ...) to give."""

    x0: Tensor
    answers: Tensor


LessonAt = Callable[[int], Lesson]
"""The lesson of each training step; its random numbers come from torch's global generator."""


class Images(Protocol):
    """uint8 (N, H, W, C), of which only those that are taken need to be in memory."""

    def __len__(self) -> int: ...

    def take(self, indices: Tensor) -> NDArray[np.uint8]: ...


class Answers(Protocol):
    """A teacher's answers (N, ...) on images, and on the mirror images."""

    def take(self, indices: Tensor, mirrored: Tensor) -> Tensor: ...


class ImagesInMemory:
    """An array as `Images`."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def take(self, indices: Tensor) -> NDArray[np.uint8]:
        return self.images[indices.numpy()]


class AnswersInMemory:
    """Tensors as `Answers`: of the images, and of the mirror images if these are valid too."""

    def __init__(self, answers: Mapping[str, Tensor]) -> None:
        self.plain = answers[IMAGE]
        self.mirror = answers.get(MIRROR, self.plain)

    def take(self, indices: Tensor, mirrored: Tensor) -> Tensor:
        return _chosen(mirrored, self.mirror[indices], self.plain[indices]).float()


def of_truths(
    images: Tensor, truths: Tensor, task: Task, batch_size: int, mirror: bool
) -> LessonAt:
    """Random batches of images (N, C, H, W) in [-1, 1], with what is true of them (N, ...)."""

    def lesson(step: int) -> Lesson:
        chosen = torch.randint(len(images), (batch_size,))
        coin = _coin(batch_size, mirror)
        true = truths[chosen]
        return Lesson(
            _chosen(coin, images[chosen].flip(-1), images[chosen]),
            _chosen(coin, task.mirrored(true), true),
        )

    return lesson


def of_a_teacher(
    images: Images, answers: Answers, batch_size: int, mirror: bool, device: torch.device
) -> LessonAt:
    """Random batches of images, with a teacher's answers on them."""

    def lesson(step: int) -> Lesson:
        chosen = torch.randint(len(images), (batch_size,))
        coin = _coin(batch_size, mirror)
        x0 = datasets.to_tensor(torch.from_numpy(images.take(chosen)).to(device))
        return Lesson(_chosen(coin, x0.flip(-1), x0), answers.take(chosen, coin).to(device))

    return lesson


def _coin(batch_size: int, mirror: bool) -> Tensor:
    return torch.rand(batch_size) < (0.5 if mirror else 0.0)


def _chosen(coin: Tensor, mirrored: Any, plain: Any) -> Tensor:
    """Of each pair (B, ...) the mirrored one where the coin (B,) says so."""
    return torch.where(coin.to(plain.device).view(-1, *[1] * (plain.ndim - 1)), mirrored, plain)
