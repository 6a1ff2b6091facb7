"""Configurations of transformers' models, without what would have them run code of others or download more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import transformers
from transformers import CONFIG_MAPPING
from transformers.models.auto import modeling_auto as auto

from ppap.guides.libraries.library import Shape, reason
from ppap.guides.tasks.kinds import CLASSIFICATION, DEPTH, SEGMENTATION
from ppap.utils.errors import ConfigError

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

_CLASSES: dict[str, Mapping[str, Any]] = {
    CLASSIFICATION: auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
    DEPTH: auto.MODEL_FOR_DEPTH_ESTIMATION_MAPPING_NAMES,
    SEGMENTATION: auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
}
# how a model is run, saved or found, not what it is
_NO_ARCHITECTURE = {
    *("auto_map", "dtype", "torch_dtype", "transformers_version", "name_or_path", "use_cache"),
    *("return_dict", "output_hidden_states", "output_attentions", "attn_implementation"),
}
_LABELS = {"id2label", "label2id", "num_labels", "num_channels", "architectures", "problem_type"}
_ELSEWHERE = ("backbone", "use_timm_backbone", "use_pretrained_backbone", "quantization_config")


def cleaned(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config.json says what the model is; its labels are always among that."""
    unnamed = {str(number): f"LABEL_{number}" for number in range(2)}  # transformers' default
    return {"id2label": unnamed, **_plain(settings)}


def architecture(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without labels, channels and class, which are another network's of the same architecture."""
    return {key: value for key, value in settings.items() if key not in _LABELS}


def class_of(settings: Mapping[str, Any], task: str, what: str) -> Any:
    """The class of transformers that does the task; ConfigError if the model is none such."""
    kind = _kind(settings, what)
    known = _CLASSES.get(task, {}).get(kind, ())
    able = [known] if isinstance(known, str) else list(known)
    if not able:
        raise ConfigError(f"model '{what}': transformers has no {kind} for {task}")
    stated = settings.get("architectures") or able
    fitting = [name for name in able if name in stated]
    if not fitting:
        raise ConfigError(f"model '{what}': is a {stated[0]}, which is not for {task}")
    return getattr(transformers, fitting[0])


def config_of(settings: Mapping[str, Any], shape: Shape, what: str) -> Any:
    """The configuration for images and answers of this shape; ConfigError if these settings make none.

    Settings of a publisher have labels, as many as the shape has classes; those of a preset get them.
    """
    published = "id2label" in settings
    stated = dict(settings)
    if not published:
        stated |= {"num_labels": shape.classes, "num_channels": shape.channels}
    config = _made(stated, what)
    if getattr(config, "num_channels", shape.channels) != shape.channels:
        raise ConfigError(
            f"model '{what}': takes {config.num_channels} channels, the images have {shape.channels}"
        )
    if shape.task != DEPTH and config.num_labels != shape.classes:
        raise ConfigError(
            f"model '{what}': knows {config.num_labels} classes, the preset has {shape.classes}"
        )
    return config


def refuse_other(stated: Mapping[str, Any], published: Mapping[str, Any], what: str) -> None:
    """ConfigError, naming the first difference, unless both settings make the same architecture."""
    ours, theirs = (
        dict(_leaves(architecture(_plain(_made(settings, what).to_dict()))))
        for settings in (architecture(stated), architecture(published))
    )
    known = _made({"model_type": _kind(stated, what)}, what).to_dict()  # others are of no effect
    for key in sorted(key for key in ours | theirs if key.partition(".")[0] in known):
        if ours.get(key) != theirs.get(key):
            raise ConfigError(
                f"options.{key}: {ours.get(key)!r}, but {theirs.get(key)!r} in the configuration of {what}"
            )


def _made(settings: Mapping[str, Any], what: str) -> Any:
    kind = _kind(settings, what)
    plain = {key: value for key, value in settings.items() if key != "model_type"}
    for key, value in _leaves(settings):
        name = key.rpartition(".")[2]
        if value and (name in _ELSEWHERE or "quantization_config" in key):
            raise ConfigError(f"model '{what}': {key} asks for more than its own weights")
        if name == "model_type" and str(value).startswith("timm"):
            raise ConfigError(f"model '{what}': is one of timm; name it as timm:NAME")
    try:
        return CONFIG_MAPPING[kind](**_plain(plain))
    except Exception as error:  # whatever a stranger's settings lead to
        raise ConfigError(
            f"model '{what}': its settings make no {kind} ({reason(error)})"
        ) from error


def _kind(settings: Mapping[str, Any], what: str) -> str:
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ConfigError(
            f"model '{what}': transformers {transformers.__version__} has no model_type {kind!r} of its own"
        )
    return kind


def _plain(settings: Any) -> Any:
    """Settings, nested ones too, without private ones and those that do not say what a model is."""
    if isinstance(settings, Mapping):
        return {
            key: _plain(value)
            for key, value in settings.items()
            if key not in _NO_ARCHITECTURE and not str(key).startswith("_")
        }
    return [_plain(value) for value in settings] if isinstance(settings, list | tuple) else settings


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
