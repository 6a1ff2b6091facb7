"""The choice of a run's guidance scale."""

from __future__ import annotations

from ppap.config.preset import Preset


def guidance_scale(preset: Preset, sampler: str, guide: str) -> float:
    """Return the scale of a guide's runs with a sampler, one for every method.

    It is the guide's own for this sampler (`guides.NAME.scales`) if it has one, else the sampler's
    (`samplers.NAME.scale`).
    """
    own = preset.guides[guide].scales
    return own[sampler] if sampler in own else preset.samplers[sampler].scale
