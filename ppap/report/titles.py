"""Names for people: of methods, samplers and scores, as tables and figures print them."""

from __future__ import annotations

import re

from ppap.diffusion.samplers import SAMPLERS
from ppap.guides.tasks.task import Score

METHODS = {
    "none": "none",
    "naive": "naive off-the-shelf",
    "x0_gradient": "x0-gradient",
    "single_noise_aware": "single noise-aware",
    "multi_experts_5": "multi-experts-5",
    "ppap_5": "PPAP-5",
    "ppap_10": "PPAP-10",
    "real": "(real pictures)",
}


def method_title(name: str) -> str:
    return METHODS.get(name, name)


def sampler_title(name: str) -> str:
    """Return DDIM-25 for `ddim25`, DDIM-25 (third) for `ddim25_third`, Euler-25 for `euler25`; other names as they are."""
    parts = re.fullmatch(rf"({'|'.join(SAMPLERS)})(\d+)(?:_(.+))?", name)
    if not parts:
        return name
    kind, steps, variant = parts.groups()
    named = kind.upper() if kind in ("ddim", "ddpm") else kind.capitalize()
    return f"{named}-{steps}" + (f" ({variant.replace('_', ' ')})" if variant else "")


def axis_title(score: Score) -> str:
    """Join a score's name, its unit, and the arrow to where it is better."""
    name, _, arrow = score.title.rpartition(" ")
    return f"{name} ({score.unit}) {arrow}" if score.unit else score.title
