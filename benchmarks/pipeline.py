"""The peer with a library: diffusers' DDIMPipeline over the same network, with a guidance hook written by hand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import DDIMPipeline, DDIMScheduler
from torch import Tensor, nn

from benchmarks import networks
from benchmarks.plain import Score, cond_fn
from ppap.config.preset import Preset
from ppap.diffusion.sampling import Seeds
from ppap.utils.seeds import Stream, mix


class WrappedUNet(nn.Module):
    """A network(x_t, t) behind what the pipeline uses of diffusers' UNet2DModel."""

    dtype = torch.float32

    def __init__(self, network: nn.Module, image_size: int, channels: int) -> None:
        super().__init__()
        self.network = network
        self.config = SimpleNamespace(sample_size=image_size, in_channels=channels)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def forward(self, sample: Tensor, timestep: Tensor) -> SimpleNamespace:
        t = timestep.expand(len(sample)).to(sample.device)
        return SimpleNamespace(sample=self.network(sample, t).float()[:, : sample.shape[1]])


def new_pipeline(preset: Preset, network: nn.Module, score: Score | None) -> Any:
    """The pipeline over this network, guided by the gradient of this score if there is one."""
    unet = WrappedUNet(network, preset.dataset.image_size, preset.dataset.channels)
    betas = networks.full_schedule(preset).betas
    scheduler: Any = DDIMScheduler(len(betas), trained_betas=betas)
    pipeline: Any = DDIMPipeline(unet, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    if score is not None:
        pipeline.scheduler.step = guided_step(pipeline.scheduler, score)
    return pipeline


def guided_step(scheduler: Any, score: Score) -> Callable[..., Any]:
    """A scheduler's step with a hook after it (DDIM, eta 0).

    To guide is to take sqrt(1 - abar) g from eps (Dhariwal & Nichol 2021, algorithm 2), so that x_{t-1} moves by
    (sqrt(abar' / abar) (1 - abar) - sqrt((1 - abar') (1 - abar))) g, where abar' is of the step before.
    """
    plain_step = scheduler.step

    def step(model_output: Tensor, timestep: Tensor, sample: Tensor, **how: Any) -> Any:
        out = plain_step(model_output, timestep, sample, **how)
        t = int(timestep)
        before = t - len(scheduler.betas) // scheduler.num_inference_steps
        abar = float(scheduler.alphas_cumprod[t])
        previous = float(scheduler.alphas_cumprod[before]) if before >= 0 else 1.0
        share = (previous / abar) ** 0.5 * (1 - abar) - ((1 - previous) * (1 - abar)) ** 0.5
        gradient = cond_fn(score, sample, timestep.expand(len(sample)).to(sample.device))
        out.prev_sample = out.prev_sample + share * gradient
        return out

    return step


def draw(pipeline: Any, seeds: Seeds) -> Tensor:
    """Images (B, C, H, W) in [0, 1] of DDIM-25, each from a generator of its own, as ours are."""
    generators = [torch.Generator().manual_seed(mix(Stream.INITIAL_NOISE, *s)) for s in seeds]
    found: Tensor = pipeline(
        len(seeds), generators, num_inference_steps=networks.STEPS,
        use_clipped_model_output=True, output_type="pt",
    ).images  # fmt: skip
    return found
