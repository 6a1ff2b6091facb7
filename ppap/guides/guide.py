"""Guides: vision models behind one call that takes images in [-1, 1]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ppap.guides.libraries.library import reason
from ppap.guides.tasks.task import Task
from ppap.utils.errors import ConfigError, ModelError, PPAPError

_PARTS = ("forward_features", "forward_head", "get_classifier")  # of timm's classifiers


class Guide(nn.Module):
    """A network behind its own resizing and normalisation.

    Call it with images (B, C, H, W) in [-1, 1]; it returns what the network returns, of a `task` in the shape of
    its answers. The resize is bilinear, antialiased when it shrinks, and differentiable. ModelError, which says
    `name`, if the network fails or does not answer as a guide should.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        input_size: int,
        mean: Sequence[float],
        std: Sequence[float],
        name: str = "guide",
        task: Task | None = None,
    ) -> None:
        super().__init__()
        self.network, self.input_size = network, input_size
        self.name, self.task, self._proved = name, task, False
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def __call__(self, images: Tensor, normalise: bool = True) -> Tensor:
        """`forward`, checked; the checks stay outside of what `compile` compiles."""
        try:
            answers = super().__call__(images, normalise)
            if self.task is not None and isinstance(answers, Tensor):
                answers = self.task.fitted(answers)
        except (PPAPError, torch.OutOfMemoryError):
            raise
        except Exception as error:
            raise ModelError(
                f"model '{self.name}': fails on images {tuple(images.shape)} resized to "
                f"{self.input_size} pixels ({reason(error)})"
            ) from error
        self._check(answers, images)
        return answers

    @property
    def own_task(self) -> Task:
        """Its task; ConfigError if it has none."""
        if self.task is None:
            raise ConfigError(f"guide '{self.name}': was wrapped without a task")
        return self.task

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return self.mean.device

    def at(self, images: Tensor, timestep: int) -> Tensor:
        """Its answers, which are the same at all timesteps; a bank of experts has a method of this name too."""
        return self(images)

    def forward(self, images: Tensor, normalise: bool = True) -> Tensor:
        """What the network says; without `normalise` it sees the resized images in [-1, 1] themselves."""
        return self.network(self.prepare(images) if normalise else self.resize(images))

    def _check(self, answers: Any, images: Tensor) -> None:
        if problem := self._problem(answers, images):
            raise ModelError(f"model '{self.name}': {problem}")
        self._proved = True

    def _problem(self, answers: Any, images: Tensor) -> str | None:
        """What is wrong with the network's answers, if anything is."""
        wanted = "one vector of numbers an image"
        if self.task is not None:
            wanted = f"{(len(images), *self.task.shape)}, {self.task.said}"
        if not isinstance(answers, Tensor):
            return f"answers with a {type(answers).__name__}; a tensor was expected: {wanted}"
        if not answers.is_floating_point():
            return f"answers in {str(answers.dtype).removeprefix('torch.')}; floats were expected"
        if answers.ndim < 2 or len(answers) != len(images) or not self._is_answer(answers):
            return f"answers with shape {tuple(answers.shape)}; expected was {wanted}"
        if torch.is_grad_enabled() and not answers.requires_grad and self._learns(images):
            return "its answers have no gradient; they must come from the images, without detach()"
        # once: on a GPU it is waited for
        if not (self._proved or answers.is_meta) and bool(answers.isnan().any()):
            return "answers with NaN"
        return None

    def _is_answer(self, answers: Tensor) -> bool:
        return self.task is None or tuple(answers.shape[1:]) == self.task.shape

    def _learns(self, images: Tensor) -> bool:
        return images.requires_grad or any(p.requires_grad for p in self.network.parameters())

    def prepare(self, images: Tensor) -> Tensor:
        """Resize and normalise images in [-1, 1] for the network."""
        return ((self.resize(images) + 1) / 2 - self.mean) / self.std

    def resize(self, images: Tensor) -> Tensor:
        """Images in [-1, 1] at the network's input size."""
        size = images.shape[-1]
        if size == self.input_size:
            return images
        return F.interpolate(
            images,
            size=(self.input_size, self.input_size),
            mode="bilinear",
            align_corners=False,
            antialias=size > self.input_size,
        )


def features_and_logits(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Penultimate features (B, D) and logits (B, K) of a timm classifier; ConfigError if it is none."""
    if not all(hasattr(network, part) for part in _PARTS):
        raise ConfigError("evaluator.model: must be a timm classifier, for its features")
    features = network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]
    return features, network.get_classifier()(features)  # type: ignore[operator]
