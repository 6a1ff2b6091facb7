"""The kinds of samplers, by their names in presets: facts about each, and the function, loaded when built."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol

from ppap.diffusion.schedules import ddim_timesteps, ddpm_timesteps
from ppap.utils import user_code
from ppap.utils.errors import UserCodeError
from ppap.utils.registry import Registry

if TYPE_CHECKING:
    from ppap.diffusion.samplers import Sampler


class Settings(Protocol):
    """A sampler's section of a preset, as far as samplers read it."""

    @property
    def eta(self) -> float: ...


@dataclass(frozen=True)
class SamplerKind:
    """What the rest of the package knows of one kind of sampler.

    The user's own kind is a function with the signature of `samplers.ddim`; it states these facts as attributes
    of the same names, where they differ from the defaults here.
    """

    load: Callable[[], Callable[..., Any]]
    timesteps: Callable[[int, int], list[int]] = ddpm_timesteps
    """The timesteps it keeps, increasing, of T and the number of steps."""
    eta: float | None = None
    """How much noise it adds; None: as the preset says."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Keys of its section that it reads, beside those that all samplers read."""
        return ("eta",) if self.eta is None else ()

    def build(self, settings: Settings) -> Sampler:
        """The sampler with its noise."""
        eta = settings.eta if self.eta is None else self.eta
        return functools.partial(self.load(), eta=eta)


def _ddim() -> Callable[..., Any]:
    from ppap.diffusion import samplers

    return samplers.ddim


def _ddpm() -> Callable[..., Any]:
    from ppap.diffusion import samplers

    return samplers.ddpm


def _of_user(name: str, found: Any) -> SamplerKind:
    """The kind that a function of the user's own is; UserCodeError if it states what is no fact."""
    eta, timesteps = getattr(found, "eta", None), getattr(found, "timesteps", ddpm_timesteps)
    if eta is not None and (not isinstance(eta, int | float) or not 0 <= eta <= 1):
        raise UserCodeError(f"sampler '{name}': eta is {eta!r}; a number from 0 to 1 was expected")

    def load() -> Callable[..., Any]:
        from ppap.diffusion.user_kinds import user_sampler

        return functools.partial(user_sampler, name, found)

    return SamplerKind(load, functools.partial(_kept, name, timesteps), eta)


def _kept(name: str, timesteps: Callable[[int, int], Any], total: int, steps: int) -> list[int]:
    """The timesteps that the user's own sampler keeps; UserCodeError if these are none."""
    with user_code.running(name, "sampler"):
        kept = [int(t) for t in timesteps(total, steps)]
    if not kept or kept[0] < 0 or kept[-1] >= total or any(b <= a for a, b in pairwise(kept)):
        raise UserCodeError(
            f"sampler '{name}': keeps {str(kept)[:100]}; increasing timesteps below {total} were expected"
        )
    return kept


SAMPLERS = Registry(
    "sampler",
    {
        "ddim": SamplerKind(_ddim, ddim_timesteps),
        "ddpm": SamplerKind(_ddpm, ddpm_timesteps, eta=1.0),
    },
    "function",
    _of_user,
)
