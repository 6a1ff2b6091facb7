"""LoRA adapters (Hu et al. 2021, arXiv 2106.09685) on any convolution or linear layer, as parametrizations."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ppap.config import AdapterConfig
from ppap.errors import ConfigError

_ORIGINAL = ".parametrizations.weight.original"
_ADAPTER = ".parametrizations.weight.0."


class LoRA(nn.Module):
    """W + scale * B A, where scale = alpha / rank.

    B A is viewed as a weight; `lora_shapes` says how. B starts at 0.
    """

    def __init__(self, weight: Tensor, rank: int, scale: float) -> None:
        super().__init__()
        a, b = lora_shapes(weight.shape, rank)
        self.scale = scale
        self.lora_A = nn.Parameter(torch.empty(a))
        self.lora_B = nn.Parameter(torch.zeros(b))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + lora_update(self.lora_A, self.lora_B, self.scale, weight.shape)


def lora_shapes(weight: torch.Size, rank: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Shapes of A and B for the weight of a linear layer (out, in) or a convolution (out, in / groups, h, w).

    A is (rank k, in w / groups) and B (out h, rank k), where k = min(h, w) and 1 for a linear layer: for a
    k x k convolution as in the authors' code.
    """
    out, inputs = weight[:2]
    height, width = weight[2:] or (1, 1)
    inner = rank * min(height, width)
    return (inner, inputs * width), (out * height, inner)


def lora_update(a: Tensor, b: Tensor, scale: float, shape: torch.Size) -> Tensor:
    """The low-rank update as a weight of this shape."""
    return scale * (b @ a).view(shape)


def attach(network: nn.Module, adapter: AdapterConfig) -> None:
    """Freeze the network but for LoRA on the adapter's layers and the parameters it trains besides.

    What `freeze` matches is never trained, whatever `layers` and `train` say. ConfigError if a pattern
    of `layers` matches no convolution or linear layer.
    """
    network.requires_grad_(False)
    for name, parameter in network.named_parameters():
        trained = _matches(name, adapter.train) and not _matches(name, adapter.freeze)
        parameter.requires_grad_(trained)
    layers = {n: m for n, m in network.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)}
    for pattern in adapter.layers:
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ConfigError(f"adapter.layers: '{pattern}' matches no convolution or linear layer")
    for name, layer in layers.items():
        if _matches(name, adapter.layers) and not _matches(f"{name}.weight", adapter.freeze):
            layer.weight.requires_grad_(False)
            lora = LoRA(layer.weight, adapter.rank, adapter.alpha / adapter.rank)
            parametrize.register_parametrization(layer, "weight", lora)


def trainable_parameters(network: nn.Module) -> int:
    """How many numbers are trained."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def delta(network: nn.Module, base: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the network has and the off-the-shelf state `base` has not, by plain parameter names.

    LoRA factors are NAME.lora_A and NAME.lora_B, where NAME is the adapted weight.
    """
    changed = {}
    for name, value in network.state_dict().items():
        if _ADAPTER in name:
            changed[name.replace(_ADAPTER, ".weight.")] = value.detach().clone()
            continue
        plain = name.replace(_ORIGINAL, ".weight")
        if not plain.endswith("num_batches_tracked") and not torch.equal(value, base[plain]):
            changed[plain] = value.detach().clone()
    return changed


def load_delta(network: nn.Module, changed: dict[str, Tensor]) -> None:
    """Start a network (with adapters attached, or without) from a delta."""
    adapted = {name for name, _ in parametrized_weights(network)}
    state = {}
    for name, value in changed.items():
        weight, _, factor = name.rpartition(".")
        if factor in ("lora_A", "lora_B"):
            state[weight.removesuffix(".weight") + _ADAPTER + factor] = value
        elif name in adapted:
            state[name.removesuffix(".weight") + _ORIGINAL] = value
        else:
            state[name] = value
    network.load_state_dict(network.state_dict() | state)


def parametrized_weights(network: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    """Names of the adapted weights, with their layers."""
    for name, module in network.named_modules():
        if parametrize.is_parametrized(module, "weight"):
            yield f"{name}.weight", module


def changed_names(changed: dict[str, Tensor]) -> list[str]:
    """The plain parameters and buffers that a delta changes."""
    suffixes = (".lora_A", ".lora_B")
    plain = (
        name.removesuffix(".lora_A").removesuffix(".lora_B") if name.endswith(suffixes) else name
        for name in changed
    )
    return list(dict.fromkeys(plain))


def merge(base: dict[str, Tensor], changed: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The plain weights of an expert: off-the-shelf values plus low-rank updates, or the expert's own."""
    merged = {}
    for name in changed_names(changed):
        weight = changed.get(name, base[name]).to(base[name])
        if f"{name}.lora_A" in changed:
            a, b = (changed[f"{name}.{factor}"].to(weight) for factor in ("lora_A", "lora_B"))
            weight = weight + lora_update(a, b, scale, weight.shape)
        merged[name] = weight
    return merged


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
