"""Networks on trial: built and called without memory for their weights, or with not too much of it.

Networks are tried on the meta device, which has shapes and no memory; a user's own, and those that do not work
there, on the CPU.
"""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator

import psutil
import torch
from torch import nn

from ppap.utils.errors import ConfigError, ModelError, PPAPError

_LARGEST = 64 << 30  # bytes of a network: no job's memory holds more
_PARAMETERS = 20_000  # tensors of a network: the largest that are published have some thousands


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """No warnings of libraries, and no other random numbers than without the check."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        before = logging.root.manager.disable
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)


def try_network(trial: Callable[[], None], what: str, own: bool = False) -> None:
    """Try a network on the meta device, and on the CPU if it does not work there.

    A user's `own` is tried on the CPU in any case, and on the meta device for its size only. What fails on
    both is the network's fault: ConfigError says how.
    """
    first = _failure(trial, "meta", _LARGEST)
    if isinstance(first, _TooLargeError) or (first is None and not own):
        if first:
            raise ConfigError(f"{what} {first}")
        return
    failure = _failure(trial, "cpu", min(_LARGEST, psutil.virtual_memory().available // 2))
    if isinstance(failure, _TooLargeError) and first is not None and not own:
        failure = first  # too large to try, but it has failed already
    if failure is None:
        return
    if isinstance(failure, _TooLargeError):
        raise ConfigError(f"{what} {failure}")
    if isinstance(failure, PPAPError):
        raise failure
    kind = ModelError if own else ConfigError
    raise kind(f"{what} cannot be used ({type(failure).__name__}: {short(failure)})") from failure


def _failure(trial: Callable[[], None], device: str, limit: int) -> Exception | None:
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


def short(error: Exception) -> str:
    """What an error says, on one line, not a long one."""
    return " ".join(str(error).split())[:300]
