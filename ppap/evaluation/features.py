"""Features of images, and how far samples meet the targets of a guide: statistics with an entry a sample."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ppap.data.images import to_tensor
from ppap.data.loading import Images, batches
from ppap.evaluation.evaluator import Extractor
from ppap.guides.tasks.classification import hits
from ppap.guides.tasks.task import Task
from ppap.utils.progress import Bar
from ppap.utils.tensor_spec import Spec, TensorSpec, dtype_of


@torch.inference_mode()
def features_of(images: Images, extract: Extractor, batch_size: int, device: torch.device) -> dict[str, Tensor]:
    """Extract the evaluator's answers on images, uint8 (N, H, W, C), batch by batch: (N, ...) each, on the CPU.

    These are `features` (N, D) and `logits` (N, K), and with some evaluators `predicted` (N,), see Extractor.
    """
    parts: dict[str, list[Tensor]] = {}
    indices = torch.arange(len(images)).split(batch_size)
    read = batches(images, indices, device)
    for batch in Bar(read, "features", len(indices), unit="batch"):
        for name, value in extract(batch.permute(0, 3, 1, 2)).items():
            parts.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def class_statistics(classes: Tensor | None, targets: Tensor) -> dict[str, Tensor]:
    """Compare the classes that an evaluator sees (N,) with those asked for (N,); nothing if it sees none."""
    return {} if classes is None else hits(classes, targets)


@torch.inference_mode()
def picture_statistics(
    images: Images,
    judge: Callable[[Tensor], Tensor],
    task: Task,
    targets: Tensor,
    numbers: Tensor,
    batch_size: int,
    device: torch.device,
) -> dict[str, Tensor]:
    """Compare a judge's answers on samples, uint8 (N, H, W, C), with what they were guided to: (N, ...) each.

    `targets` (M, ...) are all targets, of which sample i has the one at place `numbers[i]`.
    """
    parts, indices = [], torch.arange(len(images)).split(batch_size)
    for places, batch in zip(indices, batches(images, indices, device), strict=True):
        answers = judge(to_tensor(batch)).float()
        parts.append(task.held_against(answers, targets.to(device), numbers[places].to(device)))
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def describe_statistics(task: Task, count: int) -> Spec:
    """Describe the statistics of a task for this number of samples, which may be missing."""
    answers, wanted = torch.zeros(1, *task.shape), torch.zeros(1, *task.target_shape)
    each = task.held_against(answers, wanted.to(task.target_of(answers).dtype), torch.zeros(1, dtype=torch.long))
    return {
        name: TensorSpec((dtype_of(value),), (count, *value.shape[1:]), optional=True) for name, value in each.items()
    }
