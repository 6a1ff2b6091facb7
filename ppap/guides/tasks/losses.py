"""The precision of losses, and the divergence that distillation minimises for answers that are probabilities."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def single(values: Tensor) -> Tensor:
    """Convert values to float32, if their precision is lower."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def kl(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """Return KL(softmax(teacher / tau) || softmax(student)) of logits (B, K, ...), before it is summed over K."""
    return F.kl_div(
        F.log_softmax(single(student), dim=1),
        F.log_softmax(single(teacher) / tau, dim=1),
        reduction="none",
        log_target=True,
    )
