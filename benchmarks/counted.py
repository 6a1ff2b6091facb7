"""Floating-point operations of a step for one image, counted on the preset's networks: two for a multiply-add."""

from __future__ import annotations

import torch
from torch import Tensor

from ppap.config.preset import Preset
from ppap.experts import lora as adapters
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout
from ppap.workflow.plan import flops


def of_drawing(preset: Preset, method: str, guide: str) -> int:
    """A step of sampling with a kind of guidance: the diffusion network, and the guide with its gradient."""
    through = method == "x0_gradient"
    count = flops.with_input_gradient if through else flops.forward
    network = flops.on_meta(lambda: models.new_diffusion(Layout(preset))).requires_grad_(False)
    shape = (1, *preset.dataset.shape)

    def call(x: Tensor) -> Tensor:
        answer: Tensor = network(x, torch.zeros(1, device=x.device))
        return answer

    guided = 0 if method == "none" else _of_guide(preset, guide)
    return count(call, shape) + guided


def of_training(preset: Preset, guide: str) -> int:
    """A step of an expert's training: forward, and the gradients of its adapters."""
    network = flops.on_meta(lambda: models.new_guide(Layout(preset), guide)).train()
    flops.on_meta(lambda: adapters.attach(network.network, preset.guides[guide].adapter))
    pair = (2, *preset.dataset.shape)  # batch norm takes no single image
    return flops.with_weight_gradient(network, pair, network.network) // 2


def _of_guide(preset: Preset, name: str) -> int:
    guide = flops.on_meta(lambda: models.new_guide(Layout(preset), name))
    guide.eval().requires_grad_(False)
    return flops.with_input_gradient(guide, (1, *preset.dataset.shape))
