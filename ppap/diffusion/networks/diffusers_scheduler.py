"""The configuration of a scheduler of diffusers, read into plain facts about its diffusion model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, Field, ValidationError

from ppap.diffusion.denoiser import Clip, Process
from ppap.diffusion.schedules import Array, Levels, PredictionName, Schedule, Spacing, SpacingName, VarianceName
from ppap.utils.errors import ConfigError, reason

PREDICTIONS: dict[str, PredictionName] = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
"""The predictions of networks, by diffusers' names."""
_VARIANCES: dict[str, VarianceName] = {
    "fixed_small": "fixed_small",
    "fixed_small_log": "fixed_small",  # the same variance, by way of its logarithm
    "fixed_large": "fixed_large",
    "learned_range": "learned_range",
}
_DIFFUSION = ("epsilon", "sample", "v_prediction")
_NO_X0 = ("epsilon", "v_prediction")
FLOW = ("flow_prediction",)
SCHEDULERS = {
    **dict.fromkeys(("DDIM", "DDIMParallel", "DDPM", "DDPMParallel", "CogVideoXDDIM", "LCM", "TCD"), _DIFFUSION),
    **dict.fromkeys(("DPMSolverMultistep", "DPMSolverSinglestep", "DEISMultistep"), _DIFFUSION),
    **dict.fromkeys(("UniPCMultistep", "SASolver"), _DIFFUSION),
    **dict.fromkeys(("EulerDiscrete", "HeunDiscrete", "LMSDiscrete"), _DIFFUSION),
    **dict.fromkeys(("EulerAncestralDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete", "DPMSolverSDE"), _NO_X0),
    "PNDM": _NO_X0,
    **dict.fromkeys(("FlowMatchEulerDiscrete", "FlowMatchHeunDiscrete", "FlowMatchLCM"), FLOW),
}
"""The schedulers that are tested, by class, and the predictions that they know what to do with."""
_LIKE_DDPM = {
    f"{name}Scheduler"
    for name, known in SCHEDULERS.items()
    if known is not FLOW and name not in ("CogVideoXDDIM", "LCM", "TCD")
}
"""The schedulers for networks that were trained as DDPM's are, on noise of given betas."""
_FLOWS = {"FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"}
"""The schedulers for flows; some of those above take one's levels as well, with `use_flow_sigmas`."""

Asked = Callable[[int], Mapping[str, Any]]
"""The arguments of `set_timesteps` that a pipeline adds to a number of steps."""


class _Settings(BaseModel):
    """The keys of a scheduler that decide what samplers here do, with the defaults that diffusers gives DDPM and DDIM.

    The others say how its own sampler goes about it.
    """

    num_train_timesteps: int = 1000
    prediction_type: Literal["epsilon", "sample", "v_prediction"] = "epsilon"
    variance_type: Literal["fixed_small", "fixed_small_log", "fixed_large", "learned_range"] = "fixed_small"
    clip_sample: bool = True
    clip_sample_range: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    thresholding: bool = False
    dynamic_thresholding_ratio: Annotated[float, Field(gt=0, le=1)] = 0.995
    sample_max_value: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 1.0
    timestep_spacing: SpacingName = "leading"
    steps_offset: Annotated[int, Field(ge=0)] = 0
    set_alpha_to_one: bool = True
    rescale_betas_zero_snr: bool = False
    timestep_type: Literal["discrete"] = "discrete"
    use_flow_sigmas: Literal[False] = False

    @property
    def clip(self) -> Clip:
        if self.thresholding:
            return Clip(self.sample_max_value, self.dynamic_thresholding_ratio)
        return Clip(self.clip_sample_range if self.clip_sample else None)


def process_of(config: Mapping[str, Any], kind: object, source: str) -> Process:
    """Read how a diffusion model is drawn from, out of the configuration of a scheduler of this class of diffusers.

    A key that it does not give has the default of diffusers' DDIM, as where diffusers changes a pipeline's scheduler.
    ConfigError, naming `source` and the key, for a class or value that samplers here cannot honour.
    """
    if str(kind) not in _LIKE_DDPM:
        raise ConfigError(f"{source}: _class_name: {kind}; samplers here draw what a scheduler like DDPM's draws")
    given = _given(config)
    try:
        said = _Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = str(first["loc"][0])
        raise ConfigError(f"{source}: {key}: {given[key]!r}: {first['msg']}") from None
    spacing = Spacing(said.timestep_spacing, said.steps_offset, said.set_alpha_to_one)
    try:
        import diffusers

        betas = getattr(diffusers, str(kind)).from_config(given).betas.double().cpu().numpy()
        schedule = Schedule.of_betas(betas, spacing)
    except Exception as error:  # whatever a stranger's numbers lead to
        raise ConfigError(f"{source}: its settings make no {kind} ({reason(error)})") from None
    if len(betas) != said.num_train_timesteps:
        raise ConfigError(f"{source}: num_train_timesteps: {said.num_train_timesteps}, but {len(betas)} trained_betas")
    if said.rescale_betas_zero_snr and betas[-1] < 1:
        raise ConfigError(f"{source}: rescale_betas_zero_snr: True, which {kind} does not know")
    return Process(schedule, _VARIANCES[said.variance_type], PREDICTIONS[said.prediction_type], said.clip)


def is_flow(config: Mapping[str, Any], kind: object) -> bool:
    """Tell whether a scheduler of this class and configuration draws by a flow."""
    return str(kind) in _FLOWS or (bool(config.get("use_flow_sigmas")) and str(kind) in _LIKE_DDPM)


def flow_process_of(config: Mapping[str, Any], kind: object, source: str, asked: Asked = lambda steps: {}) -> Process:
    """Read how a flow is drawn, out of the configuration of a scheduler of this class of diffusers.

    Its levels are those of the scheduler, asked as the pipeline asks it; so are, in as many steps as there are timesteps,
    those of training. ConfigError, naming `source` and the key, for what samplers here cannot honour.
    """
    if config.get("invert_sigmas"):
        raise ConfigError(f"{source}: invert_sigmas: True; sigma must be the share of noise")
    predicts = config.get("prediction_type", "flow_prediction")
    if predicts != "flow_prediction":
        raise ConfigError(f"{source}: prediction_type: {predicts!r}; that of a flow is flow_prediction")
    given = _given(config)

    def levels(steps: int) -> tuple[Array, Array]:
        import diffusers

        scheduler = getattr(diffusers, str(kind)).from_config(given)
        scheduler.set_timesteps(steps, **asked(steps))
        sigmas, first = np.unique(
            scheduler.sigmas.double().cpu().numpy()[: len(scheduler.timesteps)], return_index=True
        )
        return sigmas, scheduler.timesteps.double().cpu().numpy()[first]

    try:
        schedule = Schedule.flow(levels(int(given.get("num_train_timesteps", 1000)))[0], Levels(levels))
    except Exception as error:  # whatever a stranger's numbers lead to
        raise ConfigError(f"{source}: its settings make no {kind} ({reason(error)})") from None
    return Process(schedule, "fixed_small", "flow", Clip(None))


def _given(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what is no setting, and what an object of diffusers has of its class's defaults, not as given to it."""
    defaults = config.get("_use_default_values", ())
    return {k: v for k, v in config.items() if not (k.startswith("_") or k in defaults or v is None)}
