"""Features of images, as an evaluator extracts them."""

from __future__ import annotations

import torch
from torch import Tensor

from ppap.data.loading import Images, batches
from ppap.evaluation.evaluator import Extractor
from ppap.utils.progress import Bar


@torch.inference_mode()
def features_of(images: Images, extract: Extractor, batch_size: int, device: torch.device) -> dict[str, Tensor]:
    """Extract the evaluator's answers on images, uint8 (N, H, W, C), batch by batch: (N, ...) each, on the CPU.

    These are `features` (N, D) and `logits` (N, K), and with some evaluators `predicted` (N,), see Extractor.
    """
    parts: dict[str, list[Tensor]] = {}
    indices = torch.arange(len(images)).split(batch_size)
    read = batches(images, indices, device)
    for batch in Bar(read, "features", len(indices), unit="batch"):
        for name, value in extract(batch.permute(0, 3, 1, 2)).items():
            parts.setdefault(name, []).append(value.cpu())
    return {name: torch.cat(values) for name, values in parts.items()}
