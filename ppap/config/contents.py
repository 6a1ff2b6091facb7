"""The contents of a preset: names, vision models, and the files of others that it speaks of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ppap.data.settings import Download
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils.errors import ConfigError
from ppap.utils.settings import DIFFUSION, EVALUATOR

if TYPE_CHECKING:
    from ppap.config.preset import Preset


def sources(preset: Preset) -> Iterator[tuple[str, Download]]:
    """Every file of somebody else that the preset names itself, and its key."""
    found: list[tuple[str, Download | None]] = [
        (f"{DIFFUSION}.{key}", source) for key, source in preset.diffusion.downloads.items()
    ]
    found += [(f"{EVALUATOR}.{key}", file) for key, file in preset.evaluator.downloads.items()]
    found += [(f"{preset.key(name)}.weights", spec.weights) for name, spec in networks(preset)]
    return ((key, source) for key, source in found if source is not None)


def networks(preset: Preset) -> list[tuple[str, NetworkConfig]]:
    """The preset's vision models by name: its guides, the judges, the evaluator, and the evaluator's classifier."""
    names = (*preset.guides, *preset.judges, *preset.evaluator.networks)
    named = ((name, preset.network(name)) for name in names)
    return [(name, spec) for name, spec in named if spec is not None]


def known(preset: Preset, kind: str, name: str) -> None:
    """ConfigError unless the preset has this guide, sampler, method or table."""
    names = getattr(preset, kind)
    if name not in names:
        raise ConfigError(
            f"{kind}: preset {preset.name} has no '{name}' (it has {', '.join(names)})"
        )
