"""Guides without a preset: networks of one's own, and models of the libraries, with their task."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ppap.data.downloads import Downloads
from ppap.data.settings import Download
from ppap.guides.guide import Guide
from ppap.guides.libraries.library import Shape
from ppap.guides.libraries.registry import build_network
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.preprocessing import Interpolation
from ppap.guides.tasks.embedding import Embedding
from ppap.guides.tasks.registry import TASKS
from ppap.guides.tasks.task import Task
from ppap.utils import files
from ppap.utils.arguments import checked
from ppap.utils.errors import ConfigError
from ppap.utils.settings import CLASSIFICATION, Count


@dataclass(frozen=True)
class _Images:
    """The facts of images that a task is told."""

    classes: int
    segments: int | None
    image_size: int


@checked
def wrap_guide(
    network: nn.Module,
    task: str | type[Task] | Task = CLASSIFICATION,
    *,
    outputs: Count | None = None,
    image_size: Count,
    input_size: int | None = None,
    mean: Sequence[float] = (0.5,),
    std: Sequence[float] = (0.5,),
    interpolation: Interpolation = "bilinear",
    antialias: bool = True,
    name: str = "guide",
) -> Guide:
    """Make a guide of a network of one's own, frozen and in eval mode, on its own device.

    The network is called with images (B, C, H, W) of `input_size` pixels a side (left out: of `image_size`, that of
    the samples), to which they are resized with `interpolation` ("bilinear" or "bicubic"; `antialias` smooths where it
    shrinks), normalised by `mean` and `std`, which are for pixels in [0, 1]. It answers as its `task` has it:
    "classification" with logits (B, outputs), "depth" with (B, h, w), larger where nearer, "segmentation" with
    logits (B, outputs, h, w), "embedding" with vectors (B, outputs), "score" with numbers (B,) or (B, 1); or a subclass
    of `ppap.guides.tasks.task.Task`, an instance of one, or "user:MODULE.CLASS", whose module lies in the current folder
    or on sys.path. ConfigError if there is no such task.
    """
    made = _task(task, outputs, image_size)
    _ = made.numbers  # or nothing says how many
    guide = Guide(network, input_size or image_size, mean, std, name, made, interpolation, antialias)
    where = next((p.device for p in network.parameters()), torch.device("cpu"))
    return guide.to(where).eval().requires_grad_(False)


@checked
def load_guide(
    model: str,
    task: str | type[Task] | Task = CLASSIFICATION,
    *,
    outputs: Count | None = None,
    image_size: Count | None = None,
    channels: Count = 3,
    options: Mapping[str, Any] | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: Interpolation | None = None,
    antialias: bool | None = None,
    weights: str | Path | None = None,
    folder: str | Path = "downloads",
) -> Guide:
    """Load a library's model with its published weights as a guide, frozen and in eval mode, on the CPU.

    `model` is LIBRARY:NAME as in presets ("timm:resnet50.a1_in1k", "torchvision:...", "transformers:...") or
    "user:MODULE.FUNCTION", whose module lies in the current folder or on sys.path; `task` is as for `wrap_guide`,
    `outputs` the number of its classes or labels, and `image_size` that of the samples, which depth and labels need.
    Of an embedding, the model is the library's without its head: of timm and torchvision the features below it, of
    transformers (CLIP, SigLIP, DINO and others) its vector of the image, and of CLIP and SigLIP `guide.text(words)` too.
    Input size, resize and normalisation go with the weights unless given. `weights` is a file in the library's format in
    their place. What is downloaded is kept in `folder`, with a lock file that remembers its SHA-256. ConfigError if there
    is no such model, or it is for another task; DataError if the weights cannot be had, or are others.
    """
    spec = NetworkConfig(
        model=model,
        options=dict(options or {}),
        input_size=input_size,
        mean=None if mean is None else tuple(mean),
        std=None if std is None else tuple(std),
        interpolation=interpolation,
        antialias=antialias,
        weights=None if weights is None else Download(url=Path(weights).absolute().as_uri()),
    )
    made = _task(task, outputs, image_size)
    shape = Shape(channels, outputs or 1, name_of(made))
    path = Path(folder) / "guides" / f"{_file_name(spec, shape)}.safetensors"
    if spec.published and not path.exists():
        downloads = Downloads(Path(folder), Path(folder) / "downloads.lock")
        tensors, metadata = spec.library.download(spec, shape, "load_guide", downloads)
        files.write_tensors(path, tensors, metadata)
    network = build_network(model, spec.library.options(spec, path), shape).eval().requires_grad_(False)
    if spec.published:
        network.load_state_dict(files.read_tensors(path))
    seen = spec.input(path)
    if isinstance(made, Embedding) and made.dimensions is None:
        made.dimensions = network(torch.zeros(1, channels, seen.input_size, seen.input_size)).shape[-1]
    about: dict[str, Any] = {"options": options, "channels": channels, "published": spec.from_library}
    names = json.loads(files.read_metadata(path).get("class_names", "[]")) if spec.published else []
    guide = Guide(network, **seen._asdict(), name=model, task=made, class_names=names, **about).eval()
    if spec.published and isinstance(made, Embedding):
        guide.reader = spec.library.reader(spec, path, Path(folder))
    return guide


def _task(task: str | type[Task] | Task, outputs: int | None, image_size: int | None) -> Task:
    if isinstance(task, Task):
        return task
    kind = TASKS.get(task)
    if kind.outputs and outputs is None:
        raise ConfigError(f"outputs: a task {kind.__name__} needs the number of {kind.outputs}")
    if "image_size" in kind.reads and image_size is None:
        raise ConfigError(f"image_size: a task {kind.__name__} needs that of the samples")
    made = kind(_Images(outputs or 1, outputs, image_size or 1))
    if isinstance(made, Embedding) and outputs is not None:
        made.dimensions = outputs
    return made


def name_of(task: Task) -> str:
    """Name a task of ours, whatever its options; of the user's own, its class."""
    own = _place(type(task))
    return next((name for name in TASKS if _place(TASKS.get(name)) == own), type(task).__name__)


def _place(kind: type[Task]) -> tuple[str, str]:
    return kind.__module__, kind.__name__


def _file_name(spec: NetworkConfig, shape: Shape) -> str:
    """Name the workflow's form of these weights: another name for all that changes what is read."""
    places = [spec.weights.local if spec.weights else None, Path(spec.name)]
    told = [spec.model_dump(mode="json"), list(shape), [_content(p) for p in places if p]]
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    plain = "".join(c if c.isalnum() or c in "._-" else "_" for c in spec.model)
    return f"{plain}-{digest[:12]}"


def _content(path: Path) -> list[str]:
    """Hash the files of a model's own folder, or a file of weights: it may be another one next time."""
    inside = sorted(path.rglob("*")) if path.is_dir() else [path]
    return [f"{each} {files.sha256(each)}" for each in inside if each.is_file()]
