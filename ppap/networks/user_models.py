"""Models of the user's own: functions in modules beside the preset, or in folders that it states."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ppap import user_code
from ppap.errors import ModelError
from ppap.networks.library import building


def build(
    name: str, channels: int, classes: int, options: dict[str, Any], folders: Sequence[Path]
) -> nn.Module:
    """What the function MODULE.FUNCTION in one of the folders returns for `options`.

    It is given `channels` and `classes` if it has arguments of these names. ConfigError if there is no such
    function; ModelError if it fails, or returns no network.
    """
    model = f"{user_code.PREFIX}{name}"
    given = {"channels": channels, "classes": classes}
    with building(model), user_code.on_path(folders):
        function = user_code.find(model, "model", "function", folders)
        wanted = inspect.signature(function).parameters
        network = function(**{k: v for k, v in given.items() if k in wanted}, **options)
    if not isinstance(network, nn.Module):
        found = (
            f"the class {network.__name__}"
            if isinstance(network, type)
            else repr(type(network).__name__)
        )
        raise ModelError(f"model '{model}': returns {found}; a torch.nn.Module was expected")
    return network
