"""Segmentation: a guide says of each pixel what it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ppap.diffusion.guidance import Objective
from ppap.guides.tasks.depth_and_label_maps import read_map, resized, resized_labels
from ppap.guides.tasks.losses import kl, single
from ppap.guides.tasks.task import Score, Settings, Task
from ppap.utils.errors import DataError

VOID = -1
"""The label of pixels that say nothing: they guide nothing, and are not judged."""
_VOID_IN_FILES = 255  # as in Pascal VOC


class Segmentation(Task):
    """Answers are logits (B, K, H, W), truths and targets label maps (B, H, W) of whole numbers below K."""

    scores = (
        Score(
            "miou",
            "Mean IoU ↑",
            "Mean IoU: overlap of an independent judge's labels with the target's, the mean over labels.",
        ),
        Score(
            "pixel_accuracy",
            "Pixels ↑",
            "Pixels: share of pixels in which the judge sees the target's label.",
            1, 100, "%",
        ),
    )  # fmt: skip
    said = "a number for each label and pixel"
    believed = "share of pixels with the target label"
    maximised = "log p(target labels | x_t)"
    outputs = "segments"
    reads = ("image_size",)
    distils_with = ("tau",)

    @property
    def shape(self) -> tuple[int, ...]:
        assert self.data.segments is not None
        return (self.data.segments, self.data.image_size, self.data.image_size)

    @property
    def target_shape(self) -> tuple[int, ...]:
        return self.shape[1:]

    def fitted(self, answers: Tensor) -> Tensor:
        return resized(answers, self.data.image_size) if answers.ndim == 4 else answers

    def mirrored(self, truths: Tensor) -> Tensor:
        return truths.flip(-1)

    def supervised(self, answers: Tensor, truths: Tensor) -> Tensor:
        """Return the cross-entropy, the mean over pixels."""
        return F.cross_entropy(single(answers), truths, ignore_index=VOID)

    def distillation(self, student: Tensor, teacher: Tensor, settings: Settings) -> Tensor:
        return segmentation_kl(student, teacher, settings.tau)

    def objective(self, targets: Tensor) -> Objective:
        """Sum log p(label | x) over the pixels."""

        def objective(answers: Tensor) -> Tensor:
            losses = F.cross_entropy(single(answers), targets, ignore_index=VOID, reduction="none")  # (B, H, W)
            return -losses.sum(dim=(1, 2))

        return objective

    def target_of(self, answers: Tensor) -> Tensor:
        """Take the likeliest labels."""
        return answers.argmax(dim=1)

    def read_target(self, path: Path) -> Tensor | None:
        values = read_map(path, self.shape[0])
        if values is None:
            return None
        labels, segments = values.long(), self.shape[0]
        known, void_in_file = (labels >= 0) & (labels < segments), max(_VOID_IN_FILES, segments)
        void = labels == void_in_file
        if (labels != values).any() or not (known | void).all():
            odd = values[(labels != values) | ~(known | void)]
            raise DataError(
                f"{path}: holds {float(odd[0]):g}; labels are whole numbers from 0 to {segments - 1}, "
                f"and {void_in_file} for none"
            )
        target = resized_labels(torch.where(known, labels, VOID), self.data.image_size)
        if (target == VOID).all():
            raise DataError(f"{path}: no pixel has a label")
        return target

    def belief(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Count the share of pixels whose likeliest label is the target's."""
        judged = targets != VOID
        right = (answers.argmax(dim=1) == targets) & judged
        return right.sum(dim=(1, 2)) / judged.sum(dim=(1, 2))

    def statistics(self, answers: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Count pixels of each label, in both maps and in either, and pixels that are right, and that are judged."""
        labels, judged = torch.arange(self.shape[0], device=targets.device), targets != VOID
        predicted = torch.where(judged, answers.argmax(dim=1), VOID)
        mine, theirs = ((x[..., None] == labels).flatten(1, 2) for x in (predicted, targets))
        pixels = {
            "intersection": (mine & theirs).sum(1),
            "union": (mine | theirs).sum(1),
            "right": ((predicted == targets) & judged).sum(dim=(1, 2)),
            "judged": judged.sum(dim=(1, 2)),
        }
        return {name: count.int() for name, count in pixels.items()}

    def scored(self, statistics: Mapping[str, Tensor]) -> dict[str, float]:
        """Return the mean IoU of the labels that are there at all, over all samples, and the share of pixels right."""
        total = {name: counts.double().sum(0) for name, counts in statistics.items()}
        there = total["union"] > 0
        overlap = total["intersection"][there] / total["union"][there]
        return {"miou": float(overlap.mean()), "pixel_accuracy": float(total["right"] / total["judged"])}

    def draw(self, axis: Any, target: Tensor) -> None:
        shown = target.double()
        shown[target == VOID] = torch.nan
        axis.imshow(shown.numpy(), cmap="tab20", vmin=0, vmax=max(19, self.shape[0] - 1))


def segmentation_kl(student: Tensor, teacher: Tensor, tau: float = 0.25) -> Tensor:
    """Return KL(softmax(teacher / tau) || softmax(student)) of logits (B, K, H, W), averaged over pixels and batch."""
    pixels = student.shape[0] * student.shape[2] * student.shape[3]
    return kl(student, teacher, tau).sum() / pixels
