"""Guidance and samplers of the user's own: their answers are checked, and errors name them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ppap.diffusion.denoiser import Denoiser, Prediction
from ppap.diffusion.guidance import Guidance, GuideAt, Objective
from ppap.diffusion.samplers import NoiseSource, State
from ppap.utils import user_code
from ppap.utils.errors import UserCodeError


class UserGuidance:
    """What a class of the user's own makes of a guide; UserCodeError where it fails, or answers wrongly."""

    def __init__(
        self,
        name: str,
        create: Callable[[GuideAt | None, Objective, float], Any],
        guide: GuideAt | None,
        objective: Objective,
        scale: float,
    ) -> None:
        self.name = name
        with user_code.running(name, "guidance", torch.OutOfMemoryError):
            self.guidance = create(guide, objective, scale)

    def __call__(
        self, denoiser: Denoiser, x: Tensor, step: int
    ) -> tuple[Prediction, Tensor | None]:
        with user_code.running(self.name, "guidance", torch.OutOfMemoryError):
            answer = self.guidance(denoiser, x, step)
        if problem := _problem(answer, x):
            raise UserCodeError(f"guidance '{self.name}': returns {problem}")
        prediction, gradient = answer
        detached = Prediction(*(part.detach() for part in prediction))
        return detached, None if gradient is None else gradient.detach()


def _problem(answer: Any, x: Tensor) -> str | None:
    """What is wrong with the answer of guidance for x, if anything is."""
    wanted = "a Prediction and a gradient were expected"
    if not isinstance(answer, tuple) or len(answer) != 2 or not isinstance(answer[0], Prediction):
        return f"{type(answer).__name__!r}; {wanted}"
    for part, value in {**answer[0]._asdict(), "gradient": answer[1]}.items():
        if value is None and part == "gradient":
            continue
        if not isinstance(value, Tensor) or value.shape != x.shape:
            shown = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            return f"{part} {shown}; {tuple(x.shape)} was expected, as of x_t"
    return None


def user_sampler(
    name: str,
    function: Callable[..., Iterator[State]],
    denoiser: Denoiser,
    guidance: Guidance,
    state: State,
    noise: NoiseSource,
    eta: float,
) -> Iterator[State]:
    """The states that a function of the user's own yields; UserCodeError unless each is a step further, to the last."""
    left = state.steps_left
    with user_code.running(name, "sampler", torch.OutOfMemoryError):
        for reached in function(denoiser, guidance, state, noise, eta):
            left -= 1
            if not isinstance(reached, State) or reached.steps_left != left:
                raise UserCodeError(f"sampler '{name}': yields no State with {left} steps left")
            if not isinstance(reached.x, Tensor) or reached.x.shape != state.x.shape:
                raise UserCodeError(
                    f"sampler '{name}': yields an x other than {tuple(state.x.shape)}"
                )
            yield reached
    if left:
        raise UserCodeError(f"sampler '{name}': ends with {left} steps left")
