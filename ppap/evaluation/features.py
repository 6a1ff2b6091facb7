"""Features of images, as an evaluator extracts them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ppap.data.gathering import Images, read_ahead
from ppap.evaluation.evaluator import Extractor
from ppap.utils.progress import Bar


@torch.inference_mode()
def features_of(
    images: Images, extract: Extractor, batch_size: int, device: torch.device
) -> dict[str, Tensor]:
    """Extract the evaluator's answers on images, uint8 (N, H, W, C), batch by batch: (N, ...) each, on the CPU.

    These are `features` (N, D) and `logits` (N, K), and with some evaluators `predicted` (N,), see Extractor.
    """
    parts: dict[str, list[Tensor]] = {}
    chosen = batches(len(images), batch_size)
    gathered = in_batches(images, chosen, device)
    for batch in Bar(gathered, "features", len(chosen), unit="batch"):
        for name, value in extract(batch.permute(0, 3, 1, 2)).items():
            parts.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values) for name, values in parts.items()}


def batches(count: int, size: int) -> Sequence[Tensor]:
    """Split the places of so many images into batches."""
    return torch.arange(count).split(size)


def in_batches(images: Images, chosen: Sequence[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield each batch of images, uint8 (B, H, W, C), on the device; the next are read meanwhile."""
    with read_ahead(images, chosen, device) as gathered:
        yield from gathered
