"""Experts released by the paper's authors, in the format of this project.

Their files are full state dicts, pickled by torch: NAME.lora_A, NAME.lora_B and NAME.conv.weight (or
NAME.linear.weight) for an adapted layer NAME, behind a prefix that says which wrapper held the network.
Fine-tuned models without adapters (their rows "Finetune" and "Multi-experts") have no such names.
"""

from __future__ import annotations

import itertools
import logging
import re
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ppap.config import MethodConfig, Preset
from ppap.experts import lora as adapters
from ppap.experts.header import (
    NORMALISED,
    UNNORMALISED,
    ExpertHeader,
    NetworkInput,
    Purpose,
    purpose_of,
)
from ppap.guides.guide import Guide
from ppap.utils import files, tensor_spec
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.weights import check_numbers, load_weights, read_weights
from ppap.workflow import networks as models
from ppap.workflow.layout import Layout

log = logging.getLogger(__name__)
_ALPHA = 8.0  # of every expert they trained
_DEIT_ADAPTER = "deit.classifier."
_PREFIXES = (_DEIT_ADAPTER, "resnet.", "classifier.")
_FACTORS = ("lora_A", "lora_B")


class ReleasedExpert(NamedTuple):
    """A released file under the guide's own names: plain weights, LoRA factors, how they are used."""

    weights: dict[str, Tensor]
    factors: dict[str, Tensor]
    lora_scale: float
    input: NetworkInput


class Source(NamedTuple):
    """A released file and the timesteps it is for."""

    path: Path
    timesteps: range


def import_experts(
    layout: Layout,
    guide_name: str,
    method_name: str,
    found: list[Source],
    sees: str | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write the experts of a guide and method from released files; returns the files written.

    `sees` overrides what the networks are fed ("normalised" or "unnormalised" images). All files are written
    or none. ConfigError or DataError if the files are not released experts of this guide and method,
    their ranges are not the method's, or they would replace trained experts (unless `overwrite`).
    """
    preset = layout.preset
    method = preset.methods[method_name]
    ordered = sorted(found, key=lambda source: source.timesteps.start)
    _check_ranges(ordered, preset.ranges(method), method_name)
    targets = layout.experts(guide_name, method_name)
    _check_targets(targets, overwrite)
    guide = models.new_guide(layout, guide_name)
    weights = layout.model(guide_name)
    about = {"model": guide_name}
    off_the_shelf = tensor_spec.read(weights, tensor_spec.of_network(guide.network), about)
    wanted = purpose_of(preset, guide_name, method_name, weights)
    contents = {}
    for target, source in zip(targets, ordered, strict=True):
        released = read_released(source.path)
        _check_method(released, method, method_name, source.path)
        load_weights(guide.network, off_the_shelf, weights)
        changed = _delta(guide, released, source.path)
        header = _header(wanted, guide, changed, released, source)
        if sees:
            header = header.model_copy(update={"input": sees})
        contents[target] = (changed, header.metadata())
    files.write_all({path: files.tensors_writer(*content) for path, content in contents.items()})
    if not method.imported:
        log.warning(
            "methods.%s: without `imported: true` the workflow trains experts in their place",
            method_name,
        )
    return targets


def read_released(path: Path) -> ReleasedExpert:
    """A released file; DataError if it is not one."""
    state = read_weights(path)
    prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), "")
    state = {name.removeprefix(prefix): value for name, value in state.items()}
    adapted = {n.rpartition(".")[0] for n in state if n.rpartition(".")[2] in _FACTORS}
    weights, factors = {}, {}
    for name, value in state.items():
        module, _, last = name.rpartition(".")
        layer, _, inner = module.rpartition(".")
        if last in _FACTORS:
            factors[f"{module}.weight.{last}"] = value
        elif layer in adapted and inner in ("conv", "linear"):
            weights[f"{layer}.{last}"] = value
        else:
            weights[name] = value
    integers = sorted(name for name, value in factors.items() if not value.is_floating_point())
    if integers:
        raise DataError(f"{path}: {integers[0]} holds no floats")
    scale = _lora_scale(weights, factors, adapted, path)
    # Their students see what the diffusion model sees. Only the wrapper of adapted DeiTs normalises.
    return ReleasedExpert(
        weights, factors, scale, NORMALISED if prefix == _DEIT_ADAPTER else UNNORMALISED
    )


def sources(preset: Preset, method: str, paths: list[Path], ranges: list[str]) -> list[Source]:
    """The files with their timesteps: `ranges` ("0-200"), or the method's in order; ConfigError if not as many."""
    wanted = preset.ranges(preset.methods[method])
    if not preset.guidance(method).experts:
        raise ConfigError(f"methods.{method}: has no experts")
    if len(paths) != len(wanted):
        raise ConfigError(f"{len(paths)} files for the {len(wanted)} experts of {method}")
    if ranges and len(ranges) != len(paths):
        raise ConfigError(f"--range: {len(ranges)} for {len(paths)} files")
    timesteps = [_parse_range(text) for text in ranges] or wanted
    return [Source(*pair) for pair in zip(paths, timesteps, strict=True)]


def _parse_range(text: str) -> range:
    match = re.fullmatch("([0-9]{1,9})-([0-9]{1,9})", text)
    found = range(*map(int, match.groups())) if match else range(0)
    if not found:
        raise ConfigError(f"--range {text}: write FIRST-END, as in 0-200 (END is not included)")
    return found


def _lora_scale(
    weights: dict[str, Tensor], factors: dict[str, Tensor], adapted: set[str], path: Path
) -> float:
    """What B A is multiplied with.

    alpha / rank for convolutions. Their linear layers leave the factor out wherever they run unmerged,
    which is always: nn.Module.eval() does not call the eval() of submodules that would merge them.
    """
    ranks = {_rank(layer, weights, factors, path) for layer in sorted(adapted)}
    if len(ranks) > 1:
        raise DataError(f"{path}: adapters of several ranks ({sorted(ranks)})")
    linear = any(weights[f"{layer}.weight"].dim() == 2 for layer in adapted)
    return 1.0 if linear or not ranks else _ALPHA / ranks.pop()


def _rank(layer: str, weights: dict[str, Tensor], factors: dict[str, Tensor], path: Path) -> int:
    """An adapter's rank; DataError unless both factors are there and fit the weight."""
    weight = weights.get(f"{layer}.weight")
    a, b = (factors.get(f"{layer}.weight.{factor}") for factor in _FACTORS)
    if weight is None or a is None or b is None:
        parts = {"weight": weight, "lora_A": a, "lora_B": b}
        missing = next(name for name, tensor in parts.items() if tensor is None)
        raise DataError(f"{path}: lacks {layer}.{missing}")
    rank = max(1, len(a) // min(weight.shape[2:], default=1)) if a.dim() == 2 else 1
    if weight.dim() not in (2, 4) or (a.shape, b.shape) != adapters.lora_shapes(weight.shape, rank):
        raise DataError(
            f"{path}: {layer}.lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)} do not fit "
            f"its weight {tuple(weight.shape)}"
        )
    return rank


def _delta(guide: Guide, released: ReleasedExpert, path: Path) -> dict[str, Tensor]:
    """What the expert changes of the guide, whose network holds the off-the-shelf weights."""
    base = {name: value.clone() for name, value in guide.network.state_dict().items()}
    load_weights(guide.network, released.weights, path)
    check_numbers(guide.network, released.factors, path)
    changed = adapters.delta(guide.network, base)
    replaced = [n for n in changed if f"{n}.lora_A" in released.factors]
    if replaced:
        log.warning(
            "%s: made from other off-the-shelf weights than the guide's (%s differs); it keeps its own",
            path,
            replaced[0],
        )
    factors = {n: v.to(base[n.rpartition(".")[0]].dtype) for n, v in released.factors.items()}
    return changed | factors


def _header(
    wanted: Purpose,
    guide: Guide,
    changed: dict[str, Tensor],
    released: ReleasedExpert,
    source: Source,
) -> ExpertHeader:
    """An expert's header. What it trained is what it changes, batch-norm statistics aside."""
    statistics = dict(guide.network.named_buffers())
    trained = sum(value.numel() for name, value in changed.items() if name not in statistics)
    rank = adapters.rank_of(changed, guide.network.state_dict()) if released.factors else None
    own = {"rank": rank, "lora_scale": released.lora_scale}
    return ExpertHeader(
        **{**wanted.model_dump(), **own},
        range_start=source.timesteps.start,
        range_stop=source.timesteps.stop,
        input=released.input,
        trainable_parameters=trained,
        guide_parameters=sum(p.numel() for p in guide.network.parameters()),
        released_sha256=files.sha256(source.path),
    )


def _check_method(released: ReleasedExpert, method: MethodConfig, name: str, path: Path) -> None:
    if (method.trainable == "adapter") != bool(released.factors):
        found = "adapters" if released.factors else "no adapters"
        raise DataError(f"{path}: has {found}, but methods.{name}.trainable is {method.trainable}")


def _check_ranges(found: list[Source], wanted: list[range], method: str) -> None:
    """ConfigError unless the files' timesteps (sorted) are the method's ranges."""
    for one, other in itertools.pairwise(found):
        end, start = one.timesteps.stop, other.timesteps.start
        if end > start:
            raise ConfigError(f"{one.path} and {other.path} both cover timestep {start}")
        if end < start:
            raise ConfigError(f"no file covers timestep {end}")
    for source, mine in zip(found, wanted, strict=True):
        if source.timesteps != mine:
            given = f"{source.timesteps.start}-{source.timesteps.stop}"
            raise ConfigError(
                f"{source.path}: range {given}, but the preset's for {method} is {mine.start}-{mine.stop}"
            )


def _check_targets(targets: list[Path], overwrite: bool) -> None:
    for path in targets:
        if path.exists() and not overwrite and "released_sha256" not in files.read_metadata(path):
            raise DataError(f"{path}: a trained expert; --overwrite replaces it")
