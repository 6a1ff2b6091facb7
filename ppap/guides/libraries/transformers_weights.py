"""Weights of transformers' models, of tensors that have been read: never of a file, and all that the answer needs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ppap.guides.libraries.library import reason
from ppap.utils import tensor_spec
from ppap.utils.errors import DataError

log = logging.getLogger(__name__)


def loaded(kind: Any, config: Any, tensors: dict[str, Tensor], source: Path, size: int) -> Any:
    """A model with these weights, in float32, under the names that the installed transformers has for them.

    DataError unless they are the model's: all but parameters that its answer to images of this size does not
    come from, as of MiDaS the first fusion's, which publishers leave out; these are 0. Others are not taken.
    """
    try:
        network, about = kind.from_pretrained(
            None, config=config, state_dict=dict(tensors), dtype=torch.float32,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    except Exception as error:  # each model converts the names in its own way
        raise DataError(
            f"{source}: not the weights of a {kind.__name__} ({reason(error)})"
        ) from error
    other = sorted(str(found[0]) for found in about["mismatched_keys"])
    if other:
        raise DataError(
            f"{source}: not the weights of this {kind.__name__}: {other[0]} has another shape"
        )
    _fill(network, sorted(about["missing_keys"]), source, size)
    if unknown := sorted(about["unexpected_keys"]):
        log.warning("%s: %d tensors are of no use, %s for one", source, len(unknown), unknown[0])
    state = network.state_dict()
    tensor_spec.check(source, state, tensor_spec.of_published(network), remedy="")
    return network


def _fill(network: Any, missing: list[str], source: Path, size: int) -> None:
    """Make parameters 0 that were not in the file; DataError if the answer comes from them."""
    parameters = dict(network.named_parameters())
    needed = [name for name in missing if name not in parameters]
    if missing and not needed:
        chosen = [parameters[name] for name in missing]
        needed = _used(network, dict(zip(missing, chosen, strict=True)), size)
    if needed:
        more = f" and {len(needed) - 1} more" if len(needed) > 1 else ""
        raise DataError(f"{source}: lacks {needed[0]}{more}")
    with torch.no_grad():
        for name in missing:
            parameters[name].zero_()


def _used(network: nn.Module, chosen: dict[str, nn.Parameter], size: int) -> list[str]:
    """The parameters that the answer to an image comes from."""
    channels = getattr(network.config, "num_channels", 3)
    answers = network.eval()(torch.zeros(1, channels, size, size))
    answer = answers["predicted_depth"] if "predicted_depth" in answers else answers["logits"]
    found = torch.autograd.grad(answer.sum(), list(chosen.values()), allow_unused=True)
    return [name for name, gradient in zip(chosen, found, strict=True) if gradient is not None]
