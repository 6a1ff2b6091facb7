"""The choice of a run's guidance scale."""

from __future__ import annotations

from ppap.config.preset import Preset


def guidance_scale(preset: Preset, sampler: str, guide: str, method: str | None = None) -> float:
    """Return the scale of a run.

    It is the method's own for this guide (`methods.NAME.scales`) if it has one, else the guide's for this sampler
    (`guides.NAME.scales`), else the sampler's (`samplers.NAME.scale`).
    """
    if method is not None and guide in preset.methods[method].scales:
        return preset.methods[method].scales[guide]
    own = preset.guides[guide].scales
    return own[sampler] if sampler in own else preset.samplers[sampler].scale
