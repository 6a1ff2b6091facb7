"""The divergence that distillation minimises, for answers that are probabilities."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def kl(student: Tensor, teacher: Tensor, tau: float) -> Tensor:
    """KL(softmax(teacher / tau) || softmax(student)) of logits (B, K, ...), before it is summed over K."""
    return F.kl_div(
        F.log_softmax(student.float(), dim=1),
        F.log_softmax(teacher.float() / tau, dim=1),
        reduction="none",
        log_target=True,
    )
