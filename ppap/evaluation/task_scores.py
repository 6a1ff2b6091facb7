"""How far samples meet the targets of a guide: statistics with an entry a sample, and the scores that they come to."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from ppap.data.images import to_tensor
from ppap.data.loading import Images, batches
from ppap.guides.tasks.classification import hits
from ppap.guides.tasks.task import Task
from ppap.utils.tensor_spec import Spec, TensorSpec, dtype_of


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
        wanted = targets[numbers[places]].to(device)
        parts.append(task.statistics(judge(to_tensor(batch)).float(), wanted))
    return {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}


def scores(task: Task, statistics: Mapping[str, Tensor]) -> dict[str, float]:
    """Compute the task's scores of samples with these statistics; none where nobody judged them."""
    return task.scored(statistics) if statistics else {}


def described(task: Task, count: int) -> Spec:
    """Describe the statistics of a task for this number of samples, which may be missing."""
    answers, wanted = torch.zeros(1, *task.shape), torch.zeros(1, *task.target_shape)
    each = task.statistics(answers, wanted.to(task.target_of(answers).dtype))
    return {
        name: TensorSpec((dtype_of(value),), (count, *value.shape[1:]), optional=True) for name, value in each.items()
    }
