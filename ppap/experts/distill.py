"""Losses that teach a noise-aware expert on x_t what the off-the-shelf model says of x_0.

Each takes the student's output and the teacher's and returns one number (paper, section 4.2).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Reduction = Literal["sum", "reference"]


def class_kl(
    student: Tensor, teacher: Tensor, tau: float = 0.25, reduction: Reduction = "sum"
) -> Tensor:
    """KL(softmax(teacher / tau) || softmax(student)) of logits (B, K), averaged over the batch.

    "sum" sums over the K classes; "reference" averages over them too, as the authors' code does.
    """
    loss = _kl(student, teacher, tau).sum() / len(student)
    return loss / student.shape[1] if reduction == "reference" else loss


def depth_mse(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared error of predicted depth maps (B, H, W)."""
    return F.mse_loss(student.float(), teacher.float())


def segmentation_kl(student: Tensor, teacher: Tensor, tau: float = 0.25) -> Tensor:
    """`class_kl` of every pixel, for logits (B, K, H, W), averaged over pixels and batch."""
    pixels = student.shape[0] * student.shape[2] * student.shape[3]
    return _kl(student, teacher, tau).sum() / pixels


def _kl(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    return F.kl_div(
        F.log_softmax(student.float(), dim=1),
        F.log_softmax(teacher.float() / tau, dim=1),
        reduction="none",
        log_target=True,
    )
