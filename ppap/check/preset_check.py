"""The full check of a preset before any job starts: every network that it names is built and tried.

Networks are built on the meta device, which has shapes and no memory; a user's own, and those that do not work
there, on the CPU. Nothing is downloaded: weights that are not there yet are not looked at.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

from ppap.data.external import published
from ppap.errors import ConfigError, ModelError, PPAPError
from ppap.experts import adapters
from ppap.networks import models
from ppap.networks.guide import Guide, features_and_logits
from ppap.networks.library import has_library_weights, pretrained
from ppap.preset import (
    DATASET,
    DIFFUSION,
    EVALUATOR,
    REFERENCE,
    GuideConfig,
    InceptionEvaluator,
    NetworkConfig,
    Preset,
    runs,
)
from ppap.preset.consistency import LARGEST, networks, sources

_PARAMETERS = 20_000  # tensors of a network: the largest that are published have some thousands
_IMAGES = 2  # in a batch on trial

Check = Callable[[], None]


def problems(preset: Preset, files: bool = False) -> list[PPAPError]:
    """What is wrong, an error each that begins with its key; with `files`, also what is missing on this machine."""
    checks: list[tuple[str, Check]] = [(DIFFUSION, partial(_diffusion, preset))]
    checks += [
        (preset.key(name), partial(_classifier, preset, name)) for name, _ in networks(preset)
    ]
    checks += [(DATASET, partial(_registered, preset)), ("guides", partial(_stands_for, preset))]
    found = [problem for key, check in checks if (problem := _problem(key, check))]
    return found + (list(_missing(preset)) if files else [])


def _problem(key: str, check: Check) -> PPAPError | None:
    """What a check says, with the key in front, in one line."""
    try:
        with _quietly():
            check()
    except PPAPError as error:
        text = " ".join(str(error).split())
        if not text.startswith(f"{key}."):
            text = f"{key}.{text}" if text.startswith("adapter.") else f"{key}: {text}"
        kind = ModelError if isinstance(error, ModelError) else ConfigError
        problem = kind(text)
        problem.__cause__ = error.__cause__
        return problem
    return None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """No warnings of libraries, and no other random numbers than without the check."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


# -- where networks are tried ------------------------------------------------------------------------


def _try(trial: Check, what: str, own: bool = False) -> None:
    """Try a network on the meta device, and on the CPU if it does not work there.

    A user's `own` is tried on the CPU in any case, and on the meta device for its size only. What fails on
    both is the network's fault: ConfigError says how.
    """
    first = _failure(trial, "meta", LARGEST)
    if isinstance(first, _TooLargeError) or (first is None and not own):
        if first:
            raise ConfigError(f"{what} {first}")
        return
    failure = _failure(trial, "cpu", min(LARGEST, psutil.virtual_memory().available // 2))
    if isinstance(failure, _TooLargeError) and first is not None and not own:
        failure = first  # too large to try, but it has failed already
    if failure is None:
        return
    if isinstance(failure, _TooLargeError):
        raise ConfigError(f"{what} {failure}")
    if isinstance(failure, PPAPError):
        raise failure
    kind = ModelError if own else ConfigError
    raise kind(f"{what} cannot be used ({type(failure).__name__}: {_short(failure)})") from failure


def _failure(trial: Check, device: str, limit: int) -> Exception | None:
    """What a trial on this device raises. Strangers' code raises anything at all."""
    try:
        with torch.device(device), _of_size(limit):
            trial()
    except Exception as error:
        return error
    return None


class _TooLargeError(ConfigError):
    """A network that is larger than the memory that it would be tried in, or run in."""


@contextlib.contextmanager
def _of_size(limit: int) -> Iterator[None]:
    """_TooLargeError as soon as the networks that are built inside have more bytes than the limit."""
    held = count = 0

    def weigh(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal held, count
        if parameter is None:
            return
        held, count = held + parameter.numel() * parameter.element_size(), count + 1
        if held > limit or count > _PARAMETERS:
            raise _TooLargeError(
                f"has more than {limit / 2**30:.0f} GiB of weights"
                if held > limit
                else f"has more than {_PARAMETERS} tensors of weights"
            )

    hook = torch.nn.modules.module.register_module_parameter_registration_hook(weigh)
    try:
        yield
    finally:
        hook.remove()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


# -- the diffusion model -----------------------------------------------------------------------------


def _diffusion(preset: Preset) -> None:
    if preset.diffusion.pipeline:
        if not _installed("diffusers"):
            raise ConfigError("diffusion.pipeline: needs diffusers: pip install 'ppap[diffusers]'")
        return  # what it is shows when it has been downloaded
    _try(partial(_try_diffusion, preset), "architecture")


def _try_diffusion(preset: Preset) -> None:
    architecture = preset.diffusion.architecture
    assert architecture is not None
    network, x = models.new_diffusion(preset), _images(preset)
    out = network(x, torch.zeros(len(x)))
    wanted = (len(x), architecture.out_channels, *x.shape[2:])
    if out.shape != wanted:
        raise ConfigError(f"architecture: answers with {tuple(out.shape)}, not {wanted}")


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


# -- classifiers -------------------------------------------------------------------------------------


def _classifier(preset: Preset, name: str) -> None:
    """A guide, the evaluator or its classifier: there is such a model, and it does what the jobs ask of it."""
    spec = preset.network(name)
    assert spec is not None
    if has_library_weights(spec):
        _weights_exist(spec, preset.key(name), preset.dataset.classes)
    own = spec.model.startswith("user:")
    _try(partial(_try_classifier, preset, name, spec), f"model '{spec.model}'", own)


def _weights_exist(spec: NetworkConfig, key: str, classes: int) -> None:
    try:
        known = pretrained(spec.model)
    except PPAPError:
        raise
    except Exception as error:  # of the library, for names and tags that it does not know
        raise ConfigError(f"model '{spec.model}': no such weights ({_short(error)})") from error
    if spec.weights is None:
        published(known, spec.model, key, classes)


def _try_classifier(preset: Preset, name: str, spec: NetworkConfig) -> None:
    guide = models.new_guide(preset, name)
    if not isinstance(guide.network, nn.Module):
        raise ConfigError(
            f"model '{spec.model}': is {_kind(guide.network)}; a torch.nn.Module was expected"
        )
    _guides(preset, spec, guide.eval().requires_grad_(False))
    if name == EVALUATOR:
        _has_features(preset, spec, guide)
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
    """Its answer has a gradient for the images."""
    images = _images(preset).requires_grad_()
    logits = _answer(preset, spec, guide, images)
    (gradient,) = (
        torch.autograd.grad(logits.sum(), images, allow_unused=True)
        if logits.requires_grad
        else (None,)
    )
    if gradient is None:
        raise ConfigError(
            f"model '{spec.model}': its answer has no gradient for the images; it must come from them, "
            "without detach() and no_grad()"
        )
    if not gradient.is_meta and not torch.isfinite(gradient).all():
        raise ConfigError(f"model '{spec.model}': the gradient of its answer is not finite")


def _answer(preset: Preset, spec: NetworkConfig, guide: Guide, images: Tensor) -> Tensor:
    """Logits, as they must be."""
    logits = guide(images)
    wanted = (len(images), preset.dataset.classes)
    model, expected = f"model '{spec.model}'", f"expected was a tensor {wanted}, one number a class"
    if not isinstance(logits, Tensor):
        raise ConfigError(f"{model}: answers with {_kind(logits)}; {expected}")
    if logits.shape != wanted:
        raise ConfigError(f"{model}: answers with a tensor {tuple(logits.shape)}; {expected}")
    if not logits.is_floating_point():
        raise ConfigError(f"{model}: answers in {logits.dtype}; {expected}, in float32")
    if not logits.is_meta and not torch.isfinite(logits).all():
        raise ConfigError(f"{model}: answers with NaN or infinity to noise; {expected}")
    return logits


def _kind(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return "None" if value is None else f"a {type(value).__name__}"


def _has_features(preset: Preset, spec: NetworkConfig, guide: Guide) -> None:
    """The evaluator says its penultimate features (B, D), and its logits from them."""
    images = guide.prepare(_images(preset))
    try:
        features, logits = features_and_logits(guide.network, images)
    except Exception as error:
        raise ConfigError(
            f"model '{spec.model}': does not give its features as timm's classifiers do "
            f"({_short(error)})"
        ) from error
    if features.ndim != 2 or logits.shape != (len(images), preset.dataset.classes):
        raise ConfigError(
            f"model '{spec.model}': features {tuple(features.shape)} and logits {tuple(logits.shape)}; "
            f"expected were ({len(images)}, D) and ({len(images)}, {preset.dataset.classes})"
        )


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
    logits = _answer(preset, spec, guide, _images(preset, batch_size))
    found: tuple[Tensor | None, ...] = (None,)
    if logits.requires_grad:
        found = torch.autograd.grad(logits.sum(), trained, allow_unused=True)
    if all(gradient is None for gradient in found):
        raise ConfigError(f"model '{spec.model}': its answer has no gradient for what is trained")


def _images(preset: Preset, count: int = _IMAGES) -> Tensor:
    size = preset.dataset.image_size
    return torch.rand(count, preset.dataset.channels, size, size) * 2 - 1


# -- what is looked up by name -----------------------------------------------------------------------


def _registered(preset: Preset) -> None:
    judge = preset.evaluator
    reference = judge.reference.registered if isinstance(judge, InceptionEvaluator) else None
    wanted = {
        "dataset.name": preset.dataset.name,
        f"{EVALUATOR}.{REFERENCE}.registered": reference,
    }
    if not any(wanted.values()):
        return
    from torch_fidelity.registry import DATASETS_REGISTRY

    for key, name in wanted.items():
        if name and name not in DATASETS_REGISTRY:
            there = ", ".join(DATASETS_REGISTRY)
            raise ConfigError(f"{key}: torch-fidelity has no data set '{name}' (it has {there})")


def _stands_for(preset: Preset) -> None:
    named = {name: spec.stands_for for name, spec in preset.guides.items() if spec.stands_for}
    if not named:
        return
    from ppap.report.paper import printed
    from ppap.report.tables import TITLES

    there = dict.fromkeys(row.architecture for table in TITLES for row in printed(table))
    for name, architecture in named.items():
        if architecture not in there:
            raise ConfigError(
                f"guides.{name}.stands_for: the paper has no '{architecture}' (it has {', '.join(there)})"
            )


# -- what this machine lacks -------------------------------------------------------------------------


def _missing(preset: Preset) -> Iterator[ConfigError]:
    """Folders and files that the preset names by their path."""
    wanted = {f"{key}.url": source.local for key, source in sources(preset) if source.local}
    judge, data = preset.evaluator, preset.dataset
    if isinstance(judge, InceptionEvaluator) and judge.reference.folder:
        wanted[f"{EVALUATOR}.{REFERENCE}.folder"] = Path(judge.reference.folder)
    if data.path and runs.needs_data(preset):
        wanted[f"{DATASET}.path"] = Path(data.path)
    for key, path in wanted.items():
        if not path.exists():
            hint = "; `supervised: false` leaves out the rows that need it" * (
                key == "dataset.path"
            )
            yield ConfigError(f"{key}: {path}: is not there{hint}")
