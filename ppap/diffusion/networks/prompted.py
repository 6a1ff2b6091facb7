"""Networks that are told of each image a prompt or a class, beside x_t and t, with classifier-free guidance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ppap.diffusion.classifier_free_guidance import classifier_free
from ppap.diffusion.networks.pipeline_family import Family, Told
from ppap.utils.errors import ConfigError
from ppap.utils.mixed_precision import is_cast


class Prompted(nn.Module):
    """A pipeline's network and the prompts that it may be told, called as network(x_t, t, numbers).

    `numbers` (B,) are those of each image's prompt; with one prompt they need not be given. The answer has the first
    `outputs` channels of the network's. With a `negative` prompt the network is asked twice, and guided by `scale`;
    where it is told the scale itself (guidance-distilled ones), there is none. Prompts stay on the CPU but for a batch's.
    """

    def __init__(
        self,
        network: nn.Module,
        family: Family,
        outputs: int,
        texts: Told = (),
        negative: Told = (),
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.network, self.family, self.outputs = network, family, outputs
        self.texts, self.negative, self.scale = texts, negative, scale

    def told(self, prompts: Sequence[str | int], negative: str | None, scale: float | None) -> Prompted:
        """Return the network with these prompts, each of which the pipeline encodes once.

        `scale` is by default that of the pipeline; with 1 there is no classifier-free guidance. ConfigError if the
        pipeline has no encoder for them, or a negative prompt cannot be honoured.
        """
        family = self.family
        scale = family.default_scale if scale is None else scale
        guided = scale > 1 and not family.embeds_scale
        if negative is not None and not guided:
            why = "it is told the guidance scale" if family.embeds_scale else "guidance_scale is 1"
            raise ConfigError(f"negative_prompt: the network is told the prompt alone, as {why}")
        encoded = [family.told(prompt) for prompt in prompts]
        texts = tuple(_kept(torch.cat(rows)) for rows in zip(*encoded, strict=True))
        away = tuple(map(_kept, family.told_not(negative))) if guided else ()
        return Prompted(self.network, family, self.outputs, texts, away, scale)

    def forward(self, x: Tensor, t: Tensor, numbers: Tensor | None = None) -> Tensor:
        own: torch.dtype = getattr(self.network, "dtype", x.dtype)
        seen = x if is_cast(x) else x.to(own)

        def placed(rows: Tensor) -> Tensor:
            return rows.expand(len(x), *rows.shape[1:]).to(x.device, own if rows.is_floating_point() else rows.dtype)

        rows = [placed(text if numbers is None else text[numbers.cpu()]) for text in self.texts]
        if not self.negative:
            return self.family.predict(self.network, seen, t, rows, self.scale)[:, : self.outputs]
        both = [torch.cat([row, placed(away)]) for row, away in zip(rows, self.negative, strict=True)]
        answer = self.family.predict(self.network, torch.cat([seen, seen]), torch.cat([t, t]), both, self.scale)
        prompt, empty = answer.float().chunk(2)
        return classifier_free(prompt, empty, x.shape[1], self.scale)[:, : self.outputs]


def _kept(rows: Tensor) -> Tensor:
    """Move to the CPU what has values."""
    return rows if rows.is_meta else rows.cpu()
