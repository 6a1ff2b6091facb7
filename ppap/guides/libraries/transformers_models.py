"""Models of transformers: depth estimators, segmenters and classifiers of the Hugging Face hub, or of folders.

What such a model is, its publisher's config.json says: the download writes that beside the weights, and a preset
may state it before, as `options`. Code that a publisher keeps with a model is never asked for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ppap.data import hub
from ppap.data.downloads import Downloads
from ppap.guides.libraries import transformers_files
from ppap.guides.libraries.library import Input, LibraryCode, Shape
from ppap.guides.libraries.settings import NetworkConfig
from ppap.guides.libraries.transformers_config import class_of, config_of, refuse_other
from ppap.guides.libraries.transformers_files import Published
from ppap.guides.libraries.transformers_input import input_from, refuse_other_input
from ppap.guides.libraries.transformers_weights import loaded
from ppap.utils import files
from ppap.utils.errors import ConfigError, DataError

_SETTINGS, _INPUT = "settings", "input"  # in the metadata of the workflow's file
_METRIC = {"glpn", "zoedepth"}  # say metres, of which ours is the inverse
_NEAREST = 1e-3  # metres


class TransformersCode(LibraryCode):
    """Models of transformers, which answer with the plain tensor of their task."""

    def build(
        self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path]
    ) -> nn.Module:
        what = f"transformers:{name}"
        config = config_of(options, shape, what)
        return _answering(class_of(options, shape.task, what)(config), shape.task)

    def known(self, spec: NetworkConfig, file: Path) -> bool:
        return bool(spec.options) or _found(spec, file) is not None

    def options(self, spec: NetworkConfig, file: Path) -> dict[str, Any]:
        found = _found(spec, file)
        if found is None:
            if not spec.options:
                raise DataError(
                    f"{file}: is not there yet, or of another model, and only it says what '{spec.model}' is: "
                    "download it, or state its configuration (model_type and so on) as `options`"
                )
            return spec.options
        if spec.options:
            refuse_other(spec.options, found.settings, spec.model)
        return found.settings

    def input(self, spec: NetworkConfig, file: Path) -> Input:
        found = _found(spec, file)
        return _input(spec, found.input if found else None)

    def check(self, spec: NetworkConfig, shape: Shape, key: str) -> None:
        """As in LibraryCode: a folder is read at once; of the hub, nothing is known before the download."""
        name = _name(spec)
        if Path(name).is_dir():
            _fits(spec, shape, transformers_files.read(Path(name)))

    def download(
        self, spec: NetworkConfig, shape: Shape, key: str, downloads: Downloads
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """As in LibraryCode, from a folder or from the hub, whose downloads are resumed and checked."""
        name = _name(spec)
        folder = transformers_files.folder_of(name, downloads.folder / "huggingface")
        found = transformers_files.read(folder)
        seen = _fits(spec, shape, found)
        kind = class_of(found.settings, shape.task, spec.model)
        config = config_of(found.settings, shape, spec.model)
        network = loaded(kind, config, transformers_files.weights(folder), folder, seen.size)
        about = hub.source_of(name, folder) | {_SETTINGS: json.dumps(found.settings)}
        if found.input:
            about[_INPUT] = json.dumps(found.input._asdict())
        if names := found.label_names:
            about["class_names"] = json.dumps(names)
        return network.state_dict(), about


def _name(spec: NetworkConfig) -> str:
    return spec.model.partition(":")[2]


def _found(spec: NetworkConfig, file: Path) -> Published | None:
    """What the publisher says of a model, as far as it lies here: in the workflow's file, or in a folder.

    A network that is trained here is what the preset says; a folder's, as long as that says nothing.
    """
    folder = Path(_name(spec))
    if spec.published and file.is_file():
        metadata = files.read_metadata(file)
        if _SETTINGS in metadata and metadata.get("source") == _name(spec):
            said = metadata.get(_INPUT)
            return Published(json.loads(metadata[_SETTINGS]), input_from(said) if said else None)
    if folder.is_dir() and (spec.published or not spec.options):
        found = transformers_files.read(folder)
        return found if spec.published else Published(found.architecture, None)
    return None


def _fits(spec: NetworkConfig, shape: Shape, found: Published) -> Input:
    """The input of a published model; ConfigError unless model and input are what the preset needs and says."""
    class_of(found.settings, shape.task, spec.model)
    config_of(found.settings, shape, spec.model)
    if spec.options:
        refuse_other(spec.options, found.settings, spec.model)
    return _input(spec, found.input)


def _input(spec: NetworkConfig, found: Input | None) -> Input:
    """What the preset says, else the publisher; where the preset states all of a model, both must say the same."""
    if found is None:
        if not (spec.input_size and spec.mean and spec.std):
            raise ConfigError(
                f"model '{spec.model}': nothing says what its input is (no preprocessor_config.json): "
                "state input_size, mean and std"
            )
        return Input(spec.input_size, spec.mean, spec.std)
    if spec.options:
        refuse_other_input(spec, found)
    size = spec.input_size or found.size
    if not size:
        raise ConfigError(f"model '{spec.model}': takes images of any size; state input_size")
    return Input(size, spec.mean or found.mean, spec.std or found.std)


def _answering(network: Any, task: str) -> nn.Module:
    """The network, made to return the plain tensor of the task, under its own parameters' names."""
    config = network.config
    if task != "depth":
        network.register_forward_hook(partial(_one, "logits"))
    elif config.model_type in _METRIC or getattr(config, "depth_estimation_type", "") == "metric":
        network.register_forward_hook(_inverse)
    else:
        network.register_forward_hook(partial(_one, "predicted_depth"))
    return network


def _one(name: str, network: nn.Module, images: tuple[Tensor, ...], answers: Any) -> Tensor:
    return answers[name]


def _inverse(network: nn.Module, images: tuple[Tensor, ...], answers: Any) -> Tensor:
    """The inverse of a depth in metres: as MiDaS's, larger is nearer."""
    return torch.reciprocal(answers["predicted_depth"].clamp(min=_NEAREST))
