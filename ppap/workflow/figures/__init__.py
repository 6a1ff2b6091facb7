"""The figures of a preset: their kinds, and which of them a preset has."""

from __future__ import annotations

from ppap.config.preset import Preset
from ppap.utils.errors import ConfigError
from ppap.workflow.figures.calibration import Calibration
from ppap.workflow.figures.confidence import Confidence
from ppap.workflow.figures.gradients import Gradients
from ppap.workflow.figures.kind import FigureKind
from ppap.workflow.figures.noisy_inputs import NoisyInputs
from ppap.workflow.figures.of_tables import Metrics, Parameters, Scales, Tradeoff
from ppap.workflow.figures.samples import Samples

_ALL = (
    *(Calibration(), Confidence(), Gradients(), Metrics(), NoisyInputs()),
    *(Parameters(), Samples(), Scales(), Tradeoff()),
)
KINDS: dict[str, FigureKind] = {kind.name: kind for kind in _ALL}


def figure_names(preset: Preset, of_replicates: bool = False) -> list[str]:
    """List the figures of a preset's own run, or of all its replicates."""
    kinds = (kind for kind in KINDS.values() if _has(preset, kind))
    chosen = (kind for kind in kinds if (kind.of_replicates and bool(preset.replicates)) == of_replicates)
    return [kind.title(guide) for kind in chosen for guide in kind.guides(preset)]


def _has(preset: Preset, kind: FigureKind) -> bool:
    return kind.table in preset.tables and not (kind.of_x_t and preset.diffusion.latent_space)


def figure_of(preset: Preset, name: str) -> tuple[FigureKind, str]:
    """Return a figure's kind, and the guide that it is about ("" if about all); ConfigError if there is none such."""
    for kind in KINDS.values():
        guide = name.removeprefix(kind.name).removeprefix("_")
        if kind.title(guide) == name and _has(preset, kind) and guide in kind.guides(preset):
            return kind, guide
    there = ", ".join(figure_names(preset) + figure_names(preset, of_replicates=True))
    raise ConfigError(f"no figure '{name}' (there are {there})")
