"""The noise in the samples that a scheduler of diffusers steps from, and how a gradient changes what it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from torch import Tensor

from ppap.diffusion.networks.diffusers_scheduler import FLOW, PREDICTIONS, SCHEDULERS
from ppap.diffusion.schedules import Array, PredictionName
from ppap.utils.errors import ConfigError

_SHIFTS: dict[str, Callable[[float, float], float]] = {  # of g, where x_t = a x0 + s eps and a^2 + s^2 = 1
    "epsilon": lambda a, s: -s,
    "sample": lambda a, s: s**2 / a,  # x0 = (x_t - s eps) / a
    "v_prediction": lambda a, s: -s / a,  # v = a eps - s x0
    "flow_prediction": lambda a, s: -s * (a + s) / a,  # v = eps - x0
}
_OF_A_FLOW = ("epsilon", "sample", "flow_prediction")  # with use_flow_sigmas
_HALF_STEPS: dict[str, Callable[[Any], Any]] = {  # sigma at the second call of a step, which is not that of its end
    "KDPM2Discrete": lambda scheduler: scheduler.sigmas_interpol[scheduler.step_index],
    "KDPM2AncestralDiscrete": lambda scheduler: scheduler.sigmas_interpol[scheduler.step_index - 1],
    "DPMSolverSDE": lambda scheduler: scheduler.mid_point_sigma,
}


_LOST = 2.0**-23
"""Up to this signal power x_t is noise alone, as far as float32 can tell; schedulers put 2^-24 in the place of 0."""
_LOST_IN_A_FLOW = 2.0**-14
"""Sigma 0.992: from beyond, a flow's first step goes to many times the signal, and would take a guess as many times."""


class SchedulerNoise:
    """The noise in the samples that a scheduler's `step` is given, in one frame for all schedulers.

    This is x_t = sqrt(abar) x0 + sqrt(1 - abar) eps. Samples of a flow, (1 - sigma) x0 + sigma eps, and those whose
    noise explodes, x0 + sigma eps, are that times a number. ConfigError, by its name and the key, for a scheduler whose
    noise is not known.
    """

    def __init__(self, scheduler: Any) -> None:
        self.scheduler, name = scheduler, type(scheduler).__name__
        classes = [each.__name__.removesuffix("Scheduler") for each in type(scheduler).__mro__]
        kind = next((each for each in classes if each in SCHEDULERS), None)
        if kind is None:
            raise ConfigError(f"{name}: cannot be guided; {', '.join(sorted(SCHEDULERS))} can")
        self.kind, known = kind, SCHEDULERS[kind]
        self.flow = known is FLOW or bool(scheduler.config.get("use_flow_sigmas"))
        if self.flow and known is not FLOW:
            known = _OF_A_FLOW
        self._predicts = scheduler.config.get("prediction_type", known[0])
        if self._predicts not in known:
            raise ConfigError(f"{name}: prediction_type: {self._predicts}; one of {', '.join(known)} was expected")
        if scheduler.config.get("invert_sigmas"):
            raise ConfigError(f"{name}: invert_sigmas: its sigmas are shares of the image, not of the noise")

    @property
    def predicts(self) -> PredictionName:
        """The prediction of the network."""
        return "flow" if self._predicts == "flow_prediction" else PREDICTIONS[self._predicts]

    def lost(self, abar: float) -> bool:
        """Tell whether nothing of the image is left to be guided."""
        return abar <= (_LOST_IN_A_FLOW if self.flow else _LOST)

    @property
    def betas(self) -> Array:
        """The betas (T,) that its levels of noise come from; of a flow, which has levels of its own, none."""
        return np.empty(0) if self.flow else self.scheduler.betas.cpu().double().numpy()

    def share(self, index: int) -> float:
        """Return the share of the steps that are done before the call of this number, of which a step may have two."""
        calls, order = len(self.scheduler.timesteps), self.scheduler.order
        return index // order / -(-calls // order)

    def index(self, timestep: Any) -> int:
        """Return the number of the call that comes next."""
        if not hasattr(self.scheduler, "sigmas"):
            return int((self.scheduler.timesteps > timestep).sum())
        if self.scheduler.step_index is None:
            self.scheduler._init_step_index(timestep)
        return int(self.scheduler.step_index)

    def seen(self, sample: Tensor, timestep: Any) -> tuple[Tensor, float]:
        """Return x_t, of a sample as the next call is given it, and its signal power abar; both may be half a step's."""
        if not hasattr(self.scheduler, "sigmas"):
            abar = float(self.scheduler.alphas_cumprod[int(timestep)])
        else:
            index = self.index(timestep)
            half = self.kind in _HALF_STEPS and not self.scheduler.state_in_first_order
            sigma = float(_HALF_STEPS[self.kind](self.scheduler) if half else self.scheduler.sigmas[index])
            if self.flow:
                return sample / math.hypot(1 - sigma, sigma), self._abar(sigma)
            abar = self._abar(sigma)
        return self.scheduler.scale_model_input(sample, timestep), abar

    def shift(self, abar: float) -> float:
        """Return what the prediction changes by where eps changes by -sqrt(1 - abar)."""
        return _SHIFTS[self._predicts](abar**0.5, (1 - abar) ** 0.5)

    def ahead(self, timestep: Any) -> Iterator[tuple[int, float]]:
        """Yield the number and the signal power of the next call and of those after it, half steps aside."""
        first = self.index(timestep)
        if hasattr(self.scheduler, "sigmas"):
            levels = [self._abar(float(sigma)) for sigma in self.scheduler.sigmas[first:-1]]
        else:
            levels = [float(self.scheduler.alphas_cumprod[int(t)]) for t in self.scheduler.timesteps[first:]]
        yield from enumerate(levels, first)

    def _abar(self, sigma: float) -> float:
        return (1 - sigma) ** 2 / math.hypot(1 - sigma, sigma) ** 2 if self.flow else 1 / (1 + sigma**2)
