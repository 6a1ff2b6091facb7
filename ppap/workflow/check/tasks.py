"""Tasks on trial: losses, objective and scores of a guide's task, on answers that are noise."""

from __future__ import annotations

import torch
from torch import Tensor

from ppap.config import Preset
from ppap.utils.errors import UserCodeError
from ppap.workflow.targets import task_of

_IMAGES = 2


def check_task(preset: Preset, guide: str) -> None:
    """What experts minimise and guidance raises is finite, and has a gradient for the answers; the scores can be had."""
    task, name = task_of(preset, guide), preset.task_name(guide)
    generator = torch.Generator().manual_seed(0)
    teacher, student = torch.randn((2, _IMAGES, *task.shape), generator=generator)
    student.requires_grad_()
    _learnable(name, "distillation", task.distillation(student, teacher, preset.experts), student)
    try:
        targets = task.target_of(teacher)
    except UserCodeError:  # a task whose targets are never what a guide says of a picture
        return
    _learnable(name, "supervised", task.supervised(student, targets), student)
    _learnable(name, "the objective", task.objective(targets)(student).sum(), student)
    task.belief(teacher, targets)
    task.scored(task.statistics(teacher, targets))


def _learnable(task: str, what: str, value: Tensor, answers: Tensor) -> None:
    if not torch.isfinite(value):
        raise UserCodeError(f"task '{task}': {what} is not finite for answers that are noise")
    (gradient,) = (
        torch.autograd.grad(value, answers, allow_unused=True) if value.requires_grad else (None,)
    )
    if gradient is None:
        raise UserCodeError(f"task '{task}': {what} has no gradient for the answers")
