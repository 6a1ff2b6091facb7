"""Practical plug-and-play diffusion (PPAP): off-the-shelf vision models guide pretrained diffusion models.

Go et al., "Towards Practical Plug-and-Play Diffusion Models", CVPR 2023, arXiv 2212.05973.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ppap.utils.errors import PPAPError

if TYPE_CHECKING:
    from ppap.data.images import to_tensor, to_uint8
    from ppap.diffusion.diffusers_pipelines import guided
    from ppap.diffusion.loading import load_adm, load_pipeline
    from ppap.diffusion.model import DiffusionModel
    from ppap.diffusion.sampling import SamplingStep, sample, sampling_steps
    from ppap.diffusion.schedules import Schedule
    from ppap.experts.bank import ExpertBank, load_experts
    from ppap.experts.ensemble import train_experts
    from ppap.experts.settings import AdapterConfig
    from ppap.guides.goal import Goal
    from ppap.guides.guide import Guide
    from ppap.guides.loading import load_guide, wrap_guide
    from ppap.training.settings import Training
    from ppap.workflow.finished_run import FinishedRun, open_run

__version__ = "0.3.0"

_PLACES = {
    "AdapterConfig": "experts.settings",
    "DiffusionModel": "diffusion.model",
    "ExpertBank": "experts.bank",
    "FinishedRun": "workflow.finished_run",
    "Goal": "guides.goal",
    "Guide": "guides.guide",
    "SamplingStep": "diffusion.sampling",
    "Schedule": "diffusion.schedules",
    "Training": "training.settings",
    "guided": "diffusion.diffusers_pipelines",
    "load_adm": "diffusion.loading",
    "load_experts": "experts.bank",
    "load_guide": "guides.loading",
    "load_pipeline": "diffusion.loading",
    "open_run": "workflow.finished_run",
    "sample": "diffusion.sampling",
    "sampling_steps": "diffusion.sampling",
    "to_tensor": "data.images",
    "to_uint8": "data.images",
    "train_experts": "experts.ensemble",
    "wrap_guide": "guides.loading",
}

__all__ = [
    "AdapterConfig",
    "DiffusionModel",
    "ExpertBank",
    "FinishedRun",
    "Goal",
    "Guide",
    "PPAPError",
    "SamplingStep",
    "Schedule",
    "Training",
    "guided",
    "load_adm",
    "load_experts",
    "load_guide",
    "load_pipeline",
    "open_run",
    "sample",
    "sampling_steps",
    "to_tensor",
    "to_uint8",
    "train_experts",
    "wrap_guide",
]


def __getattr__(name: str) -> Any:
    """A name of the API, loaded when it is first used: the command line does without torch where it can."""
    if name not in _PLACES:
        raise AttributeError(f"module 'ppap' has no attribute '{name}'")
    found = getattr(importlib.import_module(f"ppap.{_PLACES[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
