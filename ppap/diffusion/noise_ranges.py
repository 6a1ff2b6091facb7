"""Noise ranges: the division of the timesteps among experts."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np

from ppap.diffusion.schedules import Schedule
from ppap.utils.errors import ConfigError

Allocation = Literal["uniform", "log_snr"]


def noise_ranges(schedule: Schedule, experts: int, allocation: Allocation) -> list[range]:
    """Divide the T training timesteps among `experts`, from the least noise to the most.

    - uniform: expert n of N (from 1) owns (n-1)T/N <= t < nT/N (paper, section 4.1).
    - log_snr: ranges of equal width in log(abar / (1 - abar)), to the nearest timestep.

    The ranges partition range(T); ConfigError if one would be empty.
    """
    total = schedule.train_timesteps
    if allocation == "uniform":
        bounds = [-(-n * total // experts) for n in range(experts + 1)]
    else:
        low = schedule.log_snr[-1] if schedule.alphas_cumprod[-1] else schedule.log_snr[-2]  # not of pure noise
        edges = np.linspace(schedule.log_snr[0], low, experts + 1)[1:-1]
        inner = [int(np.abs(schedule.log_snr - edge).argmin()) for edge in edges]
        bounds = [0, *inner, total]
    ranges = [range(low, high) for low, high in itertools.pairwise(bounds)]
    if not all(ranges):
        raise ConfigError(f"{experts} experts over {total} timesteps ({allocation}) leave one without any")
    return ranges
