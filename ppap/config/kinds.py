"""Names of kinds in a preset: their type, and the rule that there is what they name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ppap.utils.errors import ConfigError

if TYPE_CHECKING:
    from ppap.config.preset import Preset


def problems_of_kinds(preset: Preset) -> Iterator[str]:
    """There is what samplers, methods, guides and judges name, and methods have the keys of their kind of guidance."""
    for name in (*preset.guides, *preset.judges):
        try:
            preset.task(name)
        except ConfigError as error:
            yield f"{preset.key(name)}.task: {error}"
    for name in preset.samplers:
        try:
            preset.sampler(name)
        except ConfigError as error:
            yield f"samplers.{name}.kind: {error}"
    for name, method in preset.methods.items():
        try:
            experts = preset.guidance(name).experts
        except ConfigError as error:
            yield f"methods.{name}.guidance: {error}"
            continue
        given = {v is not None for v in (method.supervision, method.experts, method.trainable)}
        if given != {experts}:
            yield (
                f"methods.{name}: supervision, experts and trainable belong to guidance: experts, "
                "all three"
            )
        elif method.imported and not experts:
            yield f"methods.{name}: imported belongs to guidance: experts"
