"""Depth: a guide says of each pixel how near it is, up to scale and shift of the whole image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppap.diffusion.guidance import Objective
from ppap.guides.tasks.depth_and_label_maps import read_map, resized
from ppap.guides.tasks.losses import single
from ppap.guides.tasks.task import Score, Task
from ppap.utils.errors import DataError

_NEARNESS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "nearness": lambda values: values,
    "depth": torch.neg,
    "metres": torch.reciprocal,
}
"""The function by which maps in files (`Task.maps`) become larger where nearer."""
_FLAT = 1e-6  # the least deviation that a map is divided by, or this share of its largest value: rounding is none


class Depth(Task):
    """Answers, truths and targets are maps (B, H, W), larger where nearer, as MiDaS's inverse depth
    (Ranftl et al. 2020, arXiv 1907.01341)."""

    scores = (
        Score(
            "abs_rel",
            "Depth error ↓",
            "Depth error: mean absolute relative error of an independent judge's depth, scale and shift aside.",
        ),
        Score(
            "spearman", "Depth rank ↑", "Depth rank: Spearman's rank correlation of the judge's depth with the target."
        ),
    )
    said = "a number for each pixel"
    believed = "correlation with the target depth"
    maximised = "the correlation of depth with the target"
    reads = ("image_size",)

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.data.image_size, self.data.image_size)

    def fitted(self, answers: Tensor) -> Tensor:
        return resized(answers, self.data.image_size) if answers.ndim == 3 else answers

    def mirrored(self, truths: Tensor) -> Tensor:
        return truths.flip(-1)

    def supervised(self, answers: Tensor, truths: Tensor) -> Tensor:
        """Return the mean squared error, of distillation too (paper, section 4.2)."""
        return F.mse_loss(single(answers), single(truths))

    def objective(self, targets: Tensor) -> Objective:
        """Return -1/2 the squared distance of the standardised maps: H W (r - 1), r their correlation.

        Invariant to scale (above 0) and shift of both maps, as MiDaS's loss (equation 5 there), with mean and
        standard deviation in place of the median and the mean absolute deviation: their gradients are smooth.
        """
        wanted = standardised(targets)

        def objective(answers: Tensor) -> Tensor:
            return -0.5 * (standardised(answers) - wanted).square().sum(dim=(1, 2))

        return objective

    def read_target(self, path: Path) -> Tensor | None:
        values = read_map(path)
        if values is None:
            return None
        if self.maps == "metres" and not (values > 0).all():
            raise DataError(f"{path}: holds {float(values.min()):g}, which is no distance in metres")
        values = _NEARNESS[self.maps](values)
        target = resized(values.float(), self.data.image_size)
        if values.min() == values.max() or target.min() == target.max():
            raise DataError(f"{path}: is the same depth everywhere, which is no target")
        return target

    def belief(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Correlate both maps."""
        return (standardised(answers) * standardised(targets)).mean(dim=(1, 2))

    def statistics(self, answers: Tensor, targets: Tensor) -> dict[str, Tensor]:
        near, far = answers.float().flatten(1), targets.float().flatten(1)
        return {"abs_rel": absolute_relative_error(near, far), "spearman": spearman(near, far)}

    def draw(self, axis: Any, target: Tensor) -> None:
        axis.imshow(target.numpy(), cmap="magma")


def standardised(maps: Tensor) -> Tensor:
    """Bring each map (H, W) of a batch to mean 0 and deviation 1; a flat one is all but 0."""
    values = single(maps)
    centred = values - values.mean(dim=(1, 2), keepdim=True)
    variance = centred.square().mean(dim=(1, 2), keepdim=True)
    least = _FLAT * values.detach().abs().amax(dim=(1, 2), keepdim=True).clamp_min(1)
    return centred * (variance + least.square()).rsqrt()


def absolute_relative_error(answers: Tensor, targets: Tensor) -> Tensor:
    """Return the mean |a - t| / t of maps (B, pixels), both as parts of the target's range, in [1, 2]: (B,).

    The answer is first brought to the target by the scale (not below 0) and shift that fit best, as MiDaS is
    evaluated. The range stands in for metric depth, which neither has: t = 1 is the farthest pixel.
    """
    low, high = targets.amin(1, keepdim=True), targets.amax(1, keepdim=True)
    wanted = 1 + (targets - low) / (high - low).clamp_min(_FLAT)
    a, t = (x - x.mean(1, keepdim=True) for x in (answers, wanted))
    scale = (a * t).sum(1, keepdim=True) / a.square().sum(1, keepdim=True).clamp_min(_FLAT**2)
    fitted = scale.clamp_min(0) * a + wanted.mean(1, keepdim=True)
    return ((fitted - wanted).abs() / wanted).mean(1)


def spearman(answers: Tensor, targets: Tensor) -> Tensor:
    """Return Spearman's correlation of maps (B, pixels), in [-1, 1]: (B,). Equal values share their mean rank."""
    a, t = (ranks(x) - (x.shape[1] - 1) / 2 for x in (answers, targets))
    norm = (a.square().sum(1) * t.square().sum(1)).sqrt()
    return (a * t).sum(1) / norm.clamp_min(_FLAT)


def ranks(values: Tensor) -> Tensor:
    """Rank each value in its row (B, n), from 0; equal values get the mean of their ranks."""
    values = values.contiguous()  # or each search copies them, and warns
    ordered = values.sort(dim=1).values
    first = torch.searchsorted(ordered, values)
    last = torch.searchsorted(ordered, values, right=True) - 1
    return (first + last).double() / 2
