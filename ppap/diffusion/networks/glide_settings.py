"""GLIDE: its checkpoints, its prompt, and how the second stage of a cascade is drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from ppap.data.settings import Download
from ppap.diffusion.networks.architectures import ADMArchitecture, TextArchitecture
from ppap.diffusion.samplers import SAMPLERS, Sampler, respaced
from ppap.diffusion.schedules import Schedule, ScheduleName
from ppap.utils.registry import kind_of
from ppap.utils.settings import FREE, Count, Section

BASE = ADMArchitecture(model_channels=192, channel_mult=(1, 2, 3, 4), num_res_blocks=3, attention_factors=(2, 4, 8))
UPSAMPLER = ADMArchitecture(model_channels=192)


class UpsamplingConfig(Section):
    """The second stage of a cascade draws images of `image_size` by a diffusion model that sees the first stage's."""

    image_size: Annotated[int, Field(gt=0, le=4096)] = Field(256, description="pixels a side")
    noise_schedule: ScheduleName = Field("linear", description="how noise grows with t")
    kind: Annotated[str, *kind_of(SAMPLERS)] = Field("ddim", description="the sampler's, as in `samplers`")
    options: dict[str, Any] = Field(
        default_factory=dict, description="arguments by name of a sampler of your own, as in `samplers`"
    )
    steps: Count = Field(27, description="sampling steps, out of T")
    eta: Annotated[float, Field(ge=0, le=1)] = Field(0.0, description="noise, as in `samplers`")
    temperature: Annotated[float, Field(gt=0, le=1)] = Field(
        0.997, description="factor of its x_T, as in GLIDE's own notebook"
    )
    batch_size: Count = Field(16, json_schema_extra=FREE, description="images at a time")

    def sampler(self, folders: list[Path]) -> Sampler:
        """Return its sampler; ConfigError if it is of the user's own and cannot be used."""
        return SAMPLERS.get(self.kind, folders, self.options)

    def drawing(self, folders: list[Path]) -> dict[str, Any]:
        """Return what `ppap.diffusion.sampling.upsample` is told of the sampler: the function, its steps, and its noise."""
        function = self.sampler(folders)
        eta = self.eta if function.eta is None else function.eta
        return {"sampler": function, "steps": self.steps, "eta": eta}

    def schedule(self, timesteps: int, folders: list[Path]) -> Schedule:
        """Return the noise schedule of the timesteps that its sampler takes, of T."""
        full = Schedule.create(self.noise_schedule, timesteps)
        return respaced(full, self.sampler(folders), self.steps)


class GlideConfig(Section):
    """GLIDE (Nichol et al. 2021) is a cascade.

    Its base draws images of `dataset.image_size` from a prompt, which alone are guided, and its upsampler draws them
    again, larger.
    """

    base: Download = Field(description="checkpoint of the first stage, float16 or float32")
    upsampler: Download = Field(description="checkpoint of the second stage, float16 or float32")
    vocabulary: Download | None = Field(
        None,
        description="GPT-2's byte pairs in tiktoken's format (tiktoken's `r50k_base.tiktoken`); only a prompt needs it",
    )
    prompt: str = Field(
        "",
        max_length=10_000,
        description="what the images are to show, of at most `text.context` tokens (`pip install 'ppap[glide]'`). "
        "Another prompt needs no other download",
    )
    prompt_scale: Annotated[float, Field(ge=0, le=1000)] = Field(
        3.0, description="scale of classifier-free guidance towards the prompt, which takes twice the time; 1: none"
    )
    upsampling: UpsamplingConfig = Field(UpsamplingConfig(), description="how the second stage is drawn")
    base_architecture: ADMArchitecture = Field(BASE, description="of the first stage's U-Net")
    upsampler_architecture: ADMArchitecture = Field(UPSAMPLER, description="of the second stage's U-Net")
    text: TextArchitecture = Field(TextArchitecture(), description="of both text transformers")

    @model_validator(mode="after")
    def prompt_has_a_vocabulary(self) -> GlideConfig:
        if self.prompt and self.vocabulary is None:
            raise ValueError("prompt: needs a `vocabulary`")
        return self
