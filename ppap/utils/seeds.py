"""Random numbers that depend on what they are for, not on batch, shard, job or restart."""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor

_BLOCK_NUMBERS = 1 << 14


class Stream(IntEnum):
    """The use of a random number; streams never share numbers."""

    TRAINING = 0
    INITIAL_WEIGHTS = 1
    INITIAL_NOISE = 2
    STEP_NOISE = 3
    CLASSES = 4
    SPLIT = 5
    EPOCH = 6
    CROP = 7
    UPSAMPLING = 8
    NOISY_INPUTS = 9
    HELD_OUT = 10
    ESTIMATES = 11
    PROMPTS = 12
    GUIDANCE = 13


def mix(*parts: int) -> int:
    """Return one 64-bit seed from several whole numbers."""
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def name_seed(seed: int, name: str) -> int:
    """Return a seed of its own for each named thing of a run."""
    return mix(seed, *name.encode())


def initial_noise(seeds: list[tuple[int, int]], shape: tuple[int, ...]) -> Tensor:
    """Draw x_T for samples (run seed, index), each from its own generator: (len(seeds), *shape)."""
    return torch.stack([torch.randn(shape, generator=_generator(Stream.INITIAL_NOISE, *s)) for s in seeds])


def upsampling_seeds(seeds: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """List the seeds of a cascade's second stage, for those of its first: the two stages share no noise."""
    return [(mix(Stream.UPSAMPLING, seed), index) for seed, index in seeds]


def guidance_seeds(seeds: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """List the seeds of what guidance draws, for those of the samples: it shares no noise with their steps."""
    return [(mix(Stream.GUIDANCE, seed), index) for seed, index in seeds]


def noise_at(timestep: int, places: range, shape: tuple[int, ...]) -> Tensor:
    """Return the noise of held-out images with these places at a timestep: (len(places), *shape)."""
    return torch.stack([torch.randn(shape, generator=_generator(Stream.NOISY_INPUTS, timestep, i)) for i in places])


def estimate_noise(seed: tuple[int, int], shape: tuple[int, ...]) -> Tensor:
    """Return the noise of the stored estimates of a clean image (run seed, index)."""
    return torch.randn(shape, generator=_generator(Stream.ESTIMATES, *seed))


class StepNoise:
    """The noise of every sampling step: sample i's at step k depends on its seed, i and k only.

    Steps are drawn in blocks, so that small images need few draws and large ones little memory.
    """

    def __init__(self, seeds: list[tuple[int, int]], shape: tuple[int, ...], device: torch.device) -> None:
        self.seeds, self.shape, self.device = seeds, shape, device
        self.steps_per_block = max(1, _BLOCK_NUMBERS // math.prod(shape))
        self._block = -1
        self._noise = torch.empty(0)

    def __call__(self, step: int) -> Tensor:
        block, offset = divmod(step, self.steps_per_block)
        if block != self._block:
            shape = (self.steps_per_block, *self.shape)
            draws = [torch.randn(shape, generator=_generator(Stream.STEP_NOISE, *s, block)) for s in self.seeds]
            self._noise, self._block = torch.stack(draws, dim=1), block
        return self._noise[offset].to(self.device)


def balanced_classes(seed: int, count: int, classes: list[int]) -> Tensor:
    """Return `count` of these classes, each as often as others (but for a remainder), in a seeded order: (count,)."""
    generator = _generator(Stream.CLASSES, seed)
    return torch.tensor(classes)[torch.randperm(count, generator=generator) % len(classes)]


def balanced_prompts(seeds: list[tuple[int, int]], prompts: int) -> list[int]:
    """Return the number of the prompt of each image (run seed, index): among as many images as there are, each once.

    Their order is seeded, apart from that of classes, and does not depend on how many images there are.
    """
    orders: dict[tuple[int, int], list[int]] = {}
    for seed, index in seeds:
        key = seed, index // prompts
        if key not in orders:
            orders[key] = torch.randperm(prompts, generator=_generator(Stream.PROMPTS, *key)).tolist()
    return [orders[seed, index // prompts][index % prompts] for seed, index in seeds]


def _generator(*parts: int) -> torch.Generator:
    return torch.Generator().manual_seed(mix(*parts))
