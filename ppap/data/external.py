"""Files of others in the workflow's form: one safetensors file for each thing that a preset takes from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ppap.data import realdata
from ppap.data.downloads import Downloads
from ppap.errors import ConfigError
from ppap.evaluation.extractors import inception_weights
from ppap.graph.layout import Layout
from ppap.networks import models
from ppap.networks.guide import build_network, load_pretrained
from ppap.networks.library import Pretrained, has_library_weights, pretrained
from ppap.preset import (
    DATASET,
    DIFFUSION,
    EVALUATOR,
    REFERENCE,
    Download,
    InceptionEvaluator,
    Preset,
)
from ppap.preset.runs import external_models
from ppap.storage import files
from ppap.storage.weights import check_weights, read_weights


class External(NamedTuple):
    """Tensors, and what is known about them."""

    tensors: dict[str, Tensor]
    metadata: dict[str, str]


def download(layout: Layout, downloads: Downloads, name: str) -> None:
    """Download a network or data that the preset does not make itself, check it, and write it.

    ConfigError if there is no such thing; DataError if it cannot be had, or is not what it should be.
    """
    preset = layout.preset
    known = external_models(preset)
    if name not in known:
        there = ", ".join(known) or "nothing"
        raise ConfigError(f"{preset.name}: no '{name}' to download (there is {there})")
    if name == DIFFUSION:
        external = _diffusion(preset, downloads)
    elif name == REFERENCE:
        external = External(realdata.reference(preset, downloads), {})
    elif name == DATASET:
        assert preset.dataset.name is not None
        external = External(realdata.registered(preset.dataset.name, downloads), {})
    elif name == EVALUATOR and isinstance(preset.evaluator, InceptionEvaluator):
        external = _inception(preset.evaluator, downloads)
    else:
        external = _classifier(preset, downloads, name)
    about = external.metadata | {"model": name}
    files.write_tensors(layout.model(name), external.tensors, about)


def _diffusion(preset: Preset, downloads: Downloads) -> External:
    """A public ADM checkpoint (float16 or float32), kept in its own precision, or a diffusers pipeline."""
    spec = preset.diffusion
    if spec.pipeline:
        from ppap.networks.diffusers_models import read_pipeline

        return External(*read_pipeline(spec.pipeline, preset, downloads.folder))
    assert spec.weights is not None
    with torch.device("meta"):
        network = models.new_diffusion(preset)
    with downloads.file(spec.weights) as path:
        tensors = read_weights(path)
        check_weights(network, tensors, path)
        return External(tensors, _source(path))


def _inception(spec: InceptionEvaluator, downloads: Downloads) -> External:
    """torch-fidelity's Inception v3."""
    with downloads.file(spec.weights) as path:
        return External(inception_weights(path), _source(path))


def _classifier(preset: Preset, downloads: Downloads, name: str) -> External:
    """A guide's network with its library's weights, or as the user's own function returns it."""
    spec = preset.network(name)
    assert spec is not None
    channels, classes = preset.dataset.channels, preset.dataset.classes
    if not has_library_weights(spec):
        network = build_network(spec.model, spec.options, channels, classes, preset.module_folders)
        check_weights(network, network.state_dict(), f"model '{spec.model}'")
        return External(network.state_dict(), {})
    known = pretrained(spec.model)
    wanted = spec.weights or published(known, spec.model, preset.key(name), classes)
    names = {"class_names": json.dumps(known.class_names)} if known.class_names else {}
    with downloads.file(wanted) as path:
        network = load_pretrained(spec, channels, classes, path)
        return External(network.state_dict(), _source(path) | names)


def published(known: Pretrained, model: str, key: str, classes: int) -> Download:
    """Where the library keeps the weights, if it has any and they tell the preset's classes apart."""
    if known.source is None:
        raise ConfigError(f"{key}: there are no weights of {model}; give `train` or `weights`")
    if known.classes != classes:
        raise ConfigError(
            f"{key}: the weights of {model} know {known.classes} classes, the preset has {classes}"
        )
    return known.source


def _source(path: Path) -> dict[str, str]:
    return {"source": path.name, "source_sha256": files.sha256(path)}
