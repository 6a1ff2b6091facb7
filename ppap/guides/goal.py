"""Goals of guidance: a guide, what it is to see in samples, and how strongly it pulls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.goals import own_objective
from ppap.diffusion.guidance import Objective, Sees
from ppap.diffusion.schedules import Array
from ppap.guides.guide import Guide
from ppap.guides.target_files import target_in, target_paths
from ppap.guides.tasks.classification import Classification
from ppap.guides.tasks.segmentation import VOID, Segmentation
from ppap.guides.tasks.task import Task
from ppap.utils.arguments import checked
from ppap.utils.errors import ConfigError


@runtime_checkable
class Experts(Protocol):
    """The experts of a guide (`ppap.experts.bank.ExpertBank`), as far as a goal knows them."""

    def at(self, images: Tensor, log_snr: float) -> Tensor: ...


@checked
@dataclass(frozen=True)
class Goal:
    """A goal: a guide or a bank of experts, the target that it should see in samples, and the guidance scale.

    `target` is a class; or a target as the guide's task takes them, one for all samples or one for each (N, ...), as
    a tensor, an array or a list; or a file: a depth or label map (.npy, grey .png), a vector (.npy), or a picture, which
    the guide itself looks at; or files, as a list or a folder: one for each sample, of embeddings their mean direction.
    Words are no text here, but the vector `guide.text(words)`. A guide that gives a score raises it without a target.
    `scale` multiplies the gradient (the paper's s, equation 5).

    `objective` is what guidance raises in place of the task's log p(target | x): a function of the guide's answers
    (B, ...) and the targets (B, ...), or without a `target` of the answers alone, which returns one number for each
    image, (B,). Without a guide (None) it is one of the images themselves, (B, C, H, W) in [-1, 1]. It may be written
    "user:MODULE.FUNCTION", or be a functools.partial with options. ConfigError if there is nothing to raise.
    """

    guide: Guide | Experts | None
    target: int | float | Tensor | Sequence[Any] | str | Path | None = None
    scale: float = 1.0
    objective: str | Callable[..., Tensor] | None = None

    def __post_init__(self) -> None:
        if self.target is None and self.objective is None and self.guide is not None and self._network.task:
            object.__setattr__(self, "target", self.task.standing_target)
        if self.target is not None:
            _ = self.task  # or there is none to aim at
        elif self.objective is None:
            raise ConfigError("goal: give a target, or an objective")

    @property
    def sees(self) -> Sees:
        """The guide's input: x_t or, of experts of the denoised estimate, the network's estimate of x_0."""
        return getattr(self.guide, "sees", "x_t")

    @property
    def sees_latents(self) -> bool:
        """True if the guide has a view of latents; else it looks at what they decode to."""
        return self.guide is not None and self._network.view is not None

    @property
    def task(self) -> Task:
        """The task of the guide; ConfigError if there is none."""
        return self._network.own_task

    def at(self, images: Tensor, log_snr: float) -> Tensor:
        """Return the answers (B, ...) on images (B, C, H, W) in [-1, 1], or latents, with noise of this log-SNR."""
        return images if self.guide is None else self.guide.at(images, log_snr)

    def check(
        self, log_snrs: Iterable[float], betas: Array, autoencoder: Autoencoder | None = None, predicts: str = "eps"
    ) -> None:
        """Raise DataError if these are experts that were not trained on one of these levels of noise, or on other latents.

        `betas` (T,) are those of the diffusion model, by which old files know their noise (`ExpertBank.check`).
        """
        if check := getattr(self.guide, "check", None):
            check(log_snrs, betas, autoencoder, predicts)

    def objective_for(self, targets: Tensor) -> Objective:
        """Return what is to grow of the answers on a batch with these targets (B, ...)."""
        if self.objective is None:
            return self.task.objective(targets)
        return own_objective(self.objective, len(targets), *([] if self.target is None else [targets]))

    def targets(self, count: int, shape: tuple[int, int, int]) -> Tensor:
        """Return the target of each of `count` samples, pictures (C, H, W): (count, ...); without any, (count, 0).

        ConfigError if a target is none of the task's; DataError if a file holds none.
        """
        if self.target is None:
            return torch.empty(count, 0)
        given, wanted = self._read(shape), self.task.target_shape
        each = given[None] if tuple(given.shape) == wanted else given
        if tuple(each.shape[1:]) != wanted or len(each) not in (1, count):
            raise ConfigError(
                f"guide '{self._network.name}': a target is {tuple(each.shape)}; {wanted} was expected, or "
                f"{(count, *wanted)}, one for each sample"
            )
        self._check_numbers(each)
        return each.expand(count, *wanted)

    @property
    def _network(self) -> Guide:
        network: Guide | None = getattr(self.guide, "guide", self.guide)  # type: ignore[arg-type]
        if network is None:
            raise ConfigError("goal: a target needs a guide that sees it; without a guide, give an objective alone")
        return network

    def _read(self, shape: tuple[int, int, int]) -> Tensor:
        if isinstance(self.target, Tensor):
            return self.target
        if paths := self._paths():
            found = torch.cat([target_in(path, shape, self._network)[0] for path in paths])
            return self.task.together(found) if len(found) > 1 else found
        try:
            numbers = int(self.target) if isinstance(self.target, Integral) else self.target
            return torch.as_tensor(numbers)
        except (TypeError, ValueError, RuntimeError):
            raise ConfigError(
                f"guide '{self._network.name}': a target is a {type(self.target).__name__}; a class, numbers, or a "
                "file was expected"
            ) from None

    def _paths(self) -> list[Path]:
        """List the files that the target names; ConfigError or DataError if they are not there."""
        if isinstance(self.target, str | Path) and Path(self.target).is_dir():
            return target_paths(Path(self.target), "target")
        several: Sequence[Any] = self.target if isinstance(self.target, list | tuple) else [self.target]
        if not all(isinstance(each, str | Path) for each in several):
            return []
        paths = [Path(each) for each in several]
        for path in paths:
            if not path.is_file():
                words = "; words are a target as `guide.text(WORDS)`" if self._network.reader else ""
                raise ConfigError(f"{path}: no such file, which guide '{self._network.name}' needs{words}")
        return paths

    def _check_numbers(self, targets: Tensor) -> None:
        """Refuse classes and labels that there are not; pixels may have no label."""
        if not isinstance(self.task, Classification | Segmentation):
            return
        known, least = self.task.shape[0], VOID if isinstance(self.task, Segmentation) else 0
        if targets.is_floating_point():
            raise ConfigError(f"guide '{self._network.name}': a target is a whole number")
        odd = targets[(targets < least) | (targets >= known)]
        if len(odd):
            raise ConfigError(f"guide '{self._network.name}': knows 0 to {known - 1}, not {int(odd[0])}")
