"""Noise ranges: the division of the timesteps among experts, and the noise of a range by its level.

The level of noise is its log-SNR, log(abar / (1 - abar)), which falls with the timestep. Unlike the number of a
timestep it means the same in every schedule, and in every sampler.
"""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np

from ppap.diffusion.schedules import Schedule
from ppap.utils.errors import ConfigError

TrainedAt = Literal["range", "midpoint"]
"""The place in its range at which an expert is trained."""

Allocation = Literal["uniform", "log_snr", "reference"]

LIMIT = 30.0
"""Beyond this log-SNR, and its negative, there is no noise or no image, as far as float32 can tell."""


def noise_ranges(schedule: Schedule, experts: int, allocation: Allocation) -> list[range]:
    """Divide the T training timesteps among `experts`, from the least noise to the most.

    - uniform: expert n of N (from 1) owns (n-1)T/N <= t < nT/N (paper, section 4.1).
    - log_snr: ranges of equal width in log(abar / (1 - abar)), to the nearest timestep.
    - reference: uniform, but a timestep on a boundary belongs to the expert below, which the authors' sampler asks.

    The ranges partition range(T); ConfigError if one would be empty.
    """
    total = schedule.train_timesteps
    if allocation != "log_snr":
        below = allocation == "reference"
        bounds = [0, *(-(-n * total // experts) + below for n in range(1, experts)), total]
    else:
        low = schedule.log_snr[-1] if schedule.alphas_cumprod[-1] else schedule.log_snr[-2]  # not of pure noise
        edges = np.linspace(schedule.log_snr[0], low, experts + 1)[1:-1]
        inner = [int(np.abs(schedule.log_snr - edge).argmin()) for edge in edges]
        bounds = [0, *inner, total]
    ranges = [range(low, high) for low, high in itertools.pairwise(bounds)]
    if not all(ranges):
        raise ConfigError(f"{experts} experts over {total} timesteps ({allocation}) leave one without any")
    return ranges


def log_snr_range(schedule: Schedule, timesteps: range) -> tuple[float, float]:
    """Return the least and the greatest log-SNR of a range of a full schedule's timesteps, both within `LIMIT`.

    A bound lies halfway between two neighbouring timesteps, so that rounding changes no owner; the outermost two lie as
    far beyond the first and the last timestep.
    """
    levels = schedule.log_snr.clip(-LIMIT, LIMIT)
    around = np.pad(levels, 1, mode="reflect", reflect_type="odd")
    bounds = ((around[1:] + around[:-1]) / 2).clip(-LIMIT, LIMIT)
    return float(bounds[timesteps.stop]), float(bounds[timesteps.start])


def midpoint(timesteps: range) -> range:
    """Return the timestep in the middle of a range."""
    middle = (timesteps.start + timesteps.stop - 1) // 2
    return range(middle, middle + 1)
