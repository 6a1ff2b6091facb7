"""Pipelines of diffusers in folders or on the Hugging Face hub, put together of their parts without code of theirs."""

from __future__ import annotations

import inspect
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from ppap.data import hub
from ppap.diffusion.networks.pipeline_families import FAMILIES
from ppap.utils.errors import ConfigError, DataError, need, reason

_SETTINGS = ("*.json", "*.txt", "*.model")
_VARIANTS = [(kind, variant) for kind in ("safetensors", "bin") for variant in ("", ".fp16", ".bf16")]
_STEMS = ("diffusion_pytorch_model", "model", "pytorch_model")
_UNUSED = {"add_watermarker": False, "requires_safety_checker": False}


def downloaded(name: str, index: Mapping[str, Any], cache: Path) -> Path:
    """Return the folder of a pipeline of one of the `FAMILIES`, from the hub if it is none here; DataError if it cannot be had.

    `index` is its model_index.json. Only what drawing and encoding prompts take is downloaded.
    """
    return hub.folder_of(
        name, cache, _SETTINGS, weights_in(f"{part}/" for part in _wanted(index)), f"pipeline '{name}'"
    )


def weights_in(folders: Iterable[str]) -> list[list[str]]:
    """List the files, or patterns, of networks' weights in these folders (`NAME/`) of a pipeline, format by format."""
    within = list(folders)
    return [[folder + name for folder in within for name in _names(*variant)] for variant in _VARIANTS]


def files_of(folder: Path, index: Mapping[str, Any]) -> list[Path]:
    """List the files of a pipeline's folder that `assembled` reads."""
    found = [folder / "model_index.json"]
    for part in _wanted(index):
        names = [*_SETTINGS, *_names(*(_variant(folder / part) or _VARIANTS[0]))]
        found += sorted({path for name in names for path in (folder / part).glob(name)})
    return found


def assembled(folder: Path, index: Mapping[str, Any], read: Container[str] | None = None) -> Any:
    """Make a pipeline of one of the `FAMILIES` of its folder, in float32 on the CPU.

    `index` is its model_index.json. Its parts are of the installed diffusers and transformers, by name, and only those
    that drawing and encoding prompts take are read. If `read` names some, the other networks are on the meta device,
    without weights. ConfigError for a part of another class; DataError if one cannot be read.
    """
    need("transformers", "a pipeline of latents or prompts", "transformers")
    import diffusers

    kind = getattr(diffusers, index["_class_name"])
    wanted = _wanted(index)
    takes = inspect.signature(kind.__init__).parameters
    said = {key: value for key, value in index.items() if not isinstance(value, list) and key in takes}
    given = {**dict.fromkeys(part for part, named in index.items() if isinstance(named, list)), **said, **_UNUSED}
    given |= {
        part: _part(folder / part, named[0], named[1], read is not None and part not in read)
        for part, named in wanted.items()
    }
    try:
        return kind(**{key: value for key, value in given.items() if key in takes})
    except Exception as error:  # whatever a stranger's parts lead to
        raise DataError(
            f"pipeline {folder} cannot be read: its parts make no {kind.__name__} ({reason(error)})"
        ) from error


def _wanted(index: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts that are used and there, each with its library and class."""
    family = FAMILIES[index["_class_name"]]
    used = {family.network, family.autoencoder, "scheduler", *family.encoders}
    return {
        part: named
        for part, named in index.items()
        if isinstance(named, list)
        and len(named) == 2
        and named[1] is not None
        and (part in used or part.startswith(("tokenizer", "text_encoder")))
    }


def _part(folder: Path, library: Any, kind: Any, outlined: bool) -> Any:
    """Read a part: a scheduler, a tokenizer, or a network with all its weights; of an outlined one its settings alone."""
    import diffusers
    import transformers

    networks = (diffusers.ModelMixin, transformers.PreTrainedModel)
    others = (diffusers.SchedulerMixin, transformers.PreTrainedTokenizerBase)
    known = {"diffusers": diffusers, "transformers": transformers}.get(str(library))
    made: Any = getattr(known, str(kind), None)
    if not (isinstance(made, type) and issubclass(made, (*networks, *others))):
        raise ConfigError(
            f"{folder}: {library}.{kind} is none of the networks, tokenizers and schedulers that are known"
        )
    if issubclass(made, others):
        return _read(made, folder)
    return _outline(made, folder) if outlined else read_network(made, folder)


def read_network(kind: type, folder: Path) -> Any:
    """Read a network in float32; DataError if it lacks weights."""
    found = _variant(folder)
    if found is None:
        raise DataError(f"{folder}: no weights: neither safetensors nor .bin, such as {_STEMS[0]}.safetensors")
    form, variant = found
    safe = {"use_safetensors": form == "safetensors", "variant": variant.removeprefix(".") or None}
    network, about = _read(kind, folder, output_loading_info=True, **safe)
    if missing := sorted(about["missing_keys"]):
        raise DataError(f"{folder}: {len(missing)} weights of {kind.__name__} are missing, such as {missing[0]}")
    return network.float().eval()


def _outline(kind: Any, folder: Path) -> Any:
    """Make a network of its settings on the meta device, where it has no weights."""
    try:
        with torch.device("meta"):
            if hasattr(kind, "load_config"):
                return kind.from_config(kind.load_config(folder, local_files_only=True)).eval()
            return kind(kind.config_class.from_pretrained(folder, local_files_only=True)).eval()
    except Exception as error:  # whatever a stranger's settings lead to
        raise DataError(f"{folder} cannot be read: its settings make no {kind.__name__} ({reason(error)})") from error


def _variant(folder: Path) -> tuple[str, str] | None:
    """Find the first format, and variant of it, in which a network's weights are there."""
    return next((each for each in _VARIANTS if any(any(folder.glob(name)) for name in _names(*each))), None)


def _read(kind: Any, folder: Path, **how: Any) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True, **how)
    except Exception as error:  # whatever a stranger's files lead to
        raise DataError(f"{folder} cannot be read: they make no {kind.__name__} ({reason(error)})") from error


def _names(kind: str, variant: str) -> list[str]:
    """List the names, or patterns, of files that hold a network's weights in one format."""
    return [name for stem in _STEMS for name in (f"{stem}{variant}.{kind}", f"{stem}{variant}-*-of-*.{kind}")]
