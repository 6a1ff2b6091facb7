"""Classifiers on trial: what the jobs ask of guides and evaluators, on a batch of noise."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import partial

import torch
from torch import Tensor

from ppap.config import GuideConfig, Preset
from ppap.evaluation.evaluator import check_answers
from ppap.experts import lora as adapters
from ppap.guides.guide import Guide
from ppap.guides.libraries.library import Shape, code_of, is_known
from ppap.guides.libraries.settings import NetworkConfig
from ppap.utils.errors import ConfigError, PPAPError
from ppap.utils.runtime import Runtime
from ppap.utils.settings import EVALUATOR
from ppap.workflow import evaluator
from ppap.workflow import networks as models
from ppap.workflow.check.trial import short, try_network
from ppap.workflow.layout import Layout

_IMAGES = 2  # in a batch on trial


def check_classifier(layout: Layout, name: str) -> None:
    """A guide, the evaluator or its classifier: there is such a model, and it does what the jobs ask of it."""
    preset = layout.preset
    spec = preset.network(name)
    assert spec is not None
    if spec.published:
        _weights_exist(spec, preset.key(name), models.shape_of(preset, name))
    if not is_known(spec, layout.model(name)):
        return  # its download says what it is
    trial = partial(_try_classifier, layout, name, spec)
    try_network(trial, f"model '{spec.model}'", spec.library.of_user)


def check_evaluator(layout: Layout) -> None:
    """An evaluator without files judges two images of noise; others are tried by their networks."""
    if not layout.preset.evaluator.judged_by:
        shape = (_IMAGES, *layout.preset.dataset.shape)
        evaluator.untrained_extractor(layout)(torch.randint(256, shape, dtype=torch.uint8))


def _weights_exist(spec: NetworkConfig, key: str, shape: Shape) -> None:
    try:
        code_of(spec.model)[0].check(spec, shape, key)
    except PPAPError:
        raise
    except Exception as error:  # of the library, for names and tags that it does not know
        raise ConfigError(f"model '{spec.model}': no such weights ({short(error)})") from error


def _try_classifier(layout: Layout, name: str, spec: NetworkConfig) -> None:
    preset = layout.preset
    guide = models.new_guide(layout, name)
    _guides(preset, spec, guide.eval().requires_grad_(False))
    if name == EVALUATOR:
        _gives_features(preset, guide)
    for batch in _whole_batches(preset, spec):
        _learns(preset, spec, guide.requires_grad_(True), batch)
    if isinstance(spec, GuideConfig) and "adapter" in _trained_parts(preset):
        _adapts(preset, spec, guide)


def _whole_batches(preset: Preset, spec: NetworkConfig) -> set[int]:
    """Batch sizes with which all parameters are trained, as far as they differ: one image may be too few."""
    sizes = {spec.train.batch_size} if spec.train else set()
    if isinstance(spec, GuideConfig) and "all" in _trained_parts(preset):
        sizes.add(spec.experts.batch_size)
    return {min(size, _IMAGES) for size in sizes}


def _trained_parts(preset: Preset) -> set[str | None]:
    """What the methods train of a guide: all of it, or its adapter."""
    return {method.trainable for method in preset.methods.values() if not method.imported}


def _guides(preset: Preset, spec: NetworkConfig, guide: Guide) -> None:
    """Its answer is finite, and has a gradient for the images."""
    images = _images(preset).requires_grad_()
    answer = guide(images)
    if not answer.is_meta and not torch.isfinite(answer).all():
        raise ConfigError(f"model '{spec.model}': answers with infinity to noise")
    (gradient,) = torch.autograd.grad(answer.sum(), images, allow_unused=True)
    if gradient is None:
        raise ConfigError(
            f"model '{spec.model}': its answer has no gradient for the images; it must come from them, "
            "without detach() and no_grad()"
        )
    if not gradient.is_meta and not torch.isfinite(gradient).all():
        raise ConfigError(f"model '{spec.model}': the gradient of its answer is not finite")


def _gives_features(preset: Preset, guide: Guide) -> None:
    """Its penultimate features are one vector an image, and so are its logits, a number for each class."""
    extract = preset.evaluator.extractor({EVALUATOR: guide}, Runtime(device="cpu"))
    answers = extract((_images(preset) * 127.5 + 127.5).byte())
    spec = preset.evaluator.describe(_IMAGES, preset.dataset.classes)
    check_answers(f"model '{guide.name}'", answers, spec)


def _adapts(preset: Preset, spec: GuideConfig, guide: Guide) -> None:
    """The adapter's patterns fit the network, and leave something to train."""
    names = [name for name, _ in guide.network.named_parameters()]
    for key in ("train", "freeze"):
        if key in spec.adapter.model_fields_set:
            _patterns_match(key, getattr(spec.adapter, key), names)
    adapters.attach(guide.network, spec.adapter)
    if not adapters.trainable_parameters(guide.network):
        raise ConfigError(
            "adapter.freeze: leaves nothing to train of what `layers` and `train` name"
        )
    _learns(preset, spec, guide, min(spec.experts.batch_size, _IMAGES))


def _patterns_match(key: str, patterns: tuple[str, ...], names: list[str]) -> None:
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ConfigError(f"adapter.{key}: '{pattern}' matches no parameter")


def _learns(preset: Preset, spec: NetworkConfig, guide: Guide, batch_size: int) -> None:
    """A step of training reaches a parameter, with a batch of one image too if that is what is asked for."""
    trained = [p for p in guide.network.parameters() if p.requires_grad]
    if not trained:
        raise ConfigError(f"model '{spec.model}': has no parameters to train")
    guide.train()
    answer = guide(_images(preset, batch_size)).sum()
    found = torch.autograd.grad(answer, trained, allow_unused=True)
    if all(gradient is None for gradient in found):
        raise ConfigError(f"model '{spec.model}': its answer has no gradient for what is trained")


def _images(preset: Preset, count: int = _IMAGES) -> Tensor:
    return torch.rand(count, *preset.dataset.shape) * 2 - 1
