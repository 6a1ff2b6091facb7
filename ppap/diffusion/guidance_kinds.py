"""The kinds of guidance, by their names in presets: facts about each, and the class that does it, loaded when built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ppap.utils.errors import UserCodeError
from ppap.utils.registry import Registry

if TYPE_CHECKING:
    from ppap.diffusion.guidance import Guidance, GuideAt, Objective


@dataclass(frozen=True)
class GuidanceKind:
    """What the rest of the package knows of one kind of guidance.

    The user's own kind is a class with the signature of `build`; it states these facts as class attributes
    of the same names, where they differ from the defaults here.
    """

    load: Callable[[], Callable[..., Guidance]]
    guided: bool = True
    """A guide is used. Without one, all guides of a table share the samples."""
    experts: bool = False
    """The guide is replaced by noise-aware experts, each for its own timesteps."""
    through_denoiser: bool = False
    """The gradient goes through the diffusion network, which costs as much again."""
    sees_x_t: bool = False
    """The guide is asked about x_t itself, so that its answers there can be shown."""
    drawn: bool = True
    """Samples are drawn; otherwise real pictures that show the targets stand in for them, the best that can be."""

    @property
    def reads(self) -> tuple[str, ...]:
        """Keys of its method that say which experts these are, beside `guidance`."""
        return ("supervision", "experts", "trainable") if self.experts else ()

    def build(self, guide: GuideAt | None, objective: Objective, scale: float) -> Guidance:
        """Guidance by `guide` (None if none is used) towards `objective`; its gradients include `scale`."""
        return self.load()(guide, objective, scale)


FACTS: dict[str, Any] = {
    fact.name: fact.default for fact in fields(GuidanceKind) if fact.name != "load"
}


def _none() -> Callable[..., Guidance]:
    from ppap.diffusion.guidance import NoGuidance

    return lambda guide, objective, scale: NoGuidance()


def _noisy_input() -> Callable[..., Guidance]:
    from ppap.diffusion.guidance import NoisyInputGuidance

    return NoisyInputGuidance


def _x0_gradient() -> Callable[..., Guidance]:
    from ppap.diffusion.guidance import X0Gradient

    return X0Gradient


def _of_user(name: str, found: Any) -> GuidanceKind:
    """The kind that a class of the user's own is; UserCodeError if it states what is no fact."""
    facts = {fact: getattr(found, fact, default) for fact, default in FACTS.items()}
    for fact, value in facts.items():
        if not isinstance(value, bool):
            raise UserCodeError(
                f"guidance '{name}': {fact} is {value!r}; True or False was expected"
            )

    def load() -> Callable[..., Guidance]:
        from ppap.diffusion.user_kinds import UserGuidance

        return lambda guide, objective, scale: UserGuidance(name, found, guide, objective, scale)

    return GuidanceKind(load, **facts)


GUIDANCE = Registry(
    "guidance",
    {
        "none": GuidanceKind(_none, guided=False),
        "off_the_shelf": GuidanceKind(_noisy_input, sees_x_t=True),
        "x0_gradient": GuidanceKind(_x0_gradient, through_denoiser=True),
        "real": GuidanceKind(_none, drawn=False),
        "experts": GuidanceKind(_noisy_input, experts=True, sees_x_t=True),
    },
    "class",
    _of_user,
)
