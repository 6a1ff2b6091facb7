"""Guides: vision models behind one call that takes images in [-1, 1]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ppap.guides.preprocessing import Interpolation, normalised, resized
from ppap.guides.tasks.task import Task
from ppap.utils.arguments import checked
from ppap.utils.errors import ConfigError

_PARTS = ("forward_features", "forward_head", "get_classifier")  # of timm's classifiers


@checked
class Guide(nn.Module):
    """A network behind its own resizing and normalisation (`ppap.guides.preprocessing`).

    Call it with images (B, C, H, W) in [-1, 1], or, with a `view` (`ppap.guides.views`), with latents, of which it looks
    at that view; it returns what the network returns, of a `task` in the shape of its answers. ConfigError, which says
    `name`, if these have another shape; what the network raises comes as it is.
    `options` and `channels` are those that a model of a library was built with, and if it was `published` the library
    has its weights: by these its experts find it again (`ppap.guides.recipe`). Where the weights say what the classes
    are called, these are the `class_names`.
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
        interpolation: Interpolation = "bilinear",
        antialias: bool = True,
        options: Mapping[str, Any] | None = None,
        view: nn.Module | None = None,
        channels: int = 3,
        published: bool = False,
        class_names: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.view = view
        self.network, self.input_size = network, input_size
        self.interpolation, self.antialias = interpolation, antialias
        self.name, self.task, self.options = name, task, dict(options or {})
        self.channels, self.published, self.class_names = channels, published, tuple(class_names)
        self.reader: Callable[[Sequence[str]], Tensor] | None = None
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def __call__(self, images: Tensor, normalise: bool = True) -> Tensor:
        """Answer as `forward` does, in the task's shape; the check stays outside of what `compile` compiles."""
        answers: Tensor = super().__call__(images, normalise)
        return answers if self.task is None else self._checked(answers, len(images), self.task)

    @property
    def own_task(self) -> Task:
        """Its task; ConfigError if it has none."""
        if self.task is None:
            raise ConfigError(f"guide '{self.name}': was wrapped without a task")
        return self.task

    @property
    def device(self) -> torch.device:
        """The device that its weights are on."""
        return self.mean.device

    def look(self, pictures: Tensor) -> Tensor:
        """Answer on pictures (B, C, H, W) in [-1, 1], whatever its view of latents."""
        answers: Tensor = self.network(self._prepared(pictures, normalise=True))
        return answers if self.task is None else self._checked(answers, len(pictures), self.task)

    @checked
    def text(self, words: str) -> Tensor:
        """Return the vector (1, D) of words, by the text tower beside a network of images (CLIP, SigLIP): a target.

        ConfigError if the model has none, or the words are more than it reads.
        """
        if self.reader is None:
            raise ConfigError(f"guide '{self.name}': has no text tower, so that words are no target")
        return self.reader([words])

    def at(self, images: Tensor, log_snr: float) -> Tensor:
        """Answer, the same whatever the noise; a bank of experts has a method of this name too."""
        return self(images)

    def forward(self, images: Tensor, normalise: bool = True) -> Tensor:
        """Ask the network; without `normalise` it sees the resized images in [-1, 1] themselves."""
        return self.network(self.prepare(images, normalise))

    def prepare(self, images: Tensor, normalise: bool = True) -> Tensor:
        """Resize and normalise images in [-1, 1], or the view of latents, for the network."""
        # in the precision of the latents: under autocast a view answers in half, in which a CPU resizes nothing
        return self._prepared(images if self.view is None else self.view(images).to(images.dtype), normalise)

    def _prepared(self, images: Tensor, normalise: bool) -> Tensor:
        seen = resized(images, self.input_size, self.interpolation, self.antialias)
        return normalised(seen, self.mean, self.std) if normalise else seen

    def _checked(self, answers: Tensor, count: int, task: Task) -> Tensor:
        """Bring the network's answers to the task's resolution; ConfigError if they are not of its shape."""
        wanted = (count, *task.shape)
        if isinstance(answers, Tensor):
            answers = task.fitted(answers)
            if answers.shape == wanted:
                return answers
        shown = tuple(answers.shape) if isinstance(answers, Tensor) else type(answers).__name__
        raise ConfigError(f"model '{self.name}': answers with {shown}; {wanted} was expected, {task.said}")


def features_and_logits(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    """Return penultimate features (B, D) and logits (B, K) of a timm classifier; ConfigError if it is none."""
    if not all(hasattr(network, part) for part in _PARTS):
        raise ConfigError("evaluator.model: must be a timm classifier, for its features")
    features = network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]
    return features, network.get_classifier()(features)  # type: ignore[operator]
