"""Models of transformers: depth estimators, segmenters, classifiers and embeddings of the Hugging Face hub, or of folders.

What such a model is, its publisher's config.json says: the download writes that beside the weights, and a preset
may state it before, as `options`. Of a publisher's folder only settings and tensors are read: code that is kept with
a model is never asked for, nor are settings that would have transformers fetch more (backbones, kernels).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ppap.data import hub
from ppap.data.downloads import Downloads
from ppap.guides.libraries.library import Input, Library, Shape
from ppap.guides.libraries.transformers_input import PROCESSOR, input_of, quiet_transformers
from ppap.guides.libraries.transformers_words import TOKENIZER, vectors_of
from ppap.utils import files
from ppap.utils.errors import ConfigError, DataError, reason
from ppap.utils.settings import CLASSIFICATION, DEPTH, EMBEDDING, SCORE, SEGMENTATION
from ppap.utils.weights import check_weights

if TYPE_CHECKING:
    from ppap.guides.libraries.settings import NetworkConfig

_CONFIG = "config.json"
_WEIGHTS = (("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"), ("pytorch_model.bin",))
_CACHE = "huggingface"
_HUB_NAME = r"[\w-][\w.-]*/[\w.-]+"
_SETTINGS, _INPUT = "settings", "seen"  # in the metadata of the workflow's file
_CLASSES = {
    CLASSIFICATION: "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    DEPTH: "MODEL_FOR_DEPTH_ESTIMATION_MAPPING",
    SEGMENTATION: "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING",
    EMBEDDING: "MODEL_FOR_IMAGE_MAPPING",
    SCORE: "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
}
# how a model is run, saved or found, not what it is
_NO_ARCHITECTURE = {
    *("auto_map", "dtype", "torch_dtype", "transformers_version", "name_or_path", "use_cache"),
    *("return_dict", "output_hidden_states", "output_attentions", "attn_implementation"),
}
_LABELS = {"id2label", "label2id", "num_labels", "num_channels", "architectures", "problem_type"}
_ELSEWHERE = {"backbone", "use_timm_backbone", "use_pretrained_backbone", "quantization_config"}
_TWO_LABELS = {"0": "LABEL_0", "1": "LABEL_1"}  # transformers' own, where a publisher names none
_METRIC = {"glpn", "zoedepth"}  # answer in metres, of which ours is the inverse
_NEAREST = 1e-3  # metres


class TransformersModels(Library):
    """Models of transformers, which answer with the plain tensor of their task."""

    written = "transformers:NAME_OR_FOLDER"
    ours = frozenset(
        [
            *("num_labels", "id2label", "label2id", "num_channels", "architectures"),
            *("auto_map", "dtype", "torch_dtype", "quantization_config"),
        ]
    )
    gives_features = False
    needs = "transformers"
    one_file = False
    download_reads = Input._fields

    def build(self, name: str, shape: Shape, options: dict[str, Any], folders: Sequence[Path]) -> nn.Module:
        config = _config(options, shape, f"transformers:{name}")
        return _answering(_class_of(config, shape.task, name)(config), shape.task)

    def options(self, spec: NetworkConfig, file: Path) -> dict[str, Any]:
        """Read what makes the model: the workflow's file has the last word, then the preset, then the model's folder."""
        stated, metadata = spec.options, _metadata(spec, file)
        if _SETTINGS in metadata:
            return dict(json.loads(metadata[_SETTINGS]))
        if stated:
            return stated
        if Path(spec.name).is_dir():
            settings = _read_settings(Path(spec.name))
            return settings if spec.published else _without_labels(settings)
        raise DataError(
            f"{file}: is not there yet, or of another model, and only it says what '{spec.model}' is: "
            "download it, or state its configuration (model_type and so on) as `options`"
        )

    def hub_name(self, name: str) -> str | None:
        return None if self.folder_name(name) else name.partition("@")[0]

    def folder_name(self, name: str) -> str | None:
        """Return as in `Library` the name that a folder's settings say it was published under, else the folder's own."""
        folder = Path(name)
        if not (name.startswith((".", "/")) or folder.is_dir()):
            return None
        config = folder / _CONFIG
        published = str(files.read_json(config).get("_name_or_path")) if config.is_file() else ""
        return published if re.fullmatch(_HUB_NAME, published) else folder.resolve().name

    def published_input(self, spec: NetworkConfig, file: Path) -> Mapping[str, Any]:
        said = _metadata(spec, file).get(_INPUT)
        known = json.loads(said) if said else input_of(Path(spec.name))
        return {key: tuple(value) if isinstance(value, list) else value for key, value in known.items()}

    def reader(self, spec: NetworkConfig, file: Path, downloads: Path) -> Callable[[Sequence[str]], Tensor] | None:
        """Return as in `Library` the text tower of a model of images and words: CLIP, SigLIP and their like."""
        settings = _plain(self.options(spec, file), spec.model)
        if not hasattr(quiet_transformers().AutoConfig.for_model(**settings), "text_config"):
            return None
        return partial(_read, spec.name, downloads / _CACHE)

    def check(self, spec: NetworkConfig, shape: Shape, key: str) -> None:
        """Check as in `Library`: a folder is read at once; of the hub, nothing is known before the download."""
        folder = Path(spec.name)
        if folder.is_dir():
            _published_config(spec, shape, _read_settings(folder))
            spec.completed(lambda: input_of(folder))

    def download(
        self, spec: NetworkConfig, shape: Shape, key: str, downloads: Downloads
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Download as in `Library`, from a folder or from the hub, whose downloads are resumed and checked."""
        cache = downloads.folder / _CACHE
        beside = TOKENIZER if shape.task == EMBEDDING else ()  # jobs that read words may have no network
        folder = hub.folder_of(spec.name, cache, (_CONFIG, PROCESSOR, *beside), _WEIGHTS, f"model '{spec.model}'")
        settings = _read_settings(folder)
        config = _published_config(spec, shape, settings)
        seen = spec.completed(lambda: input_of(folder))
        network = _loaded(config, shape.task, folder, seen.input_size)
        about = hub.source_of(spec.name, folder) | {_SETTINGS: json.dumps(settings), _INPUT: json.dumps(seen._asdict())}
        names = [str(name) for _, name in sorted((config.id2label or {}).items())]
        if not all(name.startswith("LABEL_") for name in names):
            about["class_names"] = json.dumps(names)
        return network.state_dict(), about


# -- what a model is ---------------------------------------------------------------------------------


def _metadata(spec: NetworkConfig, file: Path) -> dict[str, str]:
    """Read what the workflow's file says of published weights; nothing if it is not there, or of another model."""
    if not (spec.published and file.is_file()):
        return {}
    metadata = files.read_metadata(file)
    return metadata if metadata.get("source") == spec.name else {}


def _read_settings(folder: Path) -> dict[str, Any]:
    """Read what of a publisher's config.json says what the model is; its labels are always among that."""
    return {"id2label": _TWO_LABELS, **_plain(files.read_json(folder / _CONFIG), f"transformers:{folder}")}


def _without_labels(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out labels, channels and class, which are another network's of the same architecture."""
    return {key: value for key, value in settings.items() if key not in _LABELS}


def _plain(settings: Mapping[str, Any], model: str) -> dict[str, Any]:
    """Leave out of settings, nested ones too, what is private or does not say what a model is.

    ConfigError if they ask for what is not the model's own.
    """

    def plain(part: dict[str, Any]) -> dict[str, Any]:
        for key in _ELSEWHERE:
            if part.get(key):
                raise ConfigError(f"model '{model}': {key} asks for more than its own weights")
        if str(part.get("model_type")).startswith("timm"):
            raise ConfigError(f"model '{model}': is one of timm; name it as timm:NAME")
        return {key: value for key, value in part.items() if key not in _NO_ARCHITECTURE and not key.startswith("_")}

    return dict(json.loads(json.dumps(settings), object_hook=plain))


def _config(settings: Mapping[str, Any], shape: Shape, model: str) -> Any:
    """Make the configuration for images and answers of this shape; ConfigError if these settings make none.

    Settings of a publisher have labels, as many as the shape has classes; those of a preset get them.
    """
    plain = _plain(settings, model)
    if "id2label" not in plain:
        plain |= {"num_labels": shape.classes, "num_channels": shape.channels}
    try:
        config = quiet_transformers().AutoConfig.for_model(**{"model_type": None, **plain})
    except Exception as error:  # whatever a stranger's settings lead to
        raise ConfigError(
            f"model '{model}': its settings make no {plain.get('model_type')} ({reason(error)})"
        ) from error
    if shape.task == EMBEDDING:
        config = _of_images(config)
    if getattr(config, "num_channels", shape.channels) != shape.channels:
        raise ConfigError(f"model '{model}': takes {config.num_channels} channels, the images have {shape.channels}")
    if shape.task not in (DEPTH, EMBEDDING) and config.num_labels != shape.classes:
        raise ConfigError(f"model '{model}': knows {config.num_labels} classes, the preset has {shape.classes}")
    return config


def _of_images(config: Any) -> Any:
    """Return the configuration of the tower that sees images, of a model of images and words."""
    seen = getattr(config, "vision_config", config)
    if hasattr(seen, "projection_dim"):  # of CLIP's, which the whole model says
        seen.projection_dim = getattr(config, "projection_dim", seen.projection_dim)
    return seen


def _published_config(spec: NetworkConfig, shape: Shape, settings: dict[str, Any]) -> Any:
    """Make a publisher's configuration; ConfigError unless it is for the task, and as the preset states it."""
    config = _config(settings, shape, spec.model)
    _class_of(config, shape.task, spec.name)
    if spec.options:
        ours, theirs = (
            _config(_without_labels(each), shape, spec.model).to_dict() for each in (spec.options, settings)
        )
        for key in sorted(ours.keys() & theirs.keys()):  # others are of no effect
            if ours[key] != theirs[key]:
                raise ConfigError(f"options.{key}: is another one in the configuration of {spec.model}")
    return config


def _class_of(config: Any, task: str, name: str) -> Any:
    """Choose the class of transformers that does the task; ConfigError if the model is none such."""
    library = quiet_transformers()
    if task == EMBEDDING and isinstance(config, library.CLIPVisionConfig):
        return library.CLIPVisionModelWithProjection
    classes = getattr(library, _CLASSES.get(task, ""), {}).get(type(config), ())
    able = classes if isinstance(classes, tuple) else (classes,)
    for kind in able:
        if task == EMBEDDING or kind.__name__ in (config.architectures or [able[0].__name__]):
            return kind
    stated = (config.architectures or [config.model_type])[0]
    raise ConfigError(f"model 'transformers:{name}': is a {stated}, which is not for {task}")


# -- its weights, and its answers ---------------------------------------------------------------------


def _loaded(config: Any, task: str, folder: Path, size: int) -> nn.Module:
    """Load a model's weights from its folder, in float32, under the names that the installed transformers has.

    DataError unless they are the model's: all but parameters that its answer to images of this size does not
    come from, as of MiDaS the first fusion's, which publishers leave out; these are 0.
    """
    kind = _class_of(config, task, str(folder))
    try:
        network, about = kind.from_pretrained(
            folder, config=config, dtype=torch.float32, weights_only=True, trust_remote_code=False,
            local_files_only=True, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:  # each model converts the names in its own way
        raise DataError(f"{folder}: not the weights of a {kind.__name__} ({reason(error)})") from error
    network = _answering(network.eval(), task)
    missing = sorted(about["missing_keys"])
    if missing and not _unused(network, missing, size):
        raise DataError(f"{folder}: lacks {', '.join(missing[:3])}")
    check_weights(network, network.state_dict(), folder)
    return network


@torch.no_grad()
def _unused(network: Any, missing: list[str], size: int) -> bool:
    """Make parameters 0, and say whether the answer to an image does not come from them: NaN would show in it."""
    parameters = [value for name, value in network.named_parameters() if name in missing]
    for parameter in parameters:
        parameter.fill_(torch.nan)
    answers = network(torch.zeros(1, getattr(network.config, "num_channels", 3), size, size))
    for parameter in parameters:
        parameter.zero_()
    return len(parameters) == len(missing) and bool(answers.isfinite().all())


def _answering(network: nn.Module, task: str) -> nn.Module:
    """Make a network return the plain tensor of the task, under its own parameters' names."""
    network.register_forward_hook(partial(_answer, task))
    return network


def _answer(task: str, network: Any, images: tuple[Tensor, ...], answers: Any) -> Tensor:
    """Take the task's tensor from an answer; of a depth in metres its inverse: as MiDaS's, larger is nearer."""
    if task == EMBEDDING:
        vector = answers.get("image_embeds", answers.get("pooler_output"))
        if vector is None:
            raise ConfigError(f"model '{type(network).__name__}': gives no vector of an image")
        return vector.flatten(1)
    answer: Tensor = answers["predicted_depth" if task == DEPTH else "logits"]
    metric = getattr(network.config, "depth_estimation_type", "") == "metric" or network.config.model_type in _METRIC
    return torch.reciprocal(answer.clamp(min=_NEAREST)) if task == DEPTH and metric else answer


def _read(name: str, cache: Path, words: Sequence[str]) -> Tensor:
    """Return the vector of each text (N, D); the files of the text tower are downloaded once."""
    model = f"model 'transformers:{name}'"
    return vectors_of(hub.folder_of(name, cache, (_CONFIG, *TOKENIZER), _WEIGHTS, model), words)
