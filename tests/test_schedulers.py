"""Pipelines drawn by our samplers: what their schedulers say, against diffusers' own loops with an exact network."""

import itertools
import random

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel
from torch import Tensor

import ppap
from ppap.diffusion.guidance import NoGuidance
from ppap.diffusion.networks.diffusers_scheduler import process_of
from ppap.diffusion.samplers import SAMPLERS, State, respaced

TINY = {
    "sample_size": 4, "in_channels": 1, "out_channels": 1, "layers_per_block": 1, "norm_num_groups": 2,
    "block_out_channels": (8, 8), "down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2,
}  # fmt: skip
MEANS, DEVIATION = (-0.7, 0.9), 0.3


class Exact(UNet2DModel):
    """A U-Net by its name alone: what a perfect network predicts of a mixture of two normal distributions."""

    def told(self, scheduler: DDPMScheduler, learns: bool = False) -> "Exact":
        self.abar, self.predicts = scheduler.alphas_cumprod.double(), scheduler.config.prediction_type
        self.learns = learns
        return self

    def forward(self, x: Tensor, t: Tensor, return_dict: bool = True) -> tuple[Tensor]:
        abar, seen = self.abar[int(t.flatten()[0])], x.double()
        variance = abar * DEVIATION**2 + 1 - abar
        away = torch.stack([seen - abar.sqrt() * mean for mean in MEANS])
        shares = (-0.5 * away.square() / variance).softmax(0)
        x0 = sum(
            s * (m + abar.sqrt() * DEVIATION**2 / variance * a) for s, m, a in zip(shares, MEANS, away, strict=True)
        )
        eps = (seen - abar.sqrt() * x0) / (1 - abar).sqrt()
        v = abar.sqrt() * eps - (1 - abar).sqrt() * x0
        out = {"epsilon": eps, "sample": x0, "v_prediction": v}[self.predicts].float()
        return (torch.cat([out, x.tanh()], 1) if self.learns else out,)


NETWORKS = [Exact(**TINY), Exact(**TINY | {"out_channels": 2})]


def ours(scheduler: object, kind: str, steps: int, eta: float, learns: bool = False) -> Tensor:
    process = process_of(scheduler.config, type(scheduler).__name__, "scheduler")
    model = ppap.DiffusionModel(NETWORKS[learns].told(scheduler, learns), (1, 4, 4), *process)
    sampler, generator = SAMPLERS.get(kind), torch.Generator().manual_seed(1)
    denoiser = model.on(respaced(model.schedule, sampler, steps))
    with torch.no_grad():
        *_, last = sampler(
            denoiser, NoGuidance(), State(len(denoiser.schedule), start()),
            lambda step: torch.randn((6, 1, 4, 4), generator=generator), eta,
        )  # fmt: skip
    return last.x


def theirs(scheduler: object, steps: int, learns: bool = False, **how: object) -> Tensor:
    unet = NETWORKS[learns].told(scheduler, learns)
    scheduler.set_timesteps(steps)
    x, generator = start(), torch.Generator().manual_seed(1)
    for t in scheduler.timesteps:
        x = scheduler.step(unet(x, t)[0], t, x, generator=generator, **how).prev_sample
    return x


def start() -> Tensor:
    return torch.randn((6, 1, 4, 4), generator=torch.Generator().manual_seed(0))


T = 24
BETAS = [
    {"beta_schedule": "linear", "beta_end": 0.5}, {"beta_schedule": "linear", "beta_end": 0.6, "rescale_betas_zero_snr": True},
    {"beta_schedule": "scaled_linear", "beta_end": 0.6}, {"beta_schedule": "squaredcos_cap_v2"},
    {"beta_schedule": "squaredcos_cap_v2", "rescale_betas_zero_snr": True},
    {"trained_betas": [0.01 + i * 0.02 for i in range(T)]}, {"trained_betas": [1 / (T + 1 - i) for i in range(T)]},
]  # fmt: skip
CLIPS = [
    {"clip_sample": False}, {}, {"clip_sample_range": 0.8}, {"clip_sample_range": 3.0},
    {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5},
]  # fmt: skip
SPACINGS = [{}, {"steps_offset": 1}, {"timestep_spacing": "linspace"}, {"timestep_spacing": "trailing"}]


def can_be_drawn(scheduler: object, steps: int) -> bool:
    """Neither does a timestep lie beyond the last, nor is eps asked of pure noise."""
    scheduler.set_timesteps(steps)
    last = int(scheduler.timesteps[0])
    return last < T and bool(scheduler.config.prediction_type != "epsilon" or scheduler.alphas_cumprod[last] > 0)


@pytest.mark.fast
@pytest.mark.parametrize("predicts", ["epsilon", "sample", "v_prediction"])
def test_ddim_draws_what_the_ddim_of_diffusers_draws_whatever_the_scheduler_says(predicts: str) -> None:
    every = list(
        itertools.product(BETAS, CLIPS, SPACINGS, [{}, {"set_alpha_to_one": False}], [5, 6, T], [0.0, 0.7, 1.0])
    )
    for betas, clip, spacing, last, steps, eta in random.Random(predicts).sample(every, 70):
        said = {"num_train_timesteps": T, "prediction_type": predicts, **betas, **clip, **spacing, **last}
        scheduler = DDIMScheduler(**said)
        if not can_be_drawn(scheduler, steps):
            with pytest.raises(ppap.PPAPError, match=r"zero terminal SNR|offset=1"):
                ours(scheduler, "ddim", steps, eta)
            continue
        drawn = ours(scheduler, "ddim", steps, eta)
        expected = theirs(scheduler, steps, eta=eta, use_clipped_model_output=True)
        assert drawn.isfinite().all(), said
        if expected.isfinite().all():  # theirs may take the root of -1e-8
            torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4, msg=f"{said} {steps} {eta}")


@pytest.mark.parametrize("kind", ["fixed_small", "fixed_small_log", "fixed_large", "learned_range"])
def test_ddpm_draws_what_the_ddpm_of_diffusers_draws_whatever_the_scheduler_says(kind: str) -> None:
    learns = kind == "learned_range"
    betas = [*BETAS, {"beta_schedule": "sigmoid", "beta_end": 0.5}, {"beta_schedule": "laplace"}]
    every = list(itertools.product(betas, CLIPS, SPACINGS, ["epsilon", "sample", "v_prediction"], [5, 6, T]))
    for beta, clip, spacing, predicts, steps in random.Random(kind).sample(every, 60):
        said = {"num_train_timesteps": T, "prediction_type": predicts, **beta, **clip, **spacing, "variance_type": kind}
        scheduler = DDPMScheduler(**said)
        if not can_be_drawn(scheduler, steps):
            continue
        expected = theirs(scheduler, steps, learns)
        if "small" not in kind and scheduler.timesteps[-1] > 0:
            continue  # theirs adds noise to the finished sample
        drawn = ours(DDPMScheduler(**said), "ddpm", steps, 1.0, learns)
        torch.testing.assert_close(drawn, expected, rtol=1e-4, atol=1e-4, msg=f"{said} {steps}")
