"""A diffusion model: its network, and how that was trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from ppap.diffusion.autoencoder import Autoencoder
from ppap.diffusion.denoiser import CLIPPED, Clip, Denoiser
from ppap.diffusion.networks.diffusers_source import called
from ppap.diffusion.networks.prompted import Prompted
from ppap.diffusion.schedules import PredictionName, Schedule, VarianceName
from ppap.utils.arguments import checked
from ppap.utils.errors import ConfigError


@checked
@dataclass(frozen=True)
class DiffusionModel:
    """A pretrained diffusion network, called as network(x_t, t) for x_t (B, C, H, W) and t (B,), timesteps of training.

    `shape` is (C, H, W) of its images, `schedule` the full one of its training. It answers with what it `predicts`:
    eps, the clean image x0, v (Salimans & Ho 2022, arXiv 2202.00512), or "flow", the velocity eps - x0 of a flow
    (1 - sigma) x0 + sigma eps, which it is asked about in place of x_t; with `variance` "learned_range" followed by
    as many channels, which say the variance of the reverse step (Nichol & Dhariwal 2021, equation 15). Its estimates of
    x0 are kept in range by `clip`. With an `autoencoder` its images are latents, which that decodes; their `clip` is
    `Clip(None)`, none. With `labels`, a number for each image (of its class, say), it is called as
    network(x_t, t, numbers=...) with those of a batch, (B,). A UNet2DModel of diffusers is a network too:

        ppap.DiffusionModel(unet, (3, 64, 64), ppap.Schedule.create("cosine", 1000), "fixed_small", "v")
    """

    network: nn.Module
    shape: tuple[int, int, int]
    schedule: Schedule
    variance: VarianceName = "fixed_small"
    predicts: PredictionName = "eps"
    clip: Clip = CLIPPED
    autoencoder: Autoencoder | None = None
    labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "network", called(self.network))

    def on(self, schedule: Schedule, chosen: slice | Tensor = slice(None)) -> Denoiser:
        """Return the model on a schedule that takes fewer timesteps (`Schedule.keeping`), for some of the images.

        ConfigError for a model that draws by prompts and has none.
        """
        if isinstance(self.network, Prompted) and not self.network.texts:
            raise ConfigError("model: draws by prompts; say which: model.prompted(...)")
        denoiser = Denoiser(self.network, schedule, self.variance, self.predicts, self.clip)
        return denoiser.told(torch.tensor(self.labels)[chosen] if self.labels else None)

    @checked
    def prompted(
        self,
        prompts: str | int | Sequence[str | int],
        *,
        negative_prompt: str | None = None,
        guidance_scale: Annotated[float, Field(ge=1, le=10_000)] | None = None,
    ) -> DiffusionModel:
        """Return the model that draws a prompt, or for each image a prompt of its own, by classifier-free guidance.

        For pipelines with a text encoder (`ppap.load_pipeline`), which encodes each prompt once; for DiT a prompt is a
        class, its number or its name. `negative_prompt` and `guidance_scale` are by default the pipeline's own; with a
        scale of 1 there is no guidance. ConfigError for a model that draws without prompts.
        """
        if not isinstance(self.network, Prompted):
            raise ConfigError("prompts: the diffusion model draws without them")
        each = [prompts] if isinstance(prompts, str | int) else list(prompts)
        if not each:
            raise ConfigError("prompts: one at least is needed")
        numbers = {prompt: number for number, prompt in enumerate(dict.fromkeys(each))}
        network = self.network.told(list(numbers), negative_prompt, guidance_scale)
        labels = () if isinstance(prompts, str | int) else tuple(numbers[prompt] for prompt in each)
        return replace(self, network=network, labels=labels)

    def pictures(self, images: Tensor) -> Tensor:
        """Return the finished pictures (B, C, H, W) in [-1, 1] of what it has drawn: of latents, what they decode to."""
        return images if self.autoencoder is None else self.autoencoder.decoded(images)

    @property
    def picture_shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of a finished picture."""
        return self.shape if self.autoencoder is None else self.autoencoder.shape_of_pictures(self.shape)

    @property
    def device(self) -> torch.device:
        """The device of the network's weights; the CPU if it has none."""
        return next((p.device for p in self.network.parameters()), torch.device("cpu"))
