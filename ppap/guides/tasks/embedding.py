"""Embedding: a guide describes an image by a vector, whose direction says what the image shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ppap.diffusion.guidance import Objective
from ppap.guides.tasks.losses import single
from ppap.guides.tasks.task import Score, Task
from ppap.utils import files
from ppap.utils.errors import ConfigError, DataError

CONCENTRATION = 100.0
"""The kappa of `Embedding.objective`: the inverse temperature at which CLIP was trained (Radford et al. 2021, section 2.5)."""


@dataclass(eq=False, kw_only=True)
class Embedding(Task):
    """Answers, truths and targets are vectors (B, D). Their direction alone counts.

    `dimensions` is D, which depends on the network. A judge's vectors may have another D: a picture that is a target
    is looked at by guide and judge, each for itself.
    """

    scores = (
        Score("cosine", "Cosine ↑", "Cosine: of an independent judge's vectors of the sample and of its target picture."),
        Score(
            "nearest",
            "Nearest ↑",
            "Nearest: how often that target picture is the nearest of all to the sample, as the judge sees it.",
            1, 100, "%",
        ),
    )  # fmt: skip
    said = "a vector for each image"
    believed = "cosine to the target"
    maximised = "the cosine to the target"
    own_look = True
    of_words = True
    takes = ("dimensions",)

    dimensions: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.numbers,)

    @property
    def numbers(self) -> int:
        """The D of the vectors; ConfigError if it is not said."""
        if not isinstance(self.dimensions, int) or self.dimensions < 1:
            raise ConfigError(
                f"dimensions: {self.dimensions}; the size of the network's vectors was expected (in Python: `outputs`)"
            )
        return self.dimensions

    def truth(self, images: Tensor, known: Mapping[str, Tensor], name: str) -> Tensor:
        vectors = super().truth(images, known, name)
        if vectors.shape[1:] != self.shape:
            raise ConfigError(
                f"task_options: dimensions: {self.dimensions}; the data set's vectors have {vectors.shape[1]}"
            )
        return vectors

    def supervised(self, answers: Tensor, truths: Tensor) -> Tensor:
        """Return the mean cosine distance, 1 - cos; of distillation too.

        Guidance and nearest neighbours use directions only. The norms of CLIP's and DINO's vectors carry no meaning
        that a noisy image could be asked for, so an expert is free in them.
        """
        return (1 - cosine(answers, truths)).mean()

    def objective(self, targets: Tensor) -> Objective:
        """Return kappa cos(answer, target), up to a constant log p(target | x) of von Mises and Fisher's distribution.

        With kappa 100, `CONCENTRATION`, the difference between two targets is the log of the odds that CLIP gives
        them, so that a guidance scale means here what it means for classes. For other networks kappa is a convention.
        """
        return lambda answers: CONCENTRATION * cosine(answers, targets)

    def together(self, targets: Tensor) -> Tensor:
        """Take the mean direction (1, D)."""
        return F.normalize(F.normalize(targets).mean(dim=0, keepdim=True))

    def read_target(self, path: Path) -> Tensor | None:
        if path.suffix.lower() != ".npy":
            return None
        values = np.array(files.map_array(path))
        if values.size != self.numbers or values.dtype.kind not in "iuf":
            raise DataError(
                f"{path}: holds {values.dtype} {values.shape}; a vector of {self.numbers} numbers was expected"
            )
        target = torch.from_numpy(values.astype(np.float32)).view(1, -1)
        if not target.isfinite().all() or not target.any():
            raise DataError(f"{path}: has no direction: its numbers are not finite, or all 0")
        return target

    def belief(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Return the cosine."""
        return cosine(answers, targets)

    def statistics(self, answers: Tensor, targets: Tensor) -> dict[str, Tensor]:
        return {"cosine": cosine(answers, targets)}

    def held_against(self, answers: Tensor, targets: Tensor, numbers: Tensor) -> dict[str, Tensor]:
        """Compare answers with all targets: the cosine to the own one, and whether no other is nearer."""
        wanted = F.normalize(single(targets))
        cosines = F.normalize(single(answers)).to(wanted) @ wanted.T  # (B, M)
        own = cosines.gather(1, numbers[:, None])[:, 0]
        return {"cosine": own, "nearest": (own >= cosines.amax(dim=1)).byte()}

    def draw(self, axis: Any, target: Tensor) -> None:
        axis.imshow(F.normalize(target, dim=0)[None].numpy(), cmap="coolwarm", aspect="auto")


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of the angle between vectors (..., D)."""
    return F.cosine_similarity(single(a), single(b), dim=-1)
