"""Noise schedules and timestep respacing: those of ADM (Dhariwal & Nichol 2021, arXiv 2105.05233), and of flows.

Any Gaussian path alpha x_0 + sigma eps is, but for a number at each step, the variance-preserving one of the same
log-SNR, x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps with log(abar / (1 - abar)) = 2 log(alpha / sigma). The package means
that x_t everywhere; a flow's network alone is asked in its own frame (`ppap.diffusion.denoiser`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ppap.utils.arguments import checked
from ppap.utils.errors import ConfigError

Array = NDArray[np.float64]
ScheduleName = Literal["linear", "cosine", "flow"]
VarianceName = Literal["learned_range", "fixed_small", "fixed_large"]
PredictionName = Literal["eps", "x0", "v", "flow"]
SpacingName = Literal["leading", "linspace", "trailing"]


def betas(name: ScheduleName, timesteps: int = 1000) -> Array:
    """Return betas of the forward process, shape (timesteps,), each in (0, 1).

    - linear: Ho et al. 2020, section 4, rescaled to any number of steps as in ADM.
    - cosine: Nichol & Dhariwal 2021 (arXiv 2102.09672), equation 17.
    - flow: of the rectified flow (Liu et al. 2022, arXiv 2209.03003), sigma = (t + 1) / timesteps; the last is 1.
    """
    if name == "flow":
        return flow_betas(np.arange(1, timesteps + 1) / timesteps)
    if name == "linear":
        scale = 1000 / timesteps
        if scale * 0.02 >= 1:
            raise ConfigError(f"the linear schedule needs more than 20 timesteps, not {timesteps}")
        return np.linspace(scale * 1e-4, scale * 0.02, timesteps, dtype=np.float64)

    def alpha_bar(u: float) -> float:
        return math.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2

    steps = [1 - alpha_bar((i + 1) / timesteps) / alpha_bar(i / timesteps) for i in range(timesteps)]
    return np.minimum(np.array(steps), 0.999)


def flow_betas(sigmas: Array) -> Array:
    """Return betas whose log-SNR is that of the flow (1 - sigma) x_0 + sigma eps, for increasing sigmas (T,) in (0, 1]."""
    abar = (1 - sigmas) ** 2 / ((1 - sigmas) ** 2 + sigmas**2)
    return 1 - abar / np.append(1.0, abar[:-1])


def ddim_timesteps(timesteps: int, steps: int) -> list[int]:
    """List `steps` timesteps at one integer stride from 0 (ADM's "ddimN"): 25 of 1000 are 0, 40, ..., 960."""
    for stride in range(1, timesteps + 1):
        kept = list(range(0, timesteps, stride))
        if len(kept) == steps:
            return kept
    raise ConfigError(f"no integer stride keeps {steps} of {timesteps} timesteps")


def trailing_timesteps(timesteps: int, steps: int) -> list[int]:
    """List `steps` timesteps at even distances, the last one among them: 25 of 1000 are 39, 79, ..., 999."""
    return Spacing("trailing").timesteps(timesteps, steps)


def ddpm_timesteps(timesteps: int, steps: int) -> list[int]:
    """List `steps` timesteps spread evenly from 0 to the last one (ADM's `space_timesteps` with one section)."""
    if not 1 <= steps <= timesteps:
        raise ConfigError(f"cannot keep {steps} of {timesteps} timesteps")
    stride = 1.0 if steps == 1 else (timesteps - 1) / (steps - 1)
    kept, position = [], 0.0
    for _ in range(steps):
        kept.append(round(position))
        position += stride
    return kept


@dataclass(frozen=True)
class Spacing:
    """The timesteps that schedulers of diffusers take (Lin et al. 2024, arXiv 2305.08891, table 2), by their keys.

    In DDIM a step from t reaches t - T // steps, whether it is one of these or not; the last reaches the clean image,
    or timestep 0 without `to_clean` (their `set_alpha_to_one`).
    """

    kind: SpacingName = "leading"
    offset: int = 0
    to_clean: bool = True

    def timesteps(self, total: int, steps: int) -> list[int]:
        """List so many timesteps of `total`, increasing; ConfigError if there are too few."""
        if not 1 <= steps <= total:
            raise ConfigError(f"cannot keep {steps} of {total} timesteps")
        if self.kind == "leading":
            return [i * (total // steps) + self.offset for i in range(steps)]
        if self.kind == "linspace":
            return [int(t) for t in np.linspace(0, total - 1, steps).round()]
        return [int(t) - 1 for t in np.arange(total, 0, -total / steps).round()[:steps][::-1]]

    def reached(self, full: Schedule, kept: Sequence[int]) -> Array:
        """Return alphas_cumprod, (len(kept),), that DDIM's steps from these timesteps reach."""
        stride, abar = full.train_timesteps // len(kept), full.alphas_cumprod
        last = 1.0 if self.to_clean else abar[0]
        return np.array([abar[t - stride] if t >= stride else last for t in kept])


@dataclass(frozen=True)
class Levels:
    """The levels of noise that a flow's own scheduler takes, which need not lie on the grid of training.

    `of` gives those of a number of steps: increasing sigmas, and what the network is told of each.
    """

    of: Callable[[int], tuple[Array, Array]]

    def kept(self, full: Schedule, steps: int) -> Schedule:
        """Return the steps at these levels; `timesteps` are the nearest ones of training."""
        sigmas, times = self.of(steps)
        distance = np.abs(sigmas[:, None] - np.asarray(full.times) / full.train_timesteps)
        nearest = tuple(distance.argmin(1).tolist())
        return replace(Schedule.flow(sigmas), timesteps=nearest, train_timesteps=full.train_timesteps, flow_times=times)


@checked
@dataclass(frozen=True)
class Schedule:
    """The kept timesteps of a schedule, with the coefficients of its posterior (Ho et al. 2020, eqs. 6-7).

    `timesteps[i]` is the training timestep of sampling step i; every array has shape (len(timesteps),). The network is
    told `times`: the timesteps, or of a flow T sigma. The `spacing` of a full schedule is the model's own: samplers take
    its timesteps, and DDIM's steps reach `reached`.
    """

    timesteps: tuple[int, ...]
    betas: Array
    train_timesteps: int
    spacing: Spacing | Levels | None = None
    reached: Array | None = None
    flow_times: Array | None = None

    @classmethod
    def create(cls, name: ScheduleName, timesteps: int) -> Schedule:
        """Make the full schedule, of training."""
        if name == "flow":
            return cls.flow(np.arange(1, timesteps + 1) / timesteps)
        return cls.of_betas(betas(name, timesteps))

    @classmethod
    def flow(cls, sigmas: Array, spacing: Spacing | Levels | None = None) -> Schedule:
        """Make the full schedule of a flow (1 - sigma) x_0 + sigma eps, with sigmas float64 (T,) as of `flow_betas`.

        Its network is told T sigma. ConfigError if the sigmas do not increase, or lie outside of (0, 1].
        """
        if sigmas.ndim != 1 or not len(sigmas) or not (np.diff(sigmas, prepend=0) > 0).all() or sigmas[-1] > 1:
            raise ConfigError("a flow's sigmas are increasing numbers above 0 and up to 1, one a timestep")
        return replace(cls.of_betas(flow_betas(sigmas), spacing), flow_times=len(sigmas) * sigmas)

    def keeping(self, kept: Sequence[int]) -> Schedule:
        """Return what is left of a full schedule where only the timesteps in `kept` (increasing) are taken."""
        abar = self.alphas_cumprod[list(kept)]
        previous = np.append(1.0, abar[:-1])
        times = None if self.flow_times is None else self.flow_times[list(kept)]
        return Schedule(tuple(kept), 1 - abar / previous, self.train_timesteps, flow_times=times)

    @classmethod
    def of_betas(cls, values: Array, spacing: Spacing | Levels | None = None) -> Schedule:
        """Make the full schedule with these betas, float64 (T,) in (0, 1); ConfigError if they are others.

        The last may be 1, which leaves pure noise (zero terminal SNR, Lin et al. 2024, arXiv 2305.08891).
        """
        if values.ndim != 1 or not len(values) or not ((values > 0) & (values <= 1)).all():
            raise ConfigError("a schedule's betas are numbers above 0 and up to 1, one a timestep")
        if not np.cumprod(1 - values)[:-1].all():
            raise ConfigError("a schedule's betas leave no signal before the last timestep")
        return cls(tuple(range(len(values))), values, len(values), spacing)

    def __len__(self) -> int:
        return len(self.timesteps)

    @property
    def times(self) -> Sequence[float]:
        """The timesteps that the network is told of each step."""
        return self.timesteps if self.flow_times is None else self.flow_times.tolist()

    @cached_property
    def alphas_cumprod(self) -> Array:
        """Product of (1 - beta) up to and including each step: signal power of x_t, decreasing in [0, 1)."""
        return np.cumprod(1 - self.betas, dtype=np.float64)

    @cached_property
    def alphas_cumprod_prev(self) -> Array:
        return np.append(1.0, self.alphas_cumprod[:-1])

    @cached_property
    def posterior_log_variance_clipped(self) -> Array:
        """log of the posterior variance; the first is 0 there, so the second stands in for it."""
        variance = self.betas * (1 - self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)
        return np.log(np.append(variance[1] if len(variance) > 1 else self.betas[0], variance[1:]))

    @cached_property
    def posterior_mean_coef1(self) -> Array:
        """Weight of x0 in the posterior mean."""
        return self.betas * np.sqrt(self.alphas_cumprod_prev) / (1 - self.alphas_cumprod)

    @cached_property
    def posterior_mean_coef2(self) -> Array:
        """Weight of x_t in the posterior mean."""
        return (1 - self.alphas_cumprod_prev) * np.sqrt(1 - self.betas) / (1 - self.alphas_cumprod)

    @cached_property
    def log_snr(self) -> Array:
        """log(abar / (1 - abar)) of each step, decreasing; -inf of pure noise."""
        with np.errstate(divide="ignore"):
            return np.log(self.alphas_cumprod) - np.log1p(-self.alphas_cumprod)
