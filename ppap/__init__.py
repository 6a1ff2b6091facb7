"""Practical plug-and-play diffusion (PPAP): off-the-shelf vision models guide pretrained diffusion models.

Go et al., "Towards Practical Plug-and-Play Diffusion Models", CVPR 2023, arXiv 2212.05973.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ppap.utils.errors import PPAPError as PPAPError

if TYPE_CHECKING:
    from ppap.data.images import to_tensor as to_tensor
    from ppap.data.images import to_uint8 as to_uint8
    from ppap.diffusion.diffusers_pipelines import guided as guided
    from ppap.diffusion.loading import load_adm as load_adm
    from ppap.diffusion.loading import load_pipeline as load_pipeline
    from ppap.diffusion.model import DiffusionModel as DiffusionModel
    from ppap.diffusion.sampling import SamplingStep as SamplingStep
    from ppap.diffusion.sampling import sample as sample
    from ppap.diffusion.sampling import sampling_steps as sampling_steps
    from ppap.diffusion.schedules import Schedule as Schedule
    from ppap.experts.bank import ExpertBank as ExpertBank
    from ppap.experts.bank import load_experts as load_experts
    from ppap.experts.ensemble import train_experts as train_experts
    from ppap.experts.settings import AdapterConfig as AdapterConfig
    from ppap.guides.goal import Goal as Goal
    from ppap.guides.guide import Guide as Guide
    from ppap.guides.loading import load_guide as load_guide
    from ppap.guides.loading import wrap_guide as wrap_guide
    from ppap.training.settings import Training as Training
    from ppap.workflow.finished_run import FinishedRun as FinishedRun
    from ppap.workflow.finished_run import open_run as open_run

__version__ = "0.4.0"

_NAMES = {
    "data.images": "to_tensor to_uint8",
    "diffusion.diffusers_pipelines": "guided",
    "diffusion.loading": "load_adm load_pipeline",
    "diffusion.model": "DiffusionModel",
    "diffusion.sampling": "SamplingStep sample sampling_steps",
    "diffusion.schedules": "Schedule",
    "experts.bank": "ExpertBank load_experts",
    "experts.ensemble": "train_experts",
    "experts.settings": "AdapterConfig",
    "guides.goal": "Goal",
    "guides.guide": "Guide",
    "guides.loading": "load_guide wrap_guide",
    "training.settings": "Training",
    "workflow.finished_run": "FinishedRun open_run",
}
_PLACES = {name: f"ppap.{module}" for module, names in _NAMES.items() for name in names.split()}
__all__ = sorted((*_PLACES, "PPAPError"))


def __getattr__(name: str) -> Any:
    """Load a name of the API when it is first used: completion in a shell does without torch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'ppap' has no attribute '{name}'")
    value = globals()[name] = getattr(importlib.import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
