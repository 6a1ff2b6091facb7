"""The runs of a preset: its own, and its replicates below results/PRESET/replicates."""

from __future__ import annotations

from dataclasses import replace

from ppap.config.replicates import replicate
from ppap.workflow.layout import Layout


def runs(layout: Layout) -> list[Layout]:
    """List the layouts of a preset's replicates: its own first, then those with other seeds."""
    others = (number for number in layout.preset.replicates if number != layout.preset.seed)
    return [layout, *(replace(layout, preset=replicate(layout.preset, number)) for number in others)]


def renamed(layout: Layout, name: str) -> Layout:
    """Return the layout with another name of the preset, which may be a wildcard."""
    return replace(layout, preset=layout.preset.model_copy(update={"preset": name}))
