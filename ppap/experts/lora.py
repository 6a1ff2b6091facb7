"""LoRA adapters (Hu et al. 2021, arXiv 2106.09685) on any convolution or linear layer, as parametrizations."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ppap.experts.settings import AdapterConfig
from ppap.utils.errors import ConfigError, DataError
from ppap.utils.tensor_spec import REMEDY, Spec, TensorSpec, dtype_of

_PARAMETRIZED = re.compile(r"(.+)\.parametrizations\.(\w+)\.(original|0\.lora_[AB])")
_FACTORS = (".lora_A", ".lora_B")


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
    """Return the shapes of A and B for the weight of a linear layer (out, in) or a convolution (out, in / groups, h, w).

    A is (rank k, in w / groups) and B (out h, rank k), where k = min(h, w) and 1 for a linear layer: for a
    k x k convolution as in the authors' code.
    """
    out, inputs = weight[:2]
    height, width = weight[2:] or (1, 1)
    inner = rank * min(height, width)
    return (inner, inputs * width), (out * height, inner)


def rank_of(changed: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> int:
    """Return the rank of the adapters in a delta; 1 if there are none."""
    for name, value in changed.items():
        weight = name.removesuffix(".lora_A")
        if weight != name and weight in state and value.dim():
            return max(1, len(value) // min(state[weight].shape[2:], default=1))
    return 1


def lora_update(a: Tensor, b: Tensor, scale: float, shape: torch.Size) -> Tensor:
    """Return the low-rank update as a weight of this shape."""
    return scale * (b @ a).view(shape)


def attach(network: nn.Module, adapter: AdapterConfig) -> None:
    """Freeze the network but for LoRA on the adapter's layers and the parameters it trains besides.

    What `freeze` matches is never trained, whatever `layers` and `train` say. ConfigError if a pattern of `layers`
    matches no convolution or linear layer, or one whose weight takes no LoRA, or if nothing is left to train.
    """
    network.requires_grad_(False)
    for name, parameter in network.named_parameters():
        trained = _matches(name, adapter.train) and not _matches(name, adapter.freeze)
        parameter.requires_grad_(trained)
    layers = {n: (m, weight) for n, m in network.named_modules() if (weight := _adaptable(m))}
    for pattern in adapter.layers or ():
        if not any(fnmatchcase(name, pattern) for name in layers):
            raise ConfigError(f"adapter.layers: '{pattern}' matches no convolution or linear layer")
    places = Counter(id(value) for _, value in network.named_parameters(remove_duplicate=False))
    adapted = []
    for name, (layer, weight) in layers.items():
        if _matches(f"{name}.{weight}", adapter.freeze) or not _matches(name, adapter.layers or ("*",)):
            continue
        original = layer._parameters.get(weight)
        obstacle = _obstacle(original, places)
        if original is not None and not obstacle:
            adapted.append((layer, weight, original))
        elif adapter.layers is not None:
            raise ConfigError(
                f"adapter.layers: the {weight} of '{name}' {obstacle}, which LoRA cannot adapt; name other layers, or "
                "add it to `freeze`"
            )
    if adapter.layers is None:
        plain = [(layer, *of) for layer, *of in adapted if getattr(layer, "groups", 1) == 1]
        adapted = [each for each in plain if _is_worth_it(each[-1], adapter.rank)] or plain
        if not adapted:
            raise ConfigError("adapter.layers: the network has no layer that LoRA can adapt; train all its parameters")
    for layer, weight, original in adapted:
        lora = LoRA(original.requires_grad_(False), adapter.rank, adapter.alpha / adapter.rank)
        parametrize.register_parametrization(layer, weight, lora)
    if not trainable_parameters(network):
        raise ConfigError("adapter.freeze: leaves nothing to train of what `layers` and `train` name")


def _obstacle(weight: nn.Parameter | None, places: Counter[int]) -> str:
    """Say why a weight takes no LoRA, if it takes none."""
    if weight is None:
        return "is no parameter of its own (a spectral or weight norm computes it)"
    if not weight.is_floating_point():
        return f"holds {dtype_of(weight)} (it is quantised)"
    return "is another layer's as well (they are tied)" if places[id(weight)] > 1 else ""


def _is_worth_it(weight: Tensor, rank: int) -> bool:
    """Say whether a weight has at least twice the numbers of its LoRA."""
    return 2 * sum(rows * columns for rows, columns in lora_shapes(weight.shape, rank)) <= weight.numel()


def trainable_parameters(network: nn.Module) -> int:
    """Count the numbers that are trained."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def delta(network: nn.Module, base: dict[str, Tensor]) -> dict[str, Tensor]:
    """Collect what is trained of a network, and what differs from the off-the-shelf state `base`, by plain names.

    LoRA factors are NAME.lora_A and NAME.lora_B, where NAME is the adapted weight.
    """
    trained = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    changed = {}
    for name, value in network.state_dict().items():
        plain = name if name in base else _plain_name(name)
        counts = plain.endswith("num_batches_tracked")
        if name in trained or not (counts or torch.equal(value, base[plain])):
            changed[plain] = value.detach().clone()
    return changed


def delta_spec(names: Collection[str], state: Mapping[str, Tensor], rank: int) -> Spec:
    """Describe a delta with these names, for a network whose plain state this is.

    Of low-rank factors both belong to it; what the network does not have does not.
    """
    given = set(names)
    spec = {}
    for name in changed_names(names):
        if name not in state:
            continue
        dtype, shape = str(state[name].dtype).removeprefix("torch."), state[name].shape
        factors = [name + factor for factor in _FACTORS]
        if given & set(factors) and len(shape) > 1:  # of a convolution or linear layer
            for factor, of_factor in zip(factors, lora_shapes(shape, rank), strict=True):
                spec[factor] = TensorSpec((dtype,), of_factor)
        if name in given:
            spec[name] = TensorSpec((dtype,), tuple(shape))
    return spec


def load_delta(network: nn.Module, changed: dict[str, Tensor], source: object) -> None:
    """Start a network (with adapters attached, or without) from a delta; DataError if it adapts other layers."""
    state = network.state_dict()
    names = {_plain_name(name): name for name in state}
    mine, theirs = ({n for n in of if n.endswith(_FACTORS)} for of in (names, changed))
    if mine != theirs:
        raise DataError(f"{source}: adapts other layers than the preset does ({min(mine ^ theirs)}); {REMEDY}")
    network.load_state_dict(state | {names.get(n, n): value for n, value in changed.items()})


def changed_names(changed: Iterable[str]) -> list[str]:
    """List the plain parameters and buffers that a delta changes."""
    return list(dict.fromkeys(name.removesuffix(".lora_A").removesuffix(".lora_B") for name in changed))


def merge(base: dict[str, Tensor], changed: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """Return the plain weights of an expert: off-the-shelf values plus low-rank updates, or the expert's own."""
    merged = {}
    for name in changed_names(changed):
        weight = changed.get(name, base[name]).to(base[name])
        if f"{name}.lora_A" in changed:
            a, b = (changed[f"{name}.{factor}"].to(weight) for factor in ("lora_A", "lora_B"))
            weight = weight + lora_update(a, b, scale, weight.shape)
        merged[name] = weight
    return merged


def _adaptable(module: nn.Module) -> str | None:
    """Name what LoRA adapts of a module, if anything. PyTorch's own attention has q, k and v in one parameter."""
    if isinstance(module, nn.MultiheadAttention):
        return None if module.in_proj_weight is None else "in_proj_weight"
    return "weight" if isinstance(module, nn.Conv2d | nn.Linear) else None


def _plain_name(name: str) -> str:
    """Turn a name of a network with adapters attached into the one without: NAME, or NAME.lora_A and NAME.lora_B."""
    parametrized = _PARAMETRIZED.fullmatch(name)
    if parametrized is None:
        return name
    module, parameter, part = parametrized.groups()
    plain = f"{module}.{parameter}"
    return plain if part == "original" else plain + part.removeprefix("0")


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
