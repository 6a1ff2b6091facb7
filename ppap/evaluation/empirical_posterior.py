"""The exact posterior of the class of a noisy image, where clean images are spread as the training images are."""

from __future__ import annotations

import torch
from torch import Tensor

_CHUNK = 1 << 22  # distances at a time


class EmpiricalPosterior:
    """p(y | x_t) by Bayes' rule, with the training images as prior: each of the N equally likely to be x_0.

    p(y | x_t) is proportional to the sum, over the training images x_0 of class y, of
    N(x_t; sqrt(abar) x_0, (1 - abar) I). No classifier of x_t is right more often on images drawn from that prior.
    On other images it is what the training images alone tell: much noise hides what they leave out, so that their
    spread is as good as the true one and the posterior's accuracy is the limit; at little noise it is their nearest
    neighbour, which a network that generalises may beat.
    """

    def __init__(self, images: Tensor, classes: Tensor, count: int) -> None:
        """Training images (N, C, H, W) in [-1, 1], and their classes (N,), whole numbers below `count`."""
        self._images = images.flatten(1).float()
        self._squared = self._images.double().square().sum(1)
        self._members = [(classes == y).nonzero().flatten() for y in range(count)]

    def __call__(self, x: Tensor, abar: float) -> Tensor:
        """log p(y | x_t) of x_t (B, C, H, W): (B, classes), in float64; abar is alphas_cumprod at t."""
        size = max(1, _CHUNK // len(self._images))
        with torch.autocast(x.device.type, enabled=False):
            parts = [self._classes(part, abar) for part in x.flatten(1).float().split(size)]
        return torch.cat(parts)

    def _classes(self, x: Tensor, abar: float) -> Tensor:
        # |x|^2, which is the same for all x_0, is left out
        distances = abar * self._squared - 2 * abar**0.5 * (x @ self._images.T).double()
        weights = torch.log_softmax(-distances / (2 * (1 - abar)), dim=1)  # of each x_0: (B, N)
        return torch.stack([weights[:, mine].logsumexp(1) for mine in self._members], dim=1)
