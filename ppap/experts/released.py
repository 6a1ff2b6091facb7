"""Experts released by the paper's authors, in the format of this project.

Their files are full state dicts, pickled by torch: NAME.lora_A, NAME.lora_B and NAME.conv.weight (or
NAME.linear.weight) for an adapted layer NAME, behind a prefix that says which wrapper held the network.
Fine-tuned models without adapters (their rows "Finetune" and "Multi-experts") have no such names.
"""

from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from ppap.diffusion.schedules import Schedule
from ppap.experts import lora
from ppap.experts.expert import Expert, ExpertHeader, NetworkInput, Purpose
from ppap.guides.guide import Guide
from ppap.utils import files, tensor_spec
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.weights import load_weights, read_weights

log = logging.getLogger(__name__)
_ALPHA = 8.0  # of every expert they trained
_DEIT_ADAPTER = "deit.classifier."
_DEITS = (_DEIT_ADAPTER, "classifier.")
_PREFIXES = (*_DEITS, "resnet.")
_FACTORS = ("lora_A", "lora_B")


class ReleasedExpert(NamedTuple):
    """A released file under the guide's own names: plain weights, LoRA factors, and how they are used."""

    weights: dict[str, Tensor]
    factors: dict[str, Tensor]
    input: NetworkInput
    of_deit: bool


class Source(NamedTuple):
    """A released file and the timesteps it is for."""

    path: Path
    timesteps: range


def import_experts(
    guide: Guide,
    purpose: Purpose,
    sources: list[Source],
    ranges: list[range],
    schedule: Schedule,
    sees: str | None = None,
) -> list[Expert]:
    """Turn released files into a guide's experts for this purpose, which own these ranges of a full schedule's timesteps.

    The guide holds its off-the-shelf weights. `sees` overrides what the networks are fed ("normalised" or
    "unnormalised" images). ConfigError or DataError if the files are not released experts of this guide and
    purpose, or their ranges are others.
    """
    ordered = sorted(sources, key=lambda source: source.timesteps.start)
    _check_ranges(ordered, ranges, purpose.method)
    base = {name: value.clone() for name, value in guide.network.state_dict().items()}
    experts = []
    for source in ordered:
        released = read_released(source.path)
        if (purpose.trainable == "adapter") != bool(released.factors):
            has = "adapters" if released.factors else "no adapters"
            raise DataError(f"{source.path}: has {has}, but methods.{purpose.method}.trainable is {purpose.trainable}")
        _check_input(guide, released, source.path)
        changed = _delta(guide, base, released, source.path)
        header = _header(purpose, guide, base, changed, released, source, sees)
        experts.append(Expert(source.path, header, changed).trained_on(schedule))
    return experts


def read_released(path: Path) -> ReleasedExpert:
    """Read a released file; DataError if it is not one."""
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
    # Their students see what the diffusion model sees. Only the wrapper of adapted DeiTs normalises.
    sees: NetworkInput = "normalised" if prefix == _DEIT_ADAPTER else "unnormalised"
    return ReleasedExpert(weights, factors, sees, of_deit=prefix in _DEITS)


def _lora_scale(factors: dict[str, Tensor], base: dict[str, Tensor]) -> float:
    """Return the scale of the update B A.

    It is alpha / rank for convolutions. Their linear layers leave the factor out wherever they run unmerged,
    which is always: nn.Module.eval() does not call the eval() of submodules that would merge them.
    """
    linear = any(base[name].dim() == 2 for name in lora.changed_names(factors))
    return 1.0 if linear or not factors else _ALPHA / lora.rank_of(factors, base)


def _delta(guide: Guide, base: dict[str, Tensor], released: ReleasedExpert, path: Path) -> dict[str, Tensor]:
    """Return what the expert changes of the off-the-shelf weights `base`, which the guide holds again afterwards."""
    load_weights(guide.network, released.weights, path)
    factors = {name: value.float() for name, value in released.factors.items()}
    spec = lora.delta_spec(factors, base, lora.rank_of(factors, base))
    tensor_spec.check(path, factors, spec, remedy="")
    changed = lora.delta(guide.network, base)
    guide.network.load_state_dict(base)
    replaced = [n for n in changed if f"{n}.lora_A" in released.factors]
    if replaced:
        log.warning(
            "%s: made from other off-the-shelf weights than the guide's (%s differs); it keeps its own",
            path,
            replaced[0],
        )
    return changed | factors


def _header(
    wanted: Purpose,
    guide: Guide,
    base: dict[str, Tensor],
    changed: dict[str, Tensor],
    released: ReleasedExpert,
    source: Source,
    sees: str | None,
) -> ExpertHeader:
    """Write an expert's header. What it trained is what it changes, batch-norm statistics aside."""
    statistics = dict(guide.network.named_buffers())
    trained = sum(value.numel() for name, value in changed.items() if name not in statistics)
    about = wanted.model_dump() | {
        "rank": lora.rank_of(changed, base) if released.factors else None,
        "lora_scale": _lora_scale(released.factors, base),
    }
    return ExpertHeader(
        **about,
        range_start=source.timesteps.start,
        range_stop=source.timesteps.stop,
        input=sees or released.input,
        trainable_parameters=trained,
        guide_parameters=sum(p.numel() for p in guide.network.parameters()),
        released_sha256=files.sha256(source.path),
    )


def _check_input(guide: Guide, released: ReleasedExpert, path: Path) -> None:
    """Warn of a guide that is not shown what theirs was: all 256 pixels, or by DeiT 224, as torchvision 0.14 made them."""
    wanted = (
        {"input_size": 224, "interpolation": "bilinear", "antialias": False}
        if released.of_deit
        else {"input_size": 256}
    )
    for key, value in wanted.items():
        if getattr(guide, key) != value:
            log.warning("%s: was trained with %s %s, the guide has %s", path, key, value, getattr(guide, key))


def _check_ranges(sources: list[Source], wanted: list[range], method: str | None) -> None:
    """Raise ConfigError unless the files' timesteps (sorted) are the method's ranges."""
    for one, other in itertools.pairwise(sources):
        end, start = one.timesteps.stop, other.timesteps.start
        if end > start:
            raise ConfigError(f"{one.path} and {other.path} both cover timestep {start}")
        if end < start:
            raise ConfigError(f"no file covers timestep {end}")
    for source, mine in zip(sources, wanted, strict=True):
        if source.timesteps != mine:
            given = f"{source.timesteps.start}-{source.timesteps.stop}"
            raise ConfigError(
                f"{source.path}: range {given}, but the preset's for {method} is {mine.start}-{mine.stop}"
            )
