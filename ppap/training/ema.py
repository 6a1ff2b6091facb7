"""The exponential moving average of weights, which replaces them at the end of a training."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class EMA:
    """Averages a_k of parameters w_k: a_k = d a_(k-1) + (1 - d) w_k, where d = min(decay, (1 + k) / (10 + k)).

    A decay of 0 averages nothing: the weights stay as they are.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.averages = [p.detach().clone() for p in parameters] if decay else []

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        if self.averages:
            decay = min(self.decay, (1 + step) / (10 + step))
            torch._foreach_lerp_(self.averages, [p.detach() for p in self.parameters], 1 - decay)

    def load(self, averages: Sequence[Tensor]) -> None:
        """Go on from the averages of a checkpoint."""
        for mine, saved in zip(self.averages, averages, strict=True):
            mine.copy_(saved)

    def apply(self) -> None:
        """Put the averages in the place of the weights."""
        for parameter, average in zip(self.parameters, self.averages, strict=False):
            parameter.data.copy_(average)
