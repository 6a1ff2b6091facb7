"""The purposes of a preset's experts: what each must have been made for."""

from __future__ import annotations

from pathlib import Path

from ppap.config.preset import Preset
from ppap.experts.expert import Purpose
from ppap.utils import files


def purpose_of(preset: Preset, guide: str, method: str, weights: Path | None = None) -> Purpose:
    """Return what an expert of this guide and method is made for; whatever the weights if none are given."""
    spec = preset.methods[method]
    return purpose(preset, guide, method, str(spec.supervision), str(spec.trainable), weights)


def purpose(
    preset: Preset, guide: str, method: str, supervision: str, trainable: str, weights: Path | None = None
) -> Purpose:
    """Return the purpose of a method's experts, or a shared start's, by what these learn from and what they train."""
    adapter, adapted = preset.guides[guide].adapter, trainable == "adapter"
    return Purpose(
        guide=preset.guides[guide].model,
        guide_sha256=None if weights is None else files.sha256(weights),
        timesteps=preset.diffusion.timesteps,
        noise_schedule=preset.diffusion.noise_schedule,
        method=method,
        supervision=supervision,
        trainable=trainable,
        rank=adapter.rank if adapted else None,
        lora_scale=adapter.alpha / adapter.rank if adapted else None,
    )
