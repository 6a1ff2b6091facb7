"""The registry of kinds of guidance, by their names in presets: the paper's, their rivals, and the user's own."""

from __future__ import annotations

from typing import Any, cast

from ppap.diffusion.guidance import FACTS, GRADIENTS, Guidance, NoGuidance, RealPictures
from ppap.diffusion.rivals import (
    AdamNormalised,
    AveragedGradients,
    Changed,
    EluCD,
    EntropyScaled,
    EveryKthStep,
    Interval,
)
from ppap.diffusion.tfg import TFG
from ppap.utils.errors import ConfigError
from ppap.utils.registry import Registry


def _with_facts(name: str, kind: Any) -> type[Guidance]:
    """Return a class with all facts; ConfigError if one of the user's own is neither true nor false.

    A kind that changes another one has the other's: it uses the same guide, in the same place.
    """
    changed = isinstance(kind, type) and issubclass(kind, Changed)
    for fact in FACTS:
        of = kind.changes() if changed and fact != "stepwise" else kind
        value = getattr(of, fact, getattr(Guidance, fact))
        if not isinstance(value, bool):
            raise ConfigError(f"guidance '{name}': {fact} is {value!r}; True or False was expected")
        setattr(kind, fact, value)
    return cast(type[Guidance], kind)


_CHANGED: dict[str, type[Changed]] = {
    "averaged_estimate": AveragedGradients,
    "adam_normalised": AdamNormalised,
    "elucd": EluCD,
    "entropy_scaled": EntropyScaled,
    "interval": Interval,
    "every_kth": EveryKthStep,
}

GUIDANCE: Registry[type[Guidance]] = Registry(
    "guidance",
    {
        "none": NoGuidance,
        **{name: GRADIENTS.get(name) for name in GRADIENTS},
        "real": RealPictures,
        "tfg": TFG,
        **{name: _with_facts(name, kind) for name, kind in _CHANGED.items()},
    },
    "class",
    _with_facts,
)
