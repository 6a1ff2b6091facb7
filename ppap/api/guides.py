"""Guides: models of one's own, or of a library, with their task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ppap.config import section
from ppap.data.downloads import Downloads
from ppap.data.settings import Download
from ppap.guides.guide import Guide
from ppap.guides.libraries import library
from ppap.guides.libraries.library import Shape
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.tasks.kinds import CLASSIFICATION, TASKS
from ppap.guides.tasks.task import Task
from ppap.utils import files
from ppap.utils.errors import ConfigError


@dataclass(frozen=True)
class _Images:
    """What a task is told of images."""

    classes: int
    segments: int | None
    image_size: int


def wrap_guide(
    network: nn.Module,
    task: str = CLASSIFICATION,
    *,
    outputs: int | None = None,
    image_size: int,
    input_size: int | None = None,
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.5,),
    name: str = "guide",
) -> Guide:
    """A network of one's own as a guide, frozen and in eval mode, on its own device.

    It is called with images (B, C, H, W) of `input_size` pixels a side (left out: of `image_size`, that of the
    samples), normalised by `mean` and `std`, which are for pixels in [0, 1], and answers as its `task` has it:
    "classification" with logits (B, outputs), "depth" with (B, h, w), larger where nearer, "segmentation" with
    logits (B, outputs, h, w), or "user:MODULE.CLASS". ConfigError if there is no such task.
    """
    made = _task(task, outputs, image_size)
    guide = Guide(network, input_size or image_size, mean, std, name, made)
    where = next((p.device for p in network.parameters()), torch.device("cpu"))
    return guide.to(where).eval().requires_grad_(False)


def load_guide(
    model: str,
    task: str = CLASSIFICATION,
    *,
    outputs: int | None = None,
    image_size: int,
    channels: int = 3,
    options: Mapping[str, Any] | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    weights: str | Path | None = None,
    folder: str | Path = "downloads",
) -> Guide:
    """A library's model with its published weights as a guide, frozen and in eval mode, on the CPU.

    `model` is LIBRARY:NAME as in presets ("timm:resnet50.a1_in1k", "torchvision:...", "transformers:..."), `outputs`
    the number of its classes or labels, `image_size` that of the samples. Input size and normalisation go with the
    weights unless given. `weights` is a file in the library's format in their place. What is downloaded is kept in
    `folder`, with a lock file that remembers its SHA-256. ConfigError or ModelError if there is no such model, or it is
    for another task; DataError if the weights cannot be had, or are others.
    """
    about = {
        "model": model,
        "options": dict(options or {}),
        "input_size": input_size,
        "mean": None if mean is None else tuple(mean),
        "std": None if std is None else tuple(std),
        "weights": None if weights is None else Download(url=Path(weights).absolute().as_uri()),
    }
    spec = section(NetworkConfig, about)
    made = _task(task, outputs, image_size)
    shape = Shape(channels, outputs or 1, task)
    path = Path(folder) / "guides" / f"{_file_name(spec, shape)}.safetensors"
    if not path.exists():
        code, _ = library.code_of(model)
        downloads = Downloads(Path(folder), Path(folder) / "downloads.lock")
        tensors, metadata = code.download(spec, shape, "load_guide", downloads)
        files.write_tensors(path, tensors, metadata)
    network = library.build_network(model, library.options_of(spec, path), shape)
    network.load_state_dict(files.read_tensors(path))
    guide = Guide(network, *library.input_of(spec, path), model, made)
    return guide.eval().requires_grad_(False)


def _task(name: str, outputs: int | None, image_size: int) -> Task:
    kind = TASKS.get(name)
    if kind.outputs and outputs is None:
        raise ConfigError(f"outputs: {name} needs the number of {kind.outputs}")
    return kind.build(_Images(outputs or 1, outputs, image_size))


def _file_name(spec: NetworkConfig, shape: Shape) -> str:
    """Of the workflow's form of these weights: another one for all that changes what is read."""
    own = files.sha256(spec.weights.local) if spec.weights and spec.weights.local else ""
    told = json.dumps([spec.model_dump(mode="json"), list(shape), own], sort_keys=True)
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in spec.model)
    return f"{plain}-{hashlib.sha256(told.encode()).hexdigest()[:12]}"
