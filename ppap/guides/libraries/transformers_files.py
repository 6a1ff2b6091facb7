"""Folders that transformers saves models in, copied or downloaded from the Hugging Face hub: JSON and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ppap.data import hub
from ppap.guides.libraries.library import Input
from ppap.guides.libraries.transformers_config import architecture, cleaned
from ppap.guides.libraries.transformers_input import input_of_processor
from ppap.utils import files
from ppap.utils.errors import DataError
from ppap.utils.weights import read_weights

_CONFIG, _PROCESSOR = "config.json", "preprocessor_config.json"
_SAFE, _INDEX, _PICKLED = "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin"
_WANTED = ((_SAFE, _INDEX, "model-*-of-*.safetensors"), (_PICKLED,))


class Published(NamedTuple):
    """What the publisher of a model says of it: settings that make it, and what its input is, if that is said."""

    settings: dict[str, Any]
    input: Input | None

    @property
    def architecture(self) -> dict[str, Any]:
        return architecture(self.settings)

    @property
    def label_names(self) -> list[str]:
        """The names of its classes, in order, if it has other ones than LABEL_0 and so on."""
        labels = self.settings["id2label"]
        names = [str(labels[key]) for key in sorted(labels, key=int)]
        return [] if all(name.startswith("LABEL_") for name in names) else names


def folder_of(name: str, cache: Path) -> Path:
    """The model's folder, downloaded if it has to be: its settings, and its weights in one format."""
    return hub.folder_of(
        name, cache, (_CONFIG, _PROCESSOR), _WANTED, f"model 'transformers:{name}'"
    )


def read(folder: Path) -> Published:
    """The settings in a folder; DataError or ConfigError if they are none, or what cannot be done."""
    settings = cleaned(files.read_json(folder / _CONFIG))
    labels = settings["id2label"]
    if not isinstance(labels, dict) or not all(str(key).isdecimal() for key in labels):
        raise DataError(f"{folder / _CONFIG}: id2label is no mapping of numbers to names")
    processor = folder / _PROCESSOR
    there = processor.is_file()
    return Published(
        settings, input_of_processor(files.read_json(processor), processor) if there else None
    )


def weights(folder: Path) -> dict[str, Tensor]:
    """The tensors in a folder: in one file, or in those that an index lists."""
    if (folder / _INDEX).is_file() and not (folder / _SAFE).is_file():
        index = folder / _INDEX
        listed = files.read_json(index).get("weight_map")
        shards = sorted(set(listed.values())) if isinstance(listed, dict) else []
        if not shards or any(not isinstance(s, str) or Path(s).name != s for s in shards):
            raise DataError(f"{index}: no index of files beside it")
        return {n: value for s in shards for n, value in read_weights(folder / s).items()}
    for name in (_SAFE, _PICKLED):
        if (folder / name).is_file():
            return read_weights(folder / name)
    raise DataError(f"{folder}: cannot be read: no {_SAFE}, {_INDEX} or {_PICKLED}")
