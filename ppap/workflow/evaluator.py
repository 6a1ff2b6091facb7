"""The preset's evaluator, put together of the networks that the workflow keeps."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ppap.evaluation.evaluator import Extractor
from ppap.utils.device import Runtime, device_of
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout


def new_networks(layout: Layout) -> dict[str, nn.Module]:
    """Build the evaluator's networks, untrained, by name."""
    evaluator = layout.preset.evaluator
    guides = {name: models.new_guide(layout, name).eval() for name in evaluator.networks}
    return evaluator.untrained() | guides


def load_extractor(layout: Layout) -> Extractor:
    """Load the evaluator from its files, on the preset's device."""
    evaluator, runtime = layout.preset.evaluator, layout.preset.runtime
    own = {name: network.to(device_of(runtime)) for name, network in evaluator.load(_paths(layout)).items()}
    guides = {name: models.load_guide(layout, name) for name in evaluator.networks}
    return _extractor(layout, own | guides, runtime)


def untrained_extractor(layout: Layout) -> Extractor:
    """Build the evaluator without its files, on the device where it can be tried."""
    with torch.device(layout.preset.evaluator.tried_on):
        return _extractor(layout, new_networks(layout), Runtime(device="cpu"))


def identity(layout: Layout) -> dict[str, str]:
    """Tell the evaluator's features from another one's."""
    return layout.preset.evaluator.identity(_paths(layout), layout.preset.module_folders)


def _paths(layout: Layout) -> dict[str, Path]:
    return {name: layout.model(name) for name in layout.preset.evaluator.judged_by}


def _extractor(layout: Layout, networks: dict[str, nn.Module], runtime: Runtime) -> Extractor:
    preset, evaluator = layout.preset, layout.preset.evaluator
    classes = preset.dataset.classes if evaluator.counts_classes else None
    return evaluator.extractor(networks, runtime, classes, preset.module_folders)
