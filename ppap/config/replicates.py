"""Replicates of a preset: the same preset with other seeds, under a name of its own."""

from __future__ import annotations

from ppap.config.preset import Preset
from ppap.utils.errors import ConfigError
from ppap.utils.seeds import mix


def replicate(preset: Preset, number: int) -> Preset:
    """Return the preset of one replicate; the one whose number is the preset's `seed` is the preset itself.

    All that is drawn by chance is drawn anew. With the same noise in all replicates, what it does to the results would be
    in none of their error bars. ConfigError if the preset has no such replicate.
    """
    if number == preset.seed:
        return preset
    if number not in preset.replicates:
        there = ", ".join(map(str, preset.replicates or (preset.seed,)))
        raise ConfigError(f"replicates: preset {preset.name} has no {number} (it has {there})")
    clean, sampling = preset.clean_images, preset.sampling
    return preset.replaced(
        preset=f"{preset.name}/replicates/{number}",
        seed=number,
        replicates=(),
        clean_images=clean.model_copy(update={"seed": mix(number, clean.seed)}),
        sampling=sampling.model_copy(update={"seeds": tuple(mix(number, seed) for seed in sampling.seeds)}),
    )
