"""The step `estimate`: the diffusion model's estimates of clean images from noisy ones, for experts that see those."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import torch

from ppap.config.preset import Preset
from ppap.config.runs import estimate_timesteps, stores_estimates
from ppap.data.images import to_tensor
from ppap.data.shards import LATENT
from ppap.diffusion.denoiser import add_noise
from ppap.utils import files
from ppap.utils.mixed_precision import autocast
from ppap.utils.progress import Bar
from ppap.utils.seeds import estimate_noise
from ppap.workflow import networks, prompts, stored_images
from ppap.workflow.layout import Layout, size_of
from ppap.workflow.reads import CLEAN, estimate_keys, prompt_keys
from ppap.workflow.step import Step


@dataclass(frozen=True)
class Estimate(Step):
    """Store the estimates of x_0 in one shard of clean images, noised anew at each of several timesteps."""

    message = "Estimating clean images, shard {wildcards.shard}"
    options = ("shard",)
    resources = "generate"
    priority = 35

    shard: int

    @classmethod
    def jobs(cls, layout: Layout) -> Iterable[Self]:
        return map(cls, range(len(layout.clean_sizes)) if stores_estimates(layout.preset) else ())

    def outputs(self, layout: Layout) -> list[Path]:
        return [layout.estimates(self.shard)]

    def inputs(self, layout: Layout) -> list[Path]:
        return [*layout.drawing, layout.clean(self.shard)]

    def keys(self, preset: Preset) -> list[str]:
        own = [*CLEAN, "clean_images.seed", "clean_images.estimates"]
        return [*own, *estimate_keys(preset), *prompt_keys(preset, "clean_images")]

    def run(self, layout: Layout) -> None:
        """Write them, the estimates of an image in a row."""
        preset, out = layout.preset, layout.estimates(self.shard)
        size = size_of(layout.clean_sizes, self.shard)
        files.check_writable(out)
        seeds = stored_images.clean_seeds(layout, self.shard)
        images = stored_images.clean(layout, range(self.shard, self.shard + 1))
        model = prompts.told(layout, "clean_images", networks.load_model(layout, preset.runtime), seeds)
        timesteps, device = estimate_timesteps(preset), model.device
        abar = torch.tensor(model.schedule.alphas_cumprod, dtype=torch.float32, device=device)
        rows = np.empty((size, len(timesteps), *preset.drawn_shape), LATENT)
        each = max(1, preset.clean_images.batch_size // len(timesteps))
        for places in Bar(torch.arange(size).split(each), f"estimates {self.shard}", -(-size // each), unit="batch"):
            x0 = to_tensor(images.take(places)).repeat_interleave(len(timesteps), 0).to(device)
            noise = [estimate_noise(seeds[i], (len(timesteps), *preset.drawn_shape)) for i in places.tolist()]
            t = torch.tensor(timesteps, device=device).repeat(len(places))
            denoiser = model.on(model.schedule, places.repeat_interleave(len(timesteps)))
            with autocast(preset.runtime):
                seen = denoiser.x0_hat(add_noise(x0, torch.cat(noise).to(device), abar[t]), t)
            rows[places.numpy()] = seen.float().cpu().view(len(places), *rows.shape[1:]).numpy()
        files.write_array(out, rows.reshape(-1, *preset.drawn_shape))
